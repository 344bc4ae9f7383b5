"""Set the label that a security module gives to the next execve: /proc/self/attr (proc_pid_attr(5))."""

from __future__ import annotations

import posix

from pyruntime.kernel.constants import EINVAL, PROC_SUPER_MAGIC, RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV
from pyruntime.kernel.files import filesystem_magic, open_resolved

_SAFE = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS


def write(proc_fd: int, attribute: str, value: str) -> None:
    """Write an attribute of this process: `attribute` is a path below /proc/self/attr.

    proc_fd is the host's own /proc: what lies on /proc in the container, or over a file of it, decides
    nothing (CVE-2019-16884, CVE-2025-52881). Raises KernelError without such an attribute, OSError
    when the value is refused."""
    fd = open_resolved(proc_fd, f"self/attr/{attribute}", posix.O_WRONLY, _SAFE)
    try:
        if filesystem_magic(fd) != PROC_SUPER_MAGIC:
            raise OSError(EINVAL, "not a file of procfs", f"/proc/self/attr/{attribute}")
        posix.write(fd, value.encode())
    finally:
        posix.close(fd)


def has_filesystem(proc_fd: int, name: str) -> bool:
    """Return whether the kernel knows a filesystem: it registers `selinuxfs` only while SELinux is on."""
    fd = open_resolved(proc_fd, "filesystems", posix.O_RDONLY, _SAFE)
    try:
        return name.encode() in posix.read(fd, 65536).split()
    finally:
        posix.close(fd)
