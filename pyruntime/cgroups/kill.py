"""Ending all processes of a cgroup, and naming them."""

from __future__ import annotations

import posix
import time

from pyruntime.cgroups import freezer
from pyruntime.cgroups.layout import UNIFIED
from pyruntime.errors import StateError
from pyruntime.kernel import process
from pyruntime.state import read_file

_SIGKILL = 9


def processes(cgroups: dict[str, str]) -> list[int]:
    """The pids in the container's cgroup and those below it."""
    directory = _telling(cgroups)
    return sorted(_processes_below(directory)) if directory else []


def _telling(cgroups: dict[str, str]) -> str:
    """The directory to read processes from: any one will do, since all hold the same."""
    for name in ("pids", "freezer", "memory"):
        if name in cgroups:
            return cgroups[name]
    return next(iter(cgroups.values()), "")


def _processes_below(directory: str) -> set[int]:
    found: set[int] = set()
    try:
        found.update(int(pid) for pid in read_file(f"{directory}/cgroup.procs").split())
        for name in posix.listdir(directory):
            if not name.startswith("cgroup.") and "." not in name:
                found |= _processes_below(f"{directory}/{name}")
    except (FileNotFoundError, NotADirectoryError, OSError):
        pass
    return found


def signal_all(cgroups: dict[str, str], signal: int, but: int = 0) -> None:
    """Send a signal to every process of the cgroup, but for one pid."""
    for pid in processes(cgroups):
        if pid == but:
            continue
        try:
            pidfd = posix.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            # The pid may have been used again since the list was read: look once more.
            if pid in processes(cgroups):
                process.send_signal(pidfd, signal)
        except ProcessLookupError:
            pass
        finally:
            posix.close(pidfd)
    if signal == _SIGKILL:
        thaw_for_death(cgroups)


def kill_all(cgroups: dict[str, str], signal: int = _SIGKILL, timeout: float = 10.0) -> None:
    """Kill every process of the cgroup, those that are forked meanwhile too. Raises StateError naming the stuck."""
    if not cgroups:
        return
    if UNIFIED in cgroups:
        try:
            # Linux 5.14: kills the whole tree at once, and nothing can fork away from it.
            fd = posix.open(f"{cgroups[UNIFIED]}/cgroup.kill", posix.O_WRONLY | posix.O_CLOEXEC)
            posix.write(fd, b"1")
            posix.close(fd)
        except OSError:
            pass
    deadline = time.monotonic() + timeout
    while alive := processes(cgroups):
        signal_all(cgroups, signal)
        if time.monotonic() > deadline:
            raise StateError(
                f"processes of the container do not die: {' '.join(str(pid) for pid in alive[:20])}",
                why="they are stuck in the kernel, on a dead network filesystem or a failing disk for example",
                mend="look at /proc/PID/stack, then delete again",
            )
        time.sleep(0.002)


def thaw_for_death(cgroups: dict[str, str]) -> None:
    """Let a v1 cgroup that is frozen go on, so that its processes can die; v2 lets them die frozen."""
    if "freezer" in cgroups and freezer.is_frozen(cgroups):
        freezer.thaw(cgroups)
