"""The processes of a container's cgroups, and how to name them in a message."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.kernel.constants import ENODEV, ENOENT, EOPNOTSUPP
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
_GONE = (ENOENT, ENODEV)  # the cgroup was removed meanwhile
_INITIAL = "pid:[4026531836]"  # include/linux/proc_ns.h, PROC_PID_INIT_INO


def of(cgroups: dict[str, str]) -> list[int]:
    """Return the pids of all processes in the container's cgroups and below them, as this pid namespace sees them.

    One hierarchy is asked: a process is in the same cgroup of each, unless somebody moved it."""
    for name in ("pids", "freezer", UNIFIED, *cgroups):
        if name in cgroups:
            return below(cgroups[name])
    return []


def below(directory: str, *, foreign: bool = False) -> list[int]:
    """Return the pids of all processes in a cgroup and the cgroups below it, in ascending order.

    foreign: with a 0 if there are some that this pid namespace cannot see."""
    found = set(inside(directory))
    walk(directory, lambda parent, name: found.update(inside(name, parent)))
    if not foreign:
        found.discard(0)
    return sorted(found)


def is_populated(cgroups: dict[str, str]) -> bool:
    """Return whether there is any process in the container's cgroups or below them, also one that this pid namespace
    does not see."""
    for directory in cgroups.values():
        found = inside(directory)
        walk(directory, lambda parent, name, found=found: found.extend(inside(name, parent)))  # type: ignore[misc]
        if found or has_unseen(directory):
            return True
    return False


def has_unseen(directory: str) -> bool:
    """Return whether a cgroup of v1 has tasks that its cgroup.procs does not list: those of other pid namespaces
    than ours.

    The pids controller counts them, and zombies too, so this asks only outside of the initial pid namespace."""
    try:
        if posix.readlink("/proc/self/ns/pid") == _INITIAL:
            return False
        return int(read_file(f"{directory}/pids.current")) > len(inside(directory))
    except (OSError, ValueError):
        return False  # another controller's hierarchy, or the root


def inside(directory: str, parent: int | None = None) -> list[int]:
    """Return the pids in one cgroup, without those below it. None when it is not there.

    parent: a descriptor of the directory that `directory` is a name in."""
    data = bytearray()
    try:
        fd = posix.open(f"{directory}/cgroup.procs", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=parent)
        try:
            while chunk := posix.read(fd, 65536):
                data += chunk
        finally:
            posix.close(fd)
    except OSError as error:
        if error.errno in (*_GONE, EOPNOTSUPP):
            return []
        raise
    return [int(word) for word in data.split()]


def walk(directory: str, visit: Callable[[int, str], None]) -> None:
    """Call visit(descriptor of the parent, name) for each cgroup below this one, children before their parents.

    By descriptors and without recursion: a container that may make cgroups can nest them deeper than Python can call,
    and deeper than a path can be long (PATH_MAX)."""
    try:
        # Every directory is a child; st_nlink counts them, so that a leaf, the usual case, is not read.
        if posix.stat(directory).st_nlink <= 2:
            return
        here = posix.open(directory, _DIRECTORY)
    except OSError as error:
        if error.errno in _GONE:
            return
        raise
    names: list[str] = []  # the way from `directory` to here
    try:
        todo = [_children(here)]  # and what is to be visited at each level of it
        while todo[-1] or names:
            name = todo[-1].pop() if todo[-1] else ".."
            try:
                there = posix.open(name, _DIRECTORY | posix.O_NOFOLLOW, dir_fd=here)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                if name == "..":
                    return  # somebody else removes it, too
                continue
            posix.close(here)
            here = there
            if name == "..":
                todo.pop()
                visit(here, names.pop())
            else:
                names.append(name)
                todo.append(_children(here))
    finally:
        posix.close(here)


def _children(fd: int) -> list[str]:
    with posix.scandir(fd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def shown(pids: list[int], limit: int = 5) -> str:
    """Return processes for a message: "412 (sleep), 413 (nginx)"."""
    words = []
    for pid in pids[:limit]:
        if not pid:
            words.append("some of another pid namespace")
            continue
        try:
            words.append(f"{pid} ({read_file(f'/proc/{pid}/comm').strip()})")
        except OSError:
            words.append(str(pid))
    if len(pids) > limit:
        words.append(f"and {len(pids) - limit} more")
    return ", ".join(words)
