"""Settings of every command: the root directory, and as which user containers are made."""

from __future__ import annotations

import posix

from pyruntime.errors import UsageError
from pyruntime.util.fileio import read_file
from pyruntime.util.log import Log

_WORDS = {"true": True, "1": True, "false": False, "0": False}


class Settings:
    """The settings of a command.

    root:           the directory of the containers' state, an absolute path.
    root_given:     whether the caller gave it; otherwise it need not exist.
    rootless:       do without what only root may do (plan/request.py).
    systemd_cgroup: make the cgroups by systemd.
    log:            where warnings go."""

    __slots__ = ("_root", "log", "root_given", "rootless", "systemd_cgroup")

    def __init__(self, root: str = "", *, rootless: bool = False, systemd_cgroup: bool = False, log: Log) -> None:
        self._root = root
        self.root_given = bool(root)
        self.rootless = rootless
        self.systemd_cgroup = systemd_cgroup
        self.log = log

    @property
    def root(self) -> str:
        """Looked up on first use: a command that keeps no state needs no directory for it. Raises UsageError."""
        root = self._root or default_root(self.rootless)
        if not root.startswith("/"):
            root = f"{posix.getcwd()}/{root}"
        self._root = root.rstrip("/") or "/"
        return self._root


def is_rootless(word: str = "auto") -> bool:
    """Return whether to do without what only root may do, by a word of the flag --rootless. Raises UsageError."""
    if word in _WORDS:
        return _WORDS[word]
    if word != "auto":
        raise UsageError(f"--rootless: {word!r}", hint="give true, false or auto")
    if posix.geteuid() != 0:
        return True
    # Root of a user namespace is not root: its map does not begin with "0 0 4294967295".
    try:
        return read_file("/proc/self/uid_map").split()[:3] != ["0", "0", "4294967295"]
    except OSError:
        return False


def default_root(rootless: bool) -> str:
    """Return the directory of the containers' state where none is given. Raises UsageError."""
    runtime_dir = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode("utf-8", "surrogateescape")
    # Rootless podman calls as root of its user namespace, which cannot write /run either. $USER like runc:
    # a process that became root by other means may still have another user's XDG_RUNTIME_DIR.
    if rootless and runtime_dir and (posix.geteuid() != 0 or posix.environ.get(b"USER") != b"root"):
        return f"{runtime_dir}/pyruntime"
    if rootless and posix.geteuid() != 0:
        raise UsageError(
            "XDG_RUNTIME_DIR is not set: there is no directory for the containers' state",
            hint="set it, or give --root DIR",
        )
    return "/run/pyruntime"
