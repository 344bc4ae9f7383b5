"""A private containerd, and ctr as its client."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from support import leaks, proc

from engines import command, image
from engines.candidate import Candidate
from engines.command import ENVIRONMENT, Result
from engines.daemon import Daemon, Network

SHIM = "containerd-shim-pyruntime-v1"
SHIM_TYPE = "io.containerd.pyruntime.v1"  # what containerd makes that name of
SNAPSHOTTERS = ("native", "overlayfs")
COMMON = """\
version = {version}
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
[debug]
  level = "debug"
"""
WITHOUT_CRI = 'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'


class Containerd:
    """containerd with its files in `folder`; containers live in a containerd namespace of this session's name."""

    def __init__(self, folder: Path, candidate: Candidate) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.candidate = candidate
        self.network = Network()
        self.namespace = f"{leaks.PREFIX}-{candidate.name}"
        config = folder / "config.toml"
        config.write_text(self.config())
        # Our shim is where the candidate is, and for those only that are asked to use it.
        env = {**ENVIRONMENT, "PATH": f"{Path(candidate.path).parent}:{command.PATH}"}
        self.daemon = Daemon([*self.network.enter, "containerd", "--config", str(config)], folder / "log", env)
        self.client = ["ctr", "--address", f"{folder}/containerd.sock", "--namespace", self.namespace]
        self.env = ENVIRONMENT
        runtime = f"--runc-binary {candidate.path} --runc-root {folder}/runtime"
        self.hint = f"ctr run {runtime} --snapshotter overlayfs -t --rm {image.NAME} NAME sh"
        self._numbers = count(1)

    def config(self) -> str:
        """The text of its configuration."""
        return WITHOUT_CRI + COMMON.format(version=2, folder=self.folder)

    def start(self) -> None:
        self.daemon.start(lambda: self.ctr("version", check=None).code == 0)

    def load(self, archive: Path) -> None:
        """Import the image for all snapshotters under test."""
        for snapshotter in SNAPSHOTTERS:
            self.import_image(archive, snapshotter)

    def import_image(self, archive: Path, snapshotter: str = "overlayfs") -> None:
        """Import an image for a snapshotter. containerd 2 itself would do so for those of its configuration only."""
        local = ["--local"] if "--local" in self.ctr("image", "import", "--help").stdout else []
        self.ctr("image", "import", *local, "--snapshotter", snapshotter, str(archive))

    def ctr(self, *words: str, check: int | None = 0, timeout: float = command.TIMEOUT) -> Result:
        return command.run([*self.client, *words], check=check, timeout=timeout)

    def ctr_on_terminal(self, *words: str, talk: Sequence[tuple[str, str]] = (), check: int | None = 0) -> Result:
        return command.run_on_terminal([*self.client, *words], talk, check=check)

    def name(self) -> str:
        """A new container's name."""
        return f"{leaks.PREFIX}-c{next(self._numbers)}"

    def run_words(
        self,
        name: str,
        words: Sequence[str],
        flags: Sequence[str],
        snapshotter: str = "overlayfs",
        candidate: Candidate | None = None,
    ) -> list[str]:
        """The arguments of ctr for a container, with the engine's candidate as its runtime unless another is given."""
        path = (candidate or self.candidate).path
        runtime = ["--runc-binary", path, "--runc-root", f"{self.folder}/runtime"]
        return ["run", "--snapshotter", snapshotter, *runtime, *flags, image.NAME, name, *words]

    def run(self, *words: str, flags: Sequence[str] = (), check: int | None = 0, **choice: Any) -> Result:
        """Run a container in the foreground and remove it; `snapshotter` or `candidate` may be chosen."""
        return self.ctr(*self.run_words(self.name(), words, ["--rm", *flags], **choice), check=check)

    def run_detached(self, *words: str, flags: Sequence[str] = (), **choice: Any) -> str:
        """Start a container in the background: its name."""
        name = self.name()
        self.ctr(*self.run_words(name, words or ("sleep", "1000"), ["--detach", *flags], **choice))
        return name

    def exec(self, name: str, *words: str, flags: Sequence[str] = (), check: int | None = 0) -> Result:
        id = f"e{next(self._numbers)}"
        return self.ctr("task", "exec", "--exec-id", id, *flags, name, *words, check=check)

    def tasks(self) -> dict[str, tuple[int, str]]:
        """name -> (pid, status) of all tasks."""
        lines = [line.split() for line in self.ctr("task", "ls").stdout.splitlines()[1:]]
        return {words[0]: (int(words[1]), words[2]) for words in lines}

    def pid(self, name: str) -> int:
        return self.tasks()[name][0]

    def processes(self, name: str) -> list[int]:
        """The pids of a container's processes, by the runtime's `ps`."""
        return sorted(int(line.split()[0]) for line in self.ctr("task", "ps", name).stdout.splitlines()[1:])

    def await_status(self, name: str, status: str) -> None:
        proc.wait_until(lambda: self.tasks()[name][1] == status, f"{name} is {status}")

    def shim(self, name: str) -> int:
        """The pid of a container's shim: init's parent."""
        return proc.parent(self.pid(name))

    def cgroup(self, name: str) -> str:
        """The path of a container's cgroup below each hierarchy."""
        return f"/{self.namespace}/{name}"

    def traces(self, name: str) -> list[str]:
        """The directories of a container's state and cgroups."""
        state = self.folder / "runtime" / self.namespace / name
        return [path for path in leaks.cgroups() if path.endswith(f"/{name}")] + [str(state)] * state.exists()

    def metrics(self, name: str) -> dict[str, object]:
        """What the shim reads from the cgroup."""
        return json.loads(self.ctr("task", "metrics", "--format", "json", name).stdout)

    def reap(self, name: str) -> int:
        """Remove a stopped task: its exit status, which ctr tells in a warning."""
        self.await_status(name, "STOPPED")
        warning = self.ctr("task", "rm", name).stderr
        found = re.search(r"non-zero exit code (\d+)", warning)
        return int(found[1]) if found else 0

    def remove(self, name: str) -> None:
        """Kill a container when it lives, and remove it."""
        self.ctr("task", "rm", "--force", name, check=None)
        self.ctr("container", "rm", name, check=None)

    def containers(self) -> list[str]:
        return self.ctr("container", "ls", "--quiet").stdout.split()

    def kill_daemon(self) -> None:
        """SIGKILL containerd; its shims live on."""
        self.daemon.stop(signal.SIGKILL)

    def stop(self) -> None:
        """Remove all containers, and end the daemon and its network."""
        for name in self.containers():
            self.remove(name)
        self.daemon.stop()
        self.network.close()


class ShimContainerd(Containerd):
    """containerd that uses our own shim: no runc shim, and no runtime process a command."""

    def __init__(self, folder: Path, candidate: Candidate) -> None:
        super().__init__(folder, candidate)
        self.namespace += "-shim"
        self.client[-1] = self.namespace

    def run_words(
        self,
        name: str,
        words: Sequence[str],
        flags: Sequence[str],
        snapshotter: str = "overlayfs",
        candidate: Candidate | None = None,
    ) -> list[str]:
        """As of Containerd; another candidate's containers go by the runc shim."""
        if candidate is not None and candidate != self.candidate:
            return super().run_words(name, words, flags, snapshotter, candidate)
        runtime = ["--runtime", SHIM_TYPE]
        return ["run", "--snapshotter", snapshotter, *runtime, *flags, image.NAME, name, *words]

    def traces(self, name: str) -> list[str]:
        """The directories of a container's state and cgroups, and the sockets of shims."""
        state = Path("/run/containerd/pyruntime") / self.namespace / name
        return [path for path in leaks.cgroups() if path.endswith(f"/{name}")] + [str(state)] * state.exists()
