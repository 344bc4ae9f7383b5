"""Pausing: v1's freezer hierarchy, or cgroup.freeze of v2 (which the cgroup2 tree of a hybrid host has too)."""

from __future__ import annotations

import posix
import select
import time

from pyruntime.cgroupfs import control_files, processes
from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.errors import StateError
from pyruntime.kernel.constants import ENODEV, ENOENT
from pyruntime.util import procfs
from pyruntime.util.fileio import read_file

_SECONDS = 5.0
_GONE = (ENOENT, ENODEV)


def is_frozen(cgroups: dict[str, str]) -> bool:
    """Return whether the container is frozen or freezing; False if its cgroup does not exist."""
    try:
        if "freezer" in cgroups:
            return read_file(f"{cgroups['freezer']}/freezer.state").strip() != "THAWED"
        if UNIFIED in cgroups:
            return read_file(f"{cgroups[UNIFIED]}/cgroup.freeze").strip() == "1"
    except OSError as error:
        if error.errno not in _GONE:
            raise
    return False


def freeze(cgroups: dict[str, str]) -> None:
    """Freeze all processes of the container, and wait until they are frozen.

    Raises StateError after 5 s; the processes are then thawed."""
    if "freezer" in cgroups:
        _freeze_v1(cgroups["freezer"])
    elif UNIFIED in cgroups:
        _set_v2(cgroups[UNIFIED], frozen=True)
    else:
        raise _no_freezer()


def thaw(cgroups: dict[str, str]) -> None:
    """Thaw all processes of the container. Raises StateError if an ancestor cgroup is frozen."""
    if "freezer" in cgroups:
        directory = cgroups["freezer"]
        # A descendant cgroup that the container itself has frozen stays frozen.
        control_files.write(directory, "freezer.state", "THAWED")
        if read_file(f"{directory}/freezer.parent_freezing").strip() == "1":
            raise StateError("the container stays frozen: a cgroup above it is", hint="thaw that one")
    elif UNIFIED in cgroups:
        _set_v2(cgroups[UNIFIED], frozen=False)
    else:
        raise _no_freezer()


def _no_freezer() -> StateError:
    return StateError(
        "the container cannot be paused: it has no cgroup that could be frozen",
        why="the host has neither a freezer hierarchy nor a cgroup2 tree, or may not be written to",
    )


def _freeze_v1(directory: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        # Writing again catches what was forking at the first time; v1 has no file to wait at.
        control_files.write(directory, "freezer.state", "FROZEN")
        if read_file(f"{directory}/freezer.state").strip() == "FROZEN":
            return
        time.sleep(0.001)
    error = _still_running(directory)
    control_files.write(directory, "freezer.state", "THAWED")
    raise error


def _set_v2(directory: str, *, frozen: bool) -> None:
    wanted = "frozen 1" if frozen else "frozen 0"
    events = posix.open(f"{directory}/cgroup.events", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        control_files.write(directory, "cgroup.freeze", "1" if frozen else "0")
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        deadline = time.monotonic() + _SECONDS
        while wanted not in posix.pread(events, 4096, 0).decode().splitlines():
            left = deadline - time.monotonic()
            if left <= 0:
                if not frozen:
                    raise StateError("the container stays frozen: a cgroup above it is", hint="thaw that one")
                error = _still_running(directory)
                control_files.write(directory, "cgroup.freeze", "0")
                raise error
            poll.poll(left * 1000)
    finally:
        posix.close(events)


def _still_running(directory: str) -> StateError:
    stuck = [pid for pid in processes.below(directory) if _state(pid) == "D"]
    return StateError(
        f"the container could not be paused within {_SECONDS:g} s",
        why=f"in the kernel, and not to be stopped: {processes.shown(stuck)}" if stuck else None,
    )


def _state(pid: int) -> str:
    try:
        return procfs.stat(pid)[procfs.STATE]
    except OSError:
        return ""
