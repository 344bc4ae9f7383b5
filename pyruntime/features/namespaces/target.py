"""The container that a process joins: its init's namespaces and root, found once and held by descriptors.

Everything is taken from the living init, not from config.json: a namespace that config.json has by path may
have another path by now, and one that was joined may be gone from there.
"""

from __future__ import annotations

import posix
import select

from pyruntime.errors import StateError
from pyruntime.features.namespaces.namespaces import KINDS
from pyruntime.features.process import user
from pyruntime.kernel import process
from pyruntime.kernel.constants import O_PATH
from pyruntime.plan.step import Step
from pyruntime.state import liveness
from pyruntime.state.status import open_init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.features.exec_registry import ExecRequest
    from pyruntime.plan.actors import EntrantActor, TargetProcess
    from pyruntime.state.store import Record


class Target:
    """A container's init.

    pid, pidfd: of init, whose start time was compared.
    kinds:  the namespaces in which it differs from this process, in the order of namespaces.KINDS.
    root:   its root directory (O_PATH) when it shares this process's mount namespace, else -1.
    setgroups_denied: what /proc/PID/setgroups says; only looked at with a user namespace.
    root_ids: uid and gid to act as in its user namespace.
    """

    __slots__ = ("kinds", "pid", "pidfd", "root", "root_ids", "setgroups_denied")

    def __init__(self, pid: int, pidfd: int, kinds: list[str], root: int = -1, setgroups_denied: bool = False) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.kinds = kinds
        self.root = root
        self.root_ids = (0, 0)
        self.setgroups_denied = setgroups_denied

    def flags(self) -> int:
        """Return CLONE_NEW* of the namespaces to join."""
        flags = 0
        for kind in self.kinds:
            flags |= KINDS[kind][0]
        return flags

    def close(self) -> None:
        """Close the descriptors."""
        posix.close(self.pidfd)
        if self.root >= 0:
            posix.close(self.root)
        self.pidfd = self.root = -1


def find(record: Record) -> Target:
    """Look at a container's init. Raises StateError when it is gone, or dies meanwhile."""
    liveness.require_own_proc()
    pidfd = open_init(record)
    if pidfd < 0:
        raise gone(record.id)
    target = Target(record.pid, pidfd, [])
    there = f"/proc/{record.pid}"
    try:
        for kind, (_, name) in KINDS.items():
            try:
                own = posix.stat(f"/proc/self/ns/{name}")
            except FileNotFoundError:
                continue  # a kernel without this kind
            if own.st_ino != posix.stat(f"{there}/ns/{name}").st_ino:
                target.kinds.append(kind)
        if "mount" not in target.kinds:
            target.root = posix.open(f"{there}/root", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        if "user" in target.kinds:
            fd = posix.open(f"{there}/setgroups", posix.O_RDONLY | posix.O_CLOEXEC)
            target.setgroups_denied = posix.read(fd, 16).startswith(b"deny")
            posix.close(fd)
            target.root_ids = user.root_ids(str(record.pid))
    except (FileNotFoundError, ProcessLookupError):
        dead = is_dead(pidfd)
        target.close()
        if dead:
            raise gone(record.id) from None
        raise StateError(
            f"cannot look at the init of container {record.id}: {there} is not visible",
            why="/proc is mounted with hidepid",
            hint="exec with a /proc that shows all processes",
        ) from None
    except PermissionError as error:
        target.close()
        raise StateError(
            f"cannot look at the init of container {record.id}: {error.filename}: permission denied",
            why="it runs as another user, or does not run its program yet",
            hint="exec as the user who created the container, once it is started",
        ) from None
    except BaseException:
        target.close()
        raise
    # What /proc showed was init's if init is still alive: its pid cannot have been reused meanwhile.
    if is_dead(pidfd):
        target.close()
        raise gone(record.id)
    return target


def gone(id: str) -> StateError:
    """Return the error for a container without init."""
    return StateError(f"cannot exec in a stopped container: {id}", hint="start a new one")


def is_dead(pidfd: int) -> bool:
    """Return whether the process of a pidfd has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def plan(request: ExecRequest) -> Iterator[Step]:
    """ENTER: into the namespaces and the root. Of the pid namespace that is true of later children only."""
    kinds = list(request.target.kinds)
    if kinds:
        yield Step("", join, kinds=kinds)
    if "mount" not in kinds:
        yield Step("", enter_root)


def join(entrant: EntrantActor, kinds: list[str]) -> None:
    """join the namespaces {kinds} of the container's init"""
    # One call, so all or none; what the kernel has of init, no path and no /proc (setns(2), Linux 5.8).
    process.setns(entrant.target.pidfd, entrant.target.flags(), "of the container's init")
    if "user" in kinds:
        become_root(entrant.target)
    entrant.root_fd = _open_root()


def become_root(target: TargetProcess) -> None:
    """Become root of the joined user namespace: the ids from outside are not mapped in it."""
    user.become(*target.root_ids)  # by what /proc said before: in the container's there may be nothing of this process
    if not target.setgroups_denied:
        posix.setgroups([])


def enter_root(entrant: EntrantActor) -> None:
    """change into the root of the container's init, with which the host's mounts are shared"""
    posix.fchdir(entrant.target.root)
    posix.chroot(".")
    posix.chdir("/")
    entrant.root_fd = _open_root()


def _open_root() -> int:
    return posix.open("/", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
