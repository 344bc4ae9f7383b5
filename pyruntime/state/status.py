"""What a container is now: the record says what may exist, the kernel says what is."""

from __future__ import annotations

import posix
import select

from pyruntime.kernel.constants import EINVAL, ESRCH
from pyruntime.state.store import FIFO
from pyruntime.util.procfs import start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.state.store import Record

_NO_PROCESS = (ESRCH, EINVAL)  # ESRCH; EINVAL: the number is still that of a session or thread


def note_init(record: Record, pid: int, pidfd: int) -> None:
    """Note a container's init, which is alive. The caller saves the record."""
    from pyruntime.state import liveness

    record.pid = pid
    record.start = start_time(pid)
    liveness.note(record, pidfd)


def is_alive(record: Record) -> bool:
    """Return whether a container's init is alive. Raises Unknown."""
    if record.start and start_time(record.pid) == record.start:
        return True
    from pyruntime.state import liveness

    pidfd = liveness.find(record)
    if pidfd < 0:
        return False
    posix.close(pidfd)
    return True


def status_of(record: Record) -> str:
    """Return what the kernel says the container is: creating, created, running, paused or stopped.

    A pid that was given to another process since has another start time, so it does not count as init. Raises Unknown
    when that cannot be determined."""
    if not record.created and not record.pid:
        return "creating"
    if not is_alive(record):
        return "stopped"
    if not record.created:
        return "creating"
    if record.cgroups:
        from pyruntime.cgroupfs import freezer

        if freezer.is_frozen(record.cgroups):
            return "paused"
    return "created" if waits_for_start(record) else "running"


def waits_for_start(record: Record) -> bool:
    """Return whether init holds the exec fifo open, which it does until it becomes the user's process."""
    try:
        fd = posix.open(record.path(FIFO), posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:  # ENXIO: no reader; ENOENT: `start` has removed it
        return False
    posix.close(fd)
    return True


def oci_state(record: Record, status: str, pid: int | None = None) -> dict[str, object]:
    """Return the state of runtime-spec runtime.md, "State", as hooks and `state` get it."""
    state: dict[str, object] = {"ociVersion": record.oci_version, "id": record.id, "status": status}
    if status != "stopped":
        state["pid"] = record.pid if pid is None else pid
    state["bundle"] = record.bundle
    if record.annotations:
        state["annotations"] = record.annotations
    return state


def open_init(record: Record) -> int:
    """Return a pidfd of init, -1 when it is gone. Raises Unknown when that cannot be determined."""
    if record.pidfd >= 0:
        poll = select.poll()
        poll.register(record.pidfd, select.POLLIN)
        return -1 if poll.poll(0) else posix.dup(record.pidfd)
    if record.pid <= 0:
        return -1
    try:
        pidfd = posix.pidfd_open(record.pid)
    except OSError as error:
        if error.errno not in _NO_PROCESS:
            raise
    else:
        # The descriptor is of the process that has the pid now; the start time shows whether that is still init.
        if record.start and start_time(record.pid) == record.start:
            return pidfd
        posix.close(pidfd)
    from pyruntime.state import liveness

    return liveness.find(record)
