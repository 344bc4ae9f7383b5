"""Signals for everything in a container's cgroups."""

from __future__ import annotations

import posix
import select
import time

from pyruntime.cgroups import files, freezer, processes
from pyruntime.cgroups.layout import UNIFIED
from pyruntime.errors import KernelError, StateError
from pyruntime.kernel.pidfd import send_signal
from pyruntime.state import read_file

_SIGKILL = 9
_SECONDS = 10.0
_ESRCH, _EINVAL = 3, 22
_POLLIN = select.POLLIN


def signal_all(cgroups: dict[str, str], signal: int, but: int = 0) -> None:
    """Send a signal to every process of the container except the pid `but`; does not wait for what they do.

    Paused ones stay paused, unless the signal is SIGKILL."""
    if signal == _SIGKILL:
        _kill_at_once(cgroups)
    for pid in processes.of(cgroups):
        if pid != but:
            pidfd = _send(pid, signal)
            if pidfd >= 0:
                posix.close(pidfd)
    if signal == _SIGKILL:
        thaw_for_death(cgroups)


def kill_all(cgroups: dict[str, str], signal: int = _SIGKILL) -> None:
    """Kill every process of the container, those forked meanwhile too, and wait until all are gone.

    Raises StateError after 10 s, naming who is stuck."""
    if not _kill_at_once(cgroups) and not processes.of(cgroups):
        return
    deadline = time.monotonic() + _SECONDS
    while pids := [pid for pid in processes.of(cgroups) if not _is_dead(pid)]:
        pidfds = [pidfd for pid in pids if (pidfd := _send(pid, signal)) >= 0]
        thaw_for_death(cgroups)
        for pidfd in pidfds:
            poll = select.poll()
            poll.register(pidfd, _POLLIN)
            poll.poll(max(0, (deadline - time.monotonic()) * 1000))
            posix.close(pidfd)
        if time.monotonic() > deadline:
            raise StateError(
                f"processes of the container do not die: {processes.shown(pids)}",
                why="they are stuck in the kernel, on a dead network filesystem or a failing disk for example",
                mend="look at /proc/PID/stack, then try again",
            )


def thaw_for_death(cgroups: dict[str, str]) -> None:
    """Let a paused container's processes run into the SIGKILL they were sent: v1's freezer holds even that back."""
    if "freezer" not in cgroups or not freezer.is_frozen(cgroups):
        return
    try:
        freezer.thaw(cgroups)
    except (StateError, OSError):
        pass  # frozen from above, or gone meanwhile: whoever waits for the death will say so


def _kill_at_once(cgroups: dict[str, str]) -> bool:
    """Kill the whole tree in one write, which no fork escapes: cgroup.kill, Linux 5.14. Whether that can be."""
    if UNIFIED not in cgroups:
        return False
    try:
        files.write(cgroups[UNIFIED], "cgroup.kill", "1")
    except KernelError:
        return False  # an older kernel, or the cgroup is gone
    return True


def _is_dead(pid: int) -> bool:
    """Whether it is gone or a zombie, which cgroup.procs may show until it is reaped, and which hinders nothing."""
    try:
        stat = read_file(f"/proc/{pid}/stat")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def _send(pid: int, signal: int) -> int:
    """Send a signal to a process: its pidfd, -1 when it is gone."""
    try:
        pidfd = posix.pidfd_open(pid)
    except OSError as error:
        if error.errno in (_ESRCH, _EINVAL):  # EINVAL: dead, and its number still that of its session
            return -1
        raise
    try:
        send_signal(pidfd, signal)
    except ProcessLookupError:
        posix.close(pidfd)
        return -1
    return pidfd
