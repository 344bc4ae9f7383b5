"""Removing a container's cgroups."""

from __future__ import annotations

import posix
import time

from pyruntime.cgroupfs import processes
from pyruntime.errors import KernelError, StateError
from pyruntime.kernel.constants import EBUSY, ENODEV, ENOENT
from pyruntime.state import cgroup_identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.state.store import Record

_SECONDS = 10.0
_UNKNOWN_SECONDS = 2.0
_GONE = (ENOENT, ENODEV)


def remove(record: Record, timeout: float = _SECONDS) -> None:
    """Remove the container's cgroup and those that it has made below, in every hierarchy.

    One that is gone is not an error; one that has become another container's is left alone. A killed process
    leaves its cgroup a moment after its parent could reap it, so what is busy is tried again for timeout seconds.
    Raises StateError that names the processes in the way, KernelError for what cannot be removed."""
    deadline = 0.0
    pause = 0.0005
    for name, directory in record.cgroups.items():
        while (kind := cgroup_identity.kind(record, name)) in (cgroup_identity.OWN, cgroup_identity.UNKNOWN):
            if _removed(directory, tree=kind == cgroup_identity.OWN):
                break
            now = time.monotonic()
            deadline = deadline or now + timeout
            # An init that has entered before its cgroups were noted (features/cgroups/directories.py) ends with its
            # parent: one that stays is another container's.
            if kind == cgroup_identity.UNKNOWN and now > deadline - timeout + _UNKNOWN_SECONDS:
                break
            if now > deadline:
                raise _busy(directory)
            # The kernel does not notify when the last process has left a v1 cgroup.
            time.sleep(pause)
            pause = min(pause * 2, 0.05)


def _removed(directory: str, *, tree: bool) -> bool:
    if _rmdir(directory):
        return True
    if not tree:
        return False
    # There are processes in it, or cgroups that the container made below.
    processes.walk(directory, _remove_one)
    return _rmdir(directory)


def _remove_one(parent: int, name: str) -> None:
    _rmdir(name, parent)


def _rmdir(name: str, parent: int | None = None) -> bool:
    """Return whether a cgroup is gone; False while it is busy. Raises KernelError."""
    try:
        posix.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno == EBUSY:
            return False
        # A read-only mount says so (EROFS) before it looks whether the directory exists.
        if error.errno not in _GONE and _exists(name, parent):
            raise KernelError(error.errno or 0, "rmdir", (name,)) from None
    return True


def _exists(name: str, parent: int | None) -> bool:
    try:
        posix.lstat(name, dir_fd=parent)
    except OSError:
        return False
    return True


def _busy(directory: str) -> StateError:
    pids = processes.below(directory, foreign=True)
    return StateError(
        f"cannot remove the cgroup {directory}: device or resource busy (EBUSY)",
        why=f"processes are in it: {processes.shown(pids)}" if pids else "the kernel has not released it yet",
        hint="end them, then delete again" if pids else "delete again",
    )
