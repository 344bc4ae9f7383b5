"""Opening files: openat2(2), fstatfs(2), close_range(2)."""

from __future__ import annotations

import posix

from pyruntime.kernel.call import check, lib, text
from pyruntime.kernel.constants import CLOSE_RANGE_CLOEXEC

_O_CLOEXEC = posix.O_CLOEXEC
_O_TMPFILE = posix.O_TMPFILE  # differs between architectures


def open_resolved(dirfd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2): open a path below dirfd as RESOLVE_* says; the descriptor is close-on-exec."""
    while True:
        result = lib.shim_openat2(dirfd, text(path), flags | _O_CLOEXEC, mode, resolve)
        if result != -11:  # EAGAIN: a rename went on meanwhile, and the walk could not be shown to be safe
            return check(result, "openat2", path)


def filesystem_magic(fd: int) -> int:
    """Return which kind of filesystem a descriptor is on, as a number of statfs(2) (PROC_SUPER_MAGIC, …)."""
    return check(lib.shim_fstatfs_type(fd), "fstatfs", f"fd {fd}")


def exchange(one: str, other: str) -> None:
    """renameat2(2), RENAME_EXCHANGE: two files change names in one step."""
    check(lib.shim_exchange(text(one), text(other)), "renameat2", one, other)


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from first on close-on-exec: close_range(2), CLOSE_RANGE_CLOEXEC."""
    check(lib.shim_close_range(first, 0xFFFFFFFF, CLOSE_RANGE_CLOEXEC), "close_range", first)


def close_all_but(kept: list[int], first: int) -> None:
    """Close every descriptor from first on except the kept ones."""
    for fd in [*sorted(fd for fd in kept if fd >= first), 1 << 32]:
        if fd > first:
            check(lib.shim_close_range(first, fd - 1, 0), "close_range", first, fd - 1)
        first = fd + 1


def create_whole(path: str, data: bytes, mode: int) -> None:
    """Create a file that is not visible before it is complete: open(2), O_TMPFILE. A SIGKILL half way leaves nothing.

    Raises FileExistsError, or another OSError, also where the filesystem cannot do this."""
    fd = posix.open(path.rpartition("/")[0] or "/", _O_TMPFILE | posix.O_WRONLY | _O_CLOEXEC, mode)
    try:
        while data:
            data = data[posix.write(fd, data) :]
        # Without a descriptor for the directory, Python would call link(2), which does not follow the link.
        posix.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd)
    finally:
        posix.close(fd)
