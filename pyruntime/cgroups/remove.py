"""Removing a container's cgroups."""

from __future__ import annotations

import posix
import time

from pyruntime.cgroups import processes
from pyruntime.errors import StateError

_SECONDS = 10.0
_EBUSY = 16
_GONE = (2, 19)  # ENOENT, ENODEV


def remove(cgroups: dict[str, str], timeout: float = _SECONDS) -> None:
    """Remove the container's cgroup and those it has made below, in every hierarchy. Gone already is no error.

    A killed process leaves its cgroup a moment after its parent could reap it, so what is busy is tried again for
    timeout seconds. Raises StateError that names the processes in the way."""
    deadline = 0.0
    pause = 0.0005
    for directory in cgroups.values():
        while not _removed(directory):
            now = time.monotonic()
            deadline = deadline or now + timeout
            if now > deadline:
                raise _busy(directory)
            # The kernel tells nobody when the last one has left a v1 cgroup.
            time.sleep(pause)
            pause = min(pause * 2, 0.05)


def _removed(directory: str) -> bool:
    if _rmdir(directory):
        return True
    # There are processes in it, or cgroups that the container made below.
    processes.walk(directory, _remove_one)
    return _rmdir(directory)


def _remove_one(parent: int, name: str) -> None:
    _rmdir(name, parent)


def _rmdir(name: str, parent: int | None = None) -> bool:
    """Whether a cgroup is gone; False while it is busy."""
    try:
        posix.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno == _EBUSY:
            return False
        if error.errno not in _GONE:
            raise
    return True


def _busy(directory: str) -> StateError:
    pids = processes.below(directory)
    return StateError(
        f"cannot remove the cgroup {directory}: device or resource busy (EBUSY)",
        why=f"processes are in it: {processes.shown(pids)}" if pids else "the kernel has not let it go yet",
        mend="end them, then delete again" if pids else "delete again",
    )
