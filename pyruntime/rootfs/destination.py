"""The place of a mount below the rootfs: opened, made when it is missing, refused when it is a dangerous one."""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError
from pyruntime.kernel import files
from pyruntime.kernel.constants import PROC_SUPER_MAGIC
from pyruntime.rootfs import path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What may be mounted inside /proc: files that lxcfs shows a container of its own (CVE-2019-16884: anything else
# there may be what the runtime, or an LSM, reads and writes).
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "slabinfo",
        "stat",
        "swaps",
        "uptime",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    )
)


def open_destination(
    init: Any, destination: str, type: str, *, directory: bool = True, source: int = -1
) -> int:
    """Open the place for a mount (O_PATH), making what is missing. Raises ConfigError for a forbidden one.

    source is the detached mount for a bind."""
    root_fd = init.root_fd
    if not directory:
        fd = path.make_file(root_fd, destination)
    elif type in ("proc", "sysfs", "mqueue"):
        fd = _ordinary_directory(root_fd, destination, type)
    else:
        fd = path.make_directory(root_fd, destination)
    try:
        _refuse_root(init, fd, destination)
        _refuse_inside_proc(init, fd, destination, type, source)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def _ordinary_directory(root_fd: int, destination: str, type: str) -> int:
    """The place for /proc or /sys, which may not be reached through a link (CVE-2019-19921, CVE-2023-27561)."""

    def linked(fd: int) -> None:
        raise ConfigError(
            f"filesystem {type} must be mounted on ordinary directory: {destination} goes through a "
            "symbolic link of the rootfs",
            mend="make it a directory in the image",
        )

    return path.make_directory(root_fd, destination, linked=linked)


def _refuse_root(init: Any, fd: int, destination: str) -> None:
    """Raise ConfigError for a mount over the root itself, which a link of the rootfs may lead to.

    init would go on below it, and each `exec` enter it: another root, without /proc, masks and read-only paths."""
    if posix.readlink(f"/proc/self/fd/{fd}") == init.rootfs:
        raise ConfigError(
            f'"{destination}" cannot be mounted because it is the root of the container',
            why="processes of `exec` would have another root than the container's",
            mend="make the directory in the image, or set /root/path to the source of the mount",
        )


def _refuse_inside_proc(init: Any, fd: int, destination: str, type: str, source: int) -> None:
    """Raise ConfigError for a mount over /proc, or inside it, that could fool what reads and writes there."""
    shown = posix.readlink(f"/proc/self/fd/{fd}")
    inside = shown[len(init.rootfs) :] if shown.startswith(init.rootfs + "/") else shown
    if inside == "/proc" and type != "proc":
        if source >= 0 and files.filesystem_magic(source) == PROC_SUPER_MAGIC:
            return
    elif not inside.startswith("/proc/") or inside in _PROC_FILES or files.filesystem_magic(fd) != PROC_SUPER_MAGIC:
        return
    if inside == "/proc" and type == "proc":
        return
    raise ConfigError(
        f'"{destination}" cannot be mounted because it is inside /proc',
        why="what the runtime and the kernel's security modules read and write there must be the kernel's",
        mend="mount it somewhere else",
    )
