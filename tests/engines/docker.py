"""A private dockerd, which starts a containerd of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from support import leaks, proc

from engines import command
from engines.candidate import Candidate
from engines.command import ENVIRONMENT, GIVEN, Result
from engines.containerd import SHIM, SHIM_TYPE
from engines.daemon import Daemon, Network

IMAGE = "busybox:latest"


class Docker:
    """dockerd with its files in `folder`, the candidate its default runtime and the first `runc` in its PATH.

    BuildKit of docker 20.10 knows no other runtime than that `runc`. shim: not the candidate but our own shim.
    """

    def __init__(
        self,
        folder: Path,
        candidate: Candidate,
        flags: Sequence[str] = (),
        network: Network | None = None,
        *,
        shim: bool = False,
    ) -> None:
        self.folder = folder
        self.candidate = candidate
        self.network = network or Network()
        self.cgroup_parent = f"/{leaks.PREFIX}-docker"
        (folder / "bin").mkdir(parents=True)
        (folder / "client").mkdir()
        if GIVEN:  # docker looks for the client's plugins (buildx) below /usr, or here
            (folder / "client/cli-plugins").symlink_to(f"{GIVEN}/usr/libexec/docker/cli-plugins")
        (folder / "bin/runc").symlink_to(candidate.path)
        way = {"runtimeType": SHIM_TYPE} if shim else {"path": candidate.path}
        runtimes = {"candidate": way}
        config = {"runtimes": runtimes, "default-runtime": "candidate"}
        (folder / "daemon.json").write_text(json.dumps(config))
        self._exec_root = folder / "exec"
        self.socket = f"unix://{folder}/docker.sock"
        self._flags = [
            f"--host={self.socket}",
            f"--data-root={folder}/data",
            f"--exec-root={self._exec_root}",
            f"--pidfile={folder}/dockerd.pid",
            f"--config-file={folder}/daemon.json",
            f"--cgroup-parent={self.cgroup_parent}",
            "--storage-driver=overlay2",
            *flags,
        ]
        path = f"{folder}/bin:{ENVIRONMENT['PATH']}"
        if shim:  # dockerd's containerd looks for it there
            (folder / "bin" / SHIM).symlink_to(Path(candidate.path).with_name(SHIM))
        env = {**ENVIRONMENT, "PATH": path, "HOME": str(folder)}
        self.daemon = Daemon([*self.network.enter, "dockerd", *self._flags], folder / "log", env)
        self.env = {**ENVIRONMENT, "DOCKER_HOST": self.socket, "DOCKER_CONFIG": f"{folder}/client", "HOME": "/"}
        self.client = ["docker"]
        self.hint = f"docker run -it --rm {IMAGE}"
        self._numbers = count(1)

    def start(self) -> None:
        self.daemon.start(lambda: self("version", check=None).code == 0, timeout=60)

    def load(self, archive: Path) -> None:
        self("load", "--input", str(archive))

    def __call__(
        self, *words: str, check: int | None = 0, timeout: float = command.TIMEOUT, input: str | None = None, **env: str
    ) -> Result:
        """Run a docker command; other keywords are variables of its environment."""
        return command.run([*self.client, *words], check=check, timeout=timeout, env={**self.env, **env}, input=input)

    def on_terminal(self, *words: str, talk: Sequence[tuple[str, str]] = (), check: int | None = 0) -> Result:
        return command.run_on_terminal([*self.client, *words], talk, check=check, env=self.env)

    def run(self, *words: str, flags: Sequence[str] = (), check: int | None = 0, input: str | None = None) -> Result:
        """Run a container in the foreground and remove it; without network unless the flags ask for one."""
        return self("run", "--rm", *_network(flags), *flags, IMAGE, *words, check=check, input=input)

    def run_detached(self, *words: str, flags: Sequence[str] = (), image: str = IMAGE) -> str:
        """Start a container in the background: its name."""
        name = f"{leaks.PREFIX}-d{next(self._numbers)}"
        more = ["--detach", f"--name={name}", "--stop-timeout=1", *_network(flags), *flags]
        self("run", *more, image, *(words or ("sleep", "1000")))
        return name

    def exec(self, name: str, *words: str, flags: Sequence[str] = (), check: int | None = 0) -> Result:
        return self("exec", *flags, name, *words, check=check)

    def inspect(self, name: str) -> dict[str, Any]:
        return json.loads(self("inspect", name).stdout)[0]

    def state(self, name: str) -> dict[str, Any]:
        return self.inspect(name)["State"]

    def await_exit(self, name: str) -> int:
        """Wait until a container has ended: its exit status."""
        return int(self("wait", name).stdout)

    def cgroup_file(self, name: str, controller: str, file: str) -> str:
        """The text of a file of a container's cgroup."""
        groups = proc.cgroups(proc.read(self.state(name)["Pid"], "cgroup"))
        return Path(f"/sys/fs/cgroup/{controller}{groups[controller]}/{file}").read_text().strip()

    def remove_all(self) -> None:
        """Remove all containers, user-defined networks and volumes."""
        names = self("ps", "--all", "--quiet").stdout.split()
        if names:
            self("rm", "--force", "--volumes", *names, check=None)
        self("network", "prune", "--force", check=None)
        self("volume", "prune", "--force", check=None)

    def kill_daemon(self) -> None:
        """SIGKILL dockerd and its containerd, and reap the orphaned containerd: its pid file must be stale."""
        pid = int((self._exec_root / "containerd/containerd.pid").read_text())
        self.daemon.stop(signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def stop(self) -> None:
        """Remove all containers, and end the daemon and its network."""
        try:
            self.remove_all()
        finally:
            self.daemon.stop()
            self.network.close()


def _network(flags: Sequence[str]) -> list[str]:
    return [] if any(flag.startswith("--net") for flag in flags) else ["--network=none"]
