"""tmpcopyup: a tmpfs that begins with what the rootfs has at its destination.

The source is the container's: it is walked by descriptors, links are copied and never followed.
"""

from __future__ import annotations

import posix

from pyruntime.kernel.constants import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

_CHUNK = 1 << 20


def copy_tree(source: int, target: int) -> None:
    """Copy all below the directory source (O_PATH will do) into the directory target. Raises OSError."""
    opened = posix.open(".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=source)
    try:
        for name in posix.listdir(opened):
            _copy(opened, target, name)
        found = posix.fstat(opened)
    finally:
        posix.close(opened)
    posix.chown(".", found.st_uid, found.st_gid, dir_fd=target)
    posix.chmod(".", found.st_mode & 0o7777, dir_fd=target)


def _copy(source: int, target: int, name: str) -> None:
    found = posix.stat(name, dir_fd=source, follow_symlinks=False)
    kind, mode = found.st_mode & S_IFMT, found.st_mode & 0o7777
    if kind == S_IFDIR:
        posix.mkdir(name, mode, dir_fd=target)
        flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
        below, copied = posix.open(name, flags, dir_fd=source), posix.open(name, flags, dir_fd=target)
        try:
            copy_tree(below, copied)
        finally:
            posix.close(below)
            posix.close(copied)
    elif kind == S_IFLNK:
        posix.symlink(posix.readlink(name, dir_fd=source), name, dir_fd=target)
        posix.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
    elif kind == S_IFREG:
        flags = posix.O_NOFOLLOW | posix.O_CLOEXEC
        original = posix.open(name, posix.O_RDONLY | posix.O_NONBLOCK | flags, dir_fd=source)
        copied = posix.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | flags, 0o600, dir_fd=target)
        try:
            while posix.sendfile(copied, original, None, _CHUNK):
                pass
            posix.fchown(copied, found.st_uid, found.st_gid)
            posix.fchmod(copied, mode)
        finally:
            posix.close(original)
            posix.close(copied)
    else:
        posix.mknod(name, kind | mode, found.st_rdev, dir_fd=target)
        posix.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
