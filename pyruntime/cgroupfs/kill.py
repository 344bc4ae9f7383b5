"""Send signals to all processes in a container's cgroups."""

from __future__ import annotations

import posix
import select
import time

from pyruntime.cgroupfs import control_files, freezer, processes
from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.errors import KernelError, StateError
from pyruntime.kernel.constants import EINVAL, ESRCH, SIGKILL
from pyruntime.kernel.pidfd import has_exited, send_signal
from pyruntime.util import procfs

_SECONDS = 10.0
_ROUNDS = 100  # of listing and killing, before what still forks is left to `delete`
_BATCH = 256  # of pidfds open at once: less than the usual RLIMIT_NOFILE
_POLLIN = select.POLLIN


def signal_all(cgroups: dict[str, str], signal: int, but: int = 0) -> int:
    """Send a signal to every process of the container except the pid `but`; does not wait for its effect.

    Returns how many processes it was sent to, 1 if the kernel does it for all.

    cgroups: those that are the container's (identity.own). SIGKILL reaches those forked meanwhile, too. Paused ones
    stay paused, unless the signal is SIGKILL."""
    count = int(signal == SIGKILL and _kill_at_once(cgroups))
    reached = {but}
    for _ in range(_ROUNDS if signal == SIGKILL else 1):
        pids = [pid for pid in processes.of(cgroups) if pid not in reached]
        if not pids:
            break
        reached.update(pids)
        count += len(pids)
        for pidfd in _signal(cgroups, pids, signal):
            posix.close(pidfd)
    if signal == SIGKILL:
        thaw_for_death(cgroups)
    return count


def kill_all(cgroups: dict[str, str]) -> None:
    """Kill every process of the container, those forked meanwhile too, and wait until all are gone.

    cgroups: those that are the container's (identity.own). Raises StateError after 10 s, naming who is stuck."""
    if not _kill_at_once(cgroups) and not processes.of(cgroups):
        return
    deadline = time.monotonic() + _SECONDS
    while pids := [pid for pid in processes.of(cgroups) if not _is_dead(pid)]:
        pidfds = _signal(cgroups, pids, SIGKILL)
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
                hint="look at /proc/PID/stack, then try again",
            )


def thaw_for_death(cgroups: dict[str, str]) -> None:
    """Thaw a paused container after SIGKILL: the v1 freezer delays even that signal."""
    if "freezer" in cgroups:
        thaw(cgroups)


def thaw(cgroups: dict[str, str]) -> None:
    """Thaw the container's cgroups if they are frozen."""
    try:
        if not freezer.is_frozen(cgroups):
            return
        freezer.thaw(cgroups)
    except (StateError, OSError):
        pass  # an ancestor is frozen, or the cgroup was removed: waiting for the exit reports it


def _kill_at_once(cgroups: dict[str, str]) -> bool:
    """Kill the whole tree atomically by cgroup.kill (Linux 5.14). Return False if it is not available."""
    if UNIFIED not in cgroups:
        return False
    try:
        control_files.write(cgroups[UNIFIED], "cgroup.kill", "1")
    except KernelError:
        return False  # an older kernel, or the cgroup is gone
    return True


def _is_dead(pid: int) -> bool:
    """Return whether a process has exited; cgroup.procs may list a zombie until it is reaped."""
    try:
        return procfs.stat(pid)[procfs.STATE] in "ZX"
    except OSError:
        # Gone, or not visible (hidepid).
        pidfd = _open(pid)
        if pidfd < 0:
            return True
        exited = has_exited(pidfd)
        posix.close(pidfd)
        return exited


def _signal(cgroups: dict[str, str], pids: list[int], signal: int) -> list[int]:
    """Send a signal to those pids that are still in the cgroup. Return pidfds of some of them, to wait for.

    A pid from cgroup.procs may have been reused before pidfd_open(2). So cgroup.procs is read again after it: a pid
    still listed was a member then. If the process of the pidfd was alive, it is that member; else the signal fails
    with ESRCH."""
    opened: list[int] = []
    for start in range(0, len(pids), _BATCH):
        for pidfd in opened:
            posix.close(pidfd)
        opened = []
        found = {pid: pidfd for pid in pids[start : start + _BATCH] if (pidfd := _open(pid)) >= 0}
        members = set(processes.of(cgroups))
        for pid, pidfd in found.items():
            if pid in members and _send(pidfd, signal):
                opened.append(pidfd)
            else:
                posix.close(pidfd)
    return opened


def _open(pid: int) -> int:
    """Return a pidfd of a pid, -1 if there is no such process."""
    try:
        return posix.pidfd_open(pid)
    except OSError as error:
        if error.errno in (ESRCH, EINVAL):  # dead, and its number still that of its session
            return -1
        raise


def _send(pidfd: int, signal: int) -> bool:
    """Send a signal by a pidfd. Return False if the process has exited."""
    try:
        send_signal(pidfd, signal)
    except ProcessLookupError:
        return False
    return True
