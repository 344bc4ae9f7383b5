"""The processes of a container's cgroups, and how to name them in a message."""

from __future__ import annotations

import posix

from pyruntime.cgroups.layout import UNIFIED
from pyruntime.state import read_file

_GONE = (2, 19)  # ENOENT, ENODEV: the cgroup was removed meanwhile
_EOPNOTSUPP = 95  # cgroup.procs of a threaded cgroup: its processes are those of its parent


def of(cgroups: dict[str, str]) -> list[int]:
    """The pids of all processes in the container's cgroups and below them, as this pid namespace sees them.

    One hierarchy is asked: a process is in the same cgroup of each, unless somebody moved it."""
    for name in ("pids", "freezer", UNIFIED, *cgroups):
        if name in cgroups:
            return below(cgroups[name])
    return []


def below(directory: str) -> list[int]:
    """The pids of all processes in a cgroup and the cgroups below it, in ascending order."""
    found: set[int] = set()
    for folder in tree(directory):
        found.update(inside(folder))
    found.discard(0)  # a process of another pid namespace
    return sorted(found)


def inside(directory: str) -> list[int]:
    """The pids in one cgroup, without those below it. None when it is not there."""
    try:
        return [int(word) for word in read_file(f"{directory}/cgroup.procs").split()]
    except OSError as error:
        if error.errno in (*_GONE, _EOPNOTSUPP):
            return []
        raise


def tree(directory: str) -> list[str]:
    """A cgroup and all below it, children before their parents; [] when it is not there."""
    try:
        # Every directory is a child; st_nlink counts them, so that a leaf, the usual case, is not read.
        if posix.stat(directory).st_nlink <= 2:
            return [directory]
        with posix.scandir(directory) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise
    found = []
    for child in children:
        found += tree(child)
    found.append(directory)
    return found


def shown(pids: list[int], limit: int = 5) -> str:
    """Processes for a message: "412 (sleep), 413 (nginx)"."""
    words = []
    for pid in pids[:limit]:
        try:
            words.append(f"{pid} ({read_file(f'/proc/{pid}/comm').strip()})")
        except OSError:
            words.append(str(pid))
    if len(pids) > limit:
        words.append(f"and {len(pids) - limit} more")
    return ", ".join(words)
