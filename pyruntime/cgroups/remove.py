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
    try:
        posix.rmdir(directory)
        return True
    except OSError as error:
        if error.errno in _GONE:
            return True
        if error.errno != _EBUSY:
            raise
    # There are processes in it, or cgroups that the container made below.
    for folder in processes.tree(directory):
        try:
            posix.rmdir(folder)
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
