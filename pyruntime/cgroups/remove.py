"""Removing the container's cgroup."""

from __future__ import annotations

import posix
import time

from pyruntime.errors import StateError
from pyruntime.state import read_file

_EBUSY = 16


def remove(cgroups: dict[str, str], timeout: float = 10.0) -> None:
    """Remove every directory and those below it. What is not there is no error.

    A process that was killed leaves its cgroup a moment after its death: EBUSY is tried again until timeout
    seconds have gone. Raises StateError that names who is still in it."""
    deadline = time.monotonic() + timeout
    for directory in cgroups.values():
        pause = 0.0005
        while not _remove_tree(directory):
            if time.monotonic() > deadline:
                raise StateError(
                    f"cannot remove cgroup {directory}: device or resource busy (EBUSY)",
                    why=f"in it are processes: {_inhabitants(directory)}",
                    mend="end them, then delete again",
                )
            time.sleep(pause)
            pause = min(pause * 2, 0.05)


def _remove_tree(directory: str) -> bool:
    """Whether the directory is gone; False when it is busy."""
    try:
        posix.rmdir(directory)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != _EBUSY:
            raise
    try:
        # Controller files have a dot in their names, and are no directories anyway.
        for name in posix.listdir(directory):
            if "." not in name and name not in ("tasks", "notify_on_release", "release_agent"):
                try:
                    _remove_tree(f"{directory}/{name}")
                except NotADirectoryError:
                    pass
        posix.rmdir(directory)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != _EBUSY:
            raise
        return False


def _inhabitants(directory: str) -> str:
    try:
        return " ".join(read_file(f"{directory}/cgroup.procs").split()[:20]) or "none any more"
    except OSError as error:
        return f"unknown ({error.strerror})"
