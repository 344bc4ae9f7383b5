"""What changed below a root filesystem while a container ran, and what follows for root.readonly and mounts."""

from __future__ import annotations

import os
import posix

from pyruntime.kernel import files
from pyruntime.kernel.constants import EXDEV, RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Directories whose contents a program can lose at the next start (file-hierarchy(7)).
EPHEMERAL = ("/tmp", "/run", "/var/run", "/var/tmp", "/var/cache", "/var/lock", "/dev/shm")

_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV


def changed(rootfs: str, since: int) -> tuple[list[str], list[str], int]:
    """Return what below rootfs changed at or after a time (st_ctime_ns): (paths in the container, the directories that
    must be writable for that, number of directories that could not be read).

    Other containers may share the rootfs and replace names meanwhile: mounts and symbolic links are not followed."""
    found: list[str] = []
    wanted: set[str] = set()
    unread = 0
    root_fd = posix.open(rootfs, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        if posix.fstat(root_fd).st_ctime_ns >= since:
            found.append("/")
            wanted.add("/")
        pending = ["."]
        while pending:
            directory = pending.pop()
            try:
                fd = files.open_resolved(root_fd, directory, posix.O_RDONLY | posix.O_DIRECTORY, _RESOLVE)
            except OSError as error:
                unread += error.errno != EXDEV  # a mount
                continue
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except OSError:  # removed meanwhile
                            continue
                        is_directory = entry.is_dir(follow_symlinks=False)
                        if status.st_ctime_ns >= since:
                            path = f"{directory[1:]}/{entry.name}"
                            found.append(path)
                            wanted.add(path if is_directory else directory[1:] or "/")
                        if is_directory:
                            pending.append(f"{directory}/{entry.name}")
            finally:
                posix.close(fd)
    finally:
        posix.close(root_fd)
    return sorted(found), top(wanted), unread


def top(paths: Iterable[str]) -> list[str]:
    """Return paths that are not below another of them."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(is_below(path, other) for other in kept):
            kept.append(path)
    return kept


def is_below(path: str, directory: str) -> bool:
    """Return whether a path is a directory or below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def is_ephemeral(path: str) -> bool:
    """Return whether what is written there may be lost at the next start."""
    return any(is_below(path, directory) for directory in EPHEMERAL)
