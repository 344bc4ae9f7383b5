"""What a plan is made from: the config, the command line, and what the host is like."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from pyruntime.cgroupfs.layout import Layout
    from pyruntime.spec.sections import Config, Linux, Process
    from pyruntime.util.ids import ContainerId


class Request:
    """A checked config.json with what the caller and the host add to it. Planning reads this and nothing else.

    config:   the whole of config.json, already checked against the schema.
    id:       the container's id.
    bundle:   absolute path of the bundle.
    layout:   the host's cgroup hierarchies (cgroupfs/layout.py).
    console:  the connection over which a terminal's master is sent, instead of one to console_socket.
    notify:   the container reports its readiness (features/notify_socket.py).
    rootless: the caller is not root in the initial user namespace, or asked for it with --rootless.
    """

    __slots__ = (
        "bundle",
        "config",
        "console",
        "console_socket",
        "detach",
        "id",
        "layout",
        "linux",
        "new_keyring",
        "notify",
        "pivot",
        "preserve_fds",
        "process",
        "rootless",
        "systemd_cgroup",
        "warnings",
    )

    def __init__(
        self,
        config: Config,
        *,
        id: ContainerId,
        bundle: str,
        layout: Layout,
        rootless: bool = False,
        pivot: bool = True,
        new_keyring: bool = True,
        preserve_fds: int = 0,
        console_socket: str | None = None,
        detach: bool = True,
        systemd_cgroup: bool = False,
    ) -> None:
        self.config = config
        self.linux: Linux = config.get("linux") or {}
        self.process: Process = config.get("process") or {}
        self.id = id
        self.bundle = bundle
        self.layout = layout
        self.rootless = rootless
        self.pivot = pivot
        self.new_keyring = new_keyring
        self.preserve_fds = preserve_fds
        self.notify = False
        self.console: socket | None = None
        self.console_socket = console_socket
        self.detach = detach
        self.systemd_cgroup = systemd_cgroup
        self.warnings: list[str] = []

    def namespace(self, kind: str) -> tuple[bool, str]:
        """Return whether the container has a namespace of a kind of its own ("mount", "pid", …), and its path if
        joined."""
        for entry in self.linux.get("namespaces") or ():
            if entry["type"] == kind:
                return True, entry.get("path") or ""
        return False, ""

    def has_new(self, kind: str) -> bool:
        """Return whether the container gets a new namespace of this kind."""
        present, path = self.namespace(kind)
        return present and not path

    def spawns(self) -> bool:
        """Return whether the program is executed by a clone of the process that does the steps (runtime/spawn.py)."""
        return bool(self.namespace("pid")[1])

    def rootfs(self) -> str:
        """Return the absolute path of the root filesystem, as a string of the host."""
        path: str = (self.config.get("root") or {}).get("path") or ""
        return path if path.startswith("/") else f"{self.bundle}/{path}"

    def warn(self, text: str) -> None:
        """Note something that a person should know and that does not stop the start."""
        if text not in self.warnings:  # two planners may look at the same field
            self.warnings.append(text)
