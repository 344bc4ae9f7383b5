"""Whether a container's init is alive, where /proc/PID does not answer that.

/proc may be mounted with hidepid=2, which hides the processes of others and those that are not dumpable, or it may be
that of another pid namespace. A pid that is not found there says nothing. What does: pidfd_open(2), the inode number of
a pidfd (pidfs of Linux 6.9: never used again before the next boot), the container's cgroups, the reader of its fifo.
"""

from __future__ import annotations

import posix

from pyruntime.errors import StateError, Unknown
from pyruntime.kernel.constants import EINVAL, ESRCH
from pyruntime.kernel.pidfd import has_exited
from pyruntime.state.status import waits_for_start
from pyruntime.util import procfs
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.state.store import Record

INIT = "init"  # in Record.extra: what is noted of init besides pid and start time
_PIDFD, _BOOT, _NAMESPACE = "pidfd", "boot", "pid_namespace"
_GONE = (ESRCH, EINVAL)  # ESRCH; EINVAL: the number is still that of a session or thread


def require_own_proc() -> None:
    """Raise StateError when /proc is not that of this pid namespace: /proc/PID would be another process."""
    try:
        shown = posix.readlink("/proc/self")
    except OSError as error:
        shown = f"unreadable (errno {error.errno})"
    if shown != str(posix.getpid()):
        raise StateError(
            "/proc is not of this pid namespace",
            why=f"/proc/self is {shown}, the pid is {posix.getpid()}",
            hint="mount one: mount -t proc proc /proc",
        )


def note(record: Record, pidfd: int) -> None:
    """Note what distinguishes init from another process that gets its pid later. The caller saves the record."""
    found: dict[str, object] = {_PIDFD: posix.fstat(pidfd).st_ino, _BOOT: _boot(), _NAMESPACE: _pid_namespace()}
    record.extra[INIT] = found


def find(record: Record) -> int:
    """Return a pidfd of the container's init, -1 when it has ended. Raises Unknown when neither is certain."""
    if record.pid <= 0:
        return -1
    noted: Any = record.extra.get(INIT)
    noted = noted if isinstance(noted, dict) else {}
    boot = noted.get(_BOOT)
    if boot and boot != (_boot() or boot):
        return -1  # nothing outlives a boot
    here = _pid_namespace()
    if here and noted.get(_NAMESPACE, here) != here:
        return _find_elsewhere(record)
    try:
        pidfd = posix.pidfd_open(record.pid)
    except OSError as error:
        if error.errno in _GONE:
            return -1
        raise
    try:
        verdict = False if has_exited(pidfd) else _is_init(record, pidfd, noted)
        if verdict is None:
            raise Unknown(
                f"cannot determine whether init of container {record.id} is alive: there is a process {record.pid},"
                " and it may be another one",
                why=f"/proc/{record.pid} is not visible (hidepid?)",
                hint=f"run as root with a /proc that shows all processes; if {record.pid} is another process, remove"
                f" {record.directory}",
            )
    except BaseException:
        posix.close(pidfd)
        raise
    if verdict:
        return pidfd
    posix.close(pidfd)
    return -1


def _is_init(record: Record, pidfd: int, noted: dict[str, object]) -> bool | None:
    """Return whether the process of a pidfd is init; None if unknown."""
    start = _start_time(_pid_in_proc(record.pid, pidfd))
    if start and record.start:
        return start == record.start
    own = posix.pidfd_open(posix.getpid())
    number, other = posix.fstat(pidfd).st_ino, posix.fstat(own).st_ino
    posix.close(own)
    if number != other and noted.get(_PIDFD) and noted.get(_BOOT):
        return bool(number == noted[_PIDFD])  # without pidfs all have the same
    from pyruntime.cgroupfs import processes
    from pyruntime.state import cgroup_identity

    cgroups = cgroup_identity.own(record)
    if record.pid in processes.of(cgroups):
        return True
    # Before start init is in its cgroups for certain; later it may have moved itself.
    return True if not cgroups and waits_for_start(record) else None


def _find_elsewhere(record: Record) -> int:
    """As `find`, when the pid is a number of another pid namespace: by the cgroups."""
    from pyruntime.cgroupfs import processes
    from pyruntime.state import cgroup_identity

    cgroups = cgroup_identity.own(record)
    if cgroups or not record.cgroups:
        populated = processes.is_populated(cgroups)
        if populated or not cgroups:
            raise Unknown(
                f"cannot determine whether init of container {record.id} is alive: its pid namespace is another one",
                why="its cgroup has processes" if populated else "it has no cgroup of its own",
                hint=f"run in that pid namespace; if it is gone, remove {record.directory}",
            )
    return -1


def _pid_in_proc(pid: int, pidfd: int) -> int:
    """Return the pid by which /proc shows the process of a pidfd: proc(5), /proc/PID/fdinfo, "Pid"; 0 for none."""
    try:
        if posix.readlink("/proc/self") == str(posix.getpid()):
            return pid
        for line in read_file(f"/proc/self/fdinfo/{pidfd}").splitlines():
            if line.startswith("Pid:"):
                return max(0, int(line.split()[1]))
    except OSError:
        pass
    return 0


def _start_time(pid: int) -> int:
    """As state.start_time, also when only the first thread has ended; 0 when it is not visible."""
    try:
        return int(procfs.stat(pid)[procfs.START_TIME]) if pid else 0
    except OSError:
        return 0


def _boot() -> str:
    try:
        return read_file("/proc/sys/kernel/random/boot_id").strip()
    except OSError:
        return ""


def _pid_namespace() -> int:
    try:
        return posix.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
