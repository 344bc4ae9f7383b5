"""A private podman: no daemon, one conmon for each container."""

from __future__ import annotations

import json
import os
import pwd
import signal
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from support import leaks, proc

from engines import command, image
from engines.candidate import Candidate
from engines.command import ENVIRONMENT, Result
from engines.daemon import Network

# podman's own limits are above what root may set where CAP_SYS_RESOURCE is missing.
CONFIG = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[network]
network_config_dir = "{folder}/networks"
{firewall}[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "candidate"
runtime_supports_json = ["candidate"]
infra_image = "localhost/pause:latest"
{helpers}[engine.runtimes]
candidate = ["{runtime}"]
"""
# Of this machine's podman, and of one from another release, whose default is nft(8) and whose helpers are elsewhere.
OWN = {"firewall": "", "helpers": ""}
NEWER = {
    "firewall": 'firewall_driver = "iptables"\n',
    "helpers": f"""\
conmon_path = ["{command.GIVEN}/usr/bin/conmon"]
helper_binaries_dir = ["{command.GIVEN}/usr/lib/podman", "{command.GIVEN}/usr/libexec/podman"]
""",
}
SHORT = "busybox:latest"


class Podman:
    """podman with its storage in `folder` and a network namespace of its own; as root, or as a user without rights."""

    def __init__(self, folder: Path, candidate: Candidate, user: str = "") -> None:
        folder.mkdir(parents=True)
        for name in ("networks", "root", "run", "tmp", "volumes"):
            (folder / name).mkdir()
        self.folder = folder
        self.candidate = candidate
        self.user = user
        self.network = Network()
        self.cgroup_parent = f"/{leaks.PREFIX}-podman"
        config = folder / "containers.conf"
        config.write_text(CONFIG.format(folder=folder, runtime=candidate.path, **(NEWER if command.GIVEN else OWN)))
        self.env = {
            **ENVIRONMENT,
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
            "CONTAINERS_CONF": str(config),
            "TMPDIR": str(folder / "tmp"),
        }
        self._default_cgroups = _default_cgroups()
        self.hint = f"podman run -it --rm --cgroup-parent={self.cgroup_parent} {SHORT}"
        self._numbers = count(1)
        become: list[str] = []
        if user:
            entry = pwd.getpwnam(user)
            become = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--"]
            command.run(["chown", "-R", f"{entry.pw_uid}:{entry.pw_gid}", str(folder)])
            self.env |= {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run")}
        places = [f"--root={folder}/root", f"--runroot={folder}/run", f"--tmpdir={folder}/tmp"]
        self.client = [
            *self.network.enter,
            *become,
            "podman",
            *places,
            f"--volumepath={folder}/volumes",
            f"--storage-driver={'vfs' if user else 'overlay'}",
        ]

    def load(self, archive: Path) -> None:
        """Load the image, and one for the infra containers of pods."""
        self("load", "--input", str(archive))
        self("load", "--input", str(image.write(self.folder / "pause.tar", "localhost/pause:latest", "/pause")))

    def __call__(
        self, *words: str, check: int | None = 0, timeout: float = command.TIMEOUT, input: str | None = None
    ) -> Result:
        """Run a podman command."""
        return command.run([*self.client, *words], check=check, timeout=timeout, env=self.env, input=input)

    def on_terminal(self, *words: str, talk: Sequence[tuple[str, str]] = (), check: int | None = 0) -> Result:
        return command.run_on_terminal([*self.client, *words], talk, check=check, env=self.env)

    def shell(self, words: Sequence[str], redirections: str) -> list[str]:
        """A podman command by way of a shell that opens descriptors for it."""
        return ["bash", "-c", f'exec "$@" {redirections}', "bash", *self.client, *words]

    def words(self, *words: str, flags: Sequence[str] = ()) -> list[str]:
        """The arguments of `run` for a command; without network unless the flags ask for one."""
        network = [] if any(flag.startswith(("--net", "--pod")) for flag in flags) else ["--network=none"]
        # An ordinary user has no cgroups here, and with runc may not even name one.
        parent = [] if self.user else [f"--cgroup-parent={self.cgroup_parent}"]
        return ["run", *parent, *network, *flags, SHORT, *words]

    def run(self, *words: str, flags: Sequence[str] = (), check: int | None = 0, input: str | None = None) -> Result:
        """Run a container in the foreground and remove it."""
        return self(*self.words(*words, flags=["--rm", *flags]), check=check, input=input)

    def run_detached(self, *words: str, flags: Sequence[str] = ()) -> str:
        """Start a container in the background: its name. `stop` need not wait ten seconds for a deaf pid 1."""
        name = f"{leaks.PREFIX}-p{next(self._numbers)}"
        more = ["--detach", f"--name={name}", "--stop-timeout=1", *flags]
        self(*self.words(*(words or ("sleep", "1000")), flags=more))
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
        self("pod", "rm", "--all", "--force", "--time=0", check=None)
        self("rm", "--all", "--force", "--time=0", check=None)
        self("volume", "prune", "--force", check=None)

    def stop(self) -> None:
        """Remove all containers and give the network up."""
        self.remove_all()
        self("unmount", "--all", check=None)
        for file in self.folder.glob("**/pause.pid"):  # it holds the user namespace of a rootless podman
            os.kill(int(file.read_text()), signal.SIGKILL)
        self.network.close()
        for path in _default_cgroups():
            if path not in self._default_cgroups:
                os.rmdir(path)


def _default_cgroups() -> list[str]:
    """The cgroups that podman makes for containers which cannot be told to go elsewhere, as those of `play kube`; what
    is below another comes before it. Some may be there already, and those of this session then lie below them."""
    tops = [f"{top}/libpod_parent" for top in leaks.hierarchies()]
    return [path for top in tops for path, _, _ in os.walk(top, topdown=False)]
