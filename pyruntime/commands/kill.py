"""kill: send a signal to a container (runtime-spec runtime.md, "Kill"), and the end of all its processes."""

from __future__ import annotations

import posix
import select
import time

from pyruntime.errors import Busy, NotFound, StateError, Unknown
from pyruntime.kernel.constants import SIGKILL
from pyruntime.kernel.pidfd import send_signal
from pyruntime.state import store
from pyruntime.state.status import open_init, status_of, waits_for_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.state.store import Record
    from pyruntime.util.ids import ContainerId

_DEATH_SECONDS = 10.0
_QUICK_DEATH_SECONDS = 0.1
_FAIR_SECONDS = 1.0  # in which other commands usually get done
# What ends a container that waits for `start`: HUP, INT, QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV, TERM, STKFLT, SYS.
_FATAL = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 11, 15, 16, 31))


def kill_by_id(root: str, id: ContainerId, signal: int | str, *, everything: bool = False) -> None:
    """Send a signal, given by number or name, to a container. Raises NotFound, StateError, UsageError.

    everything: to all of its processes; a container that has stopped is not an error then, since containerd calls
    `kill --all` after init has died, for processes that outlive it in a shared pid namespace."""
    record = store.load(root, id)
    if isinstance(signal, str):  # parsed now: of a container that does not exist, that is the error, like runc
        from pyruntime.util import signals

        signal = signals.parse(signal)
    try:
        kill(record, signal, everything=everything)
    except Unknown:
        raise
    except StateError:
        if not everything:
            raise


def kill(record: Record, signal: int, *, everything: bool = False) -> None:
    """Send a signal to init, or with everything to all processes. Raises StateError when init is not running.

    SIGKILL is for all of a container without a pid namespace of its own, as the kernel does it for one with; then,
    and with everything, it is not an error that init is gone while the cgroup exists."""
    everything = everything or (signal == SIGKILL and not record.private_pid)
    unknown = None
    try:
        reached = _signal_init(record, signal)
    except Unknown as error:
        if not everything:
            raise
        reached, unknown = False, error  # if it is alive, it is in the cgroup
    if not reached and not everything:
        raise StateError(f"container not running: {record.id} is stopped")
    if not everything and signal != SIGKILL:
        return
    from pyruntime.cgroupfs import kill as cgroup_kill
    from pyruntime.state import cgroup_identity

    # With a pid namespace of its own nothing outlives init: processes in the cgroup came later.
    cgroups = cgroup_identity.own(record) if reached or unknown is not None or not record.private_pid else {}
    if not everything:
        cgroup_kill.thaw_for_death(cgroups)
        return
    if not reached and not cgroups:
        raise StateError(f"container not running: {record.id} is stopped")
    if cgroup_kill.signal_all(cgroups, signal, but=record.pid if reached else 0) == 0 and unknown is not None:
        raise unknown


def _signal_init(record: Record, signal: int) -> bool:
    """Send a signal to init: whether it was there to get it."""
    pidfd = open_init(record)
    if pidfd < 0:
        return False
    lock = -1
    try:
        if signal in _FATAL and record.private_pid and waits_for_start(record):
            lock = _try_lock(record)
            # As the first of its pid namespace it does not get a signal that it does not handle. The program that
            # would handle it has not begun; the lock keeps it from beginning now.
            if lock >= 0 and status_of(record) == "created":
                signal = SIGKILL
        send_signal(pidfd, signal)
    except ProcessLookupError:
        return False
    finally:
        posix.close(pidfd)
        if lock >= 0:
            posix.close(lock)
    return True


def _try_lock(record: Record) -> int:
    """Take the container's lock if it is free: -1 if not."""
    try:
        return store.lock(record.directory, record.id, 0)
    except (Busy, NotFound):
        return -1


def kill_all(record: Record) -> str:
    """Kill all processes of the container, and wait until they are dead. Raises StateError.

    Those of a pid namespace of its own die with init; once that is gone, processes in the cgroup came later.
    Gives back why init cannot be reaped yet, "" if it is gone (runtime/await_death.py)."""
    from pyruntime.cgroupfs import kill as cgroup_kill
    from pyruntime.state import cgroup_identity

    unknown = None
    try:
        pidfd = open_init(record)
    except Unknown as error:
        pidfd, unknown = -1, error
    cgroups = cgroup_identity.own(record)
    try:
        if pidfd >= 0:
            try:
                send_signal(pidfd, SIGKILL)
            except ProcessLookupError:
                pass  # it dies by itself at this moment
        # Not for init only: an exec's child is in the cgroup before it is in the pid namespace (runtime/exec.py), and
        # ends by itself once that is gone, unless it is frozen.
        cgroup_kill.thaw(cgroups)
        # Without a pid: what a `restore` that was killed has left.
        if not record.private_pid or not record.pid or unknown is not None:
            cgroup_kill.kill_all(cgroups)
        if unknown is not None:
            _require_dead(record)
        if pidfd >= 0:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(_QUICK_DEATH_SECONDS * 1000):
                from pyruntime.runtime import await_death

                return await_death.await_death(record, poll, _DEATH_SECONDS)
        return ""
    finally:
        if pidfd >= 0:
            posix.close(pidfd)


def _require_dead(record: Record) -> None:
    """After everything in the cgroups was killed: raise Unknown unless init is seen to be gone."""
    deadline = time.monotonic() + _FAIR_SECONDS
    while True:
        try:
            pidfd = open_init(record)
        except Unknown:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if pidfd < 0:
            return
        posix.close(pidfd)
        raise StateError(f"container {record.id}: init (pid {record.pid}) is alive again", hint="delete again")
