"""What changed below a root filesystem while a container ran, and what follows for root.readonly and mounts."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Directories whose contents a program can lose at the next start (file-hierarchy(7)).
EPHEMERAL = ("/tmp", "/run", "/var/run", "/var/tmp", "/var/cache", "/var/lock", "/dev/shm")


def changed(rootfs: str, since: int) -> tuple[list[str], int]:
    """Return what below rootfs changed at or after a time (st_ctime_ns): (paths in the container, number of
    directories that could not be read). Mounts below it are not entered, symbolic links not followed."""
    found: list[str] = []
    unread = 0
    status = os.lstat(rootfs)
    device = status.st_dev
    if status.st_ctime_ns >= since:
        found.append("/")
    pending = [rootfs]
    while pending:
        directory = pending.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError:
            unread += 1
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:  # removed meanwhile
                continue
            if status.st_dev != device:
                continue
            if status.st_ctime_ns >= since:
                found.append(entry.path[len(rootfs) :])
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
    return sorted(found), unread


def directories(rootfs: str, paths: Iterable[str]) -> list[str]:
    """Return the directories that must be writable for these paths to change, without those below another one."""
    wanted = set()
    for path in paths:
        full = rootfs + path
        wanted.add(path if os.path.isdir(full) and not os.path.islink(full) else os.path.dirname(path) or "/")
    return top(wanted)


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
