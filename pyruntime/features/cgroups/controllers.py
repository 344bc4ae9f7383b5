"""The controllers of the cgroup2 tree, which every cgroup hands down to its children (cgroups(7), "Enabling")."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import control_files, processes
from pyruntime.errors import KernelError, StateError
from pyruntime.kernel.constants import EBUSY, EINVAL, ENOENT, EOPNOTSUPP
from pyruntime.util.fileio import read_file

_SUBTREE = "cgroup.subtree_control"


def enable(directory: str, required: list[str], *, others: bool) -> None:
    """See to it that a cgroup has the controllers required, by enabling them in all cgroups above.

    With others, the rest is handed down too where that can be, for what it counts.
    Raises StateError: the kernel has no such controller, it is not delegated, or a cgroup above holds processes
    (the no-internal-process rule); they are named."""
    above = _ancestors(directory)
    offered = _words(above[0], "cgroup.controllers")
    wanted = [name for name in required if name in offered]
    if len(wanted) < len(required):
        raise _absent(above[0], [name for name in required if name not in offered])
    if others:
        wanted += [name for name in offered if name not in required]
    if not _missing(above[-1], wanted):
        return
    for parent in above:
        missing = _missing(parent, wanted)
        # Some controllers (cpu, pids) could be had in spite of processes, but would make the cgroup a threaded one
        # and its children unusable.
        occupied = bool(missing) and _holds_processes(parent)
        for controller in missing:
            try:
                if occupied:
                    raise KernelError(EBUSY, "write", (f"{parent}/{_SUBTREE}", f"+{controller}"))
                control_files.write(parent, _SUBTREE, f"+{controller}")
            except KernelError as error:
                if controller in required:
                    raise _refused(parent, controller, error) from None
                wanted = [name for name in wanted if name != controller]


def _holds_processes(directory: str) -> bool:
    """Return whether processes are in a cgroup itself. The real root may have them, and has no cgroup.type."""
    return posix.access(f"{directory}/cgroup.type", posix.F_OK) and bool(processes.inside(directory))


def _ancestors(directory: str) -> list[str]:
    """Return the cgroups above a cgroup, from the top of the tree that can be seen."""
    found: list[str] = []
    while True:
        directory = directory.rpartition("/")[0]
        try:
            read_file(f"{directory}/{_SUBTREE}")
        except OSError:
            return found
        found.insert(0, directory)


def _missing(directory: str, wanted: list[str]) -> list[str]:
    there = _words(directory, _SUBTREE)
    return [name for name in wanted if name not in there]


def _words(directory: str, file: str) -> list[str]:
    return read_file(f"{directory}/{file}").split()


def _absent(directory: str, missing: list[str]) -> StateError:
    have = " ".join(_words(directory, "cgroup.controllers")) or "none"
    return StateError(
        f"no cgroup controller {', '.join(missing)} for the container",
        why=f"{directory} has {have}",
        hint="leave out the limit, or enable it (systemd: Delegate=, kernel: cgroup_disable=)",
    )


def _refused(directory: str, controller: str, error: KernelError) -> Exception:
    """Return why the kernel would not hand a controller down."""
    pids = processes.inside(directory)
    if error.errno in (EBUSY, EOPNOTSUPP) and pids:
        return StateError(
            f"cannot enable the cgroup controller {controller} below {directory}: that cgroup holds processes",
            why=f"a cgroup has either processes or children with limits; in it are {processes.shown(pids)}",
            hint="move them into a cgroup below it, or give another linux.cgroupsPath",
        )
    if error.errno == ENOENT:
        return _absent(directory, [controller])
    if error.errno in (EINVAL, EOPNOTSUPP):
        return StateError(
            f"cannot enable the cgroup controller {controller} below {directory}",
            why="that is a threaded cgroup" if error.errno == EOPNOTSUPP else "a v1 hierarchy has the controller",
        )
    return error
