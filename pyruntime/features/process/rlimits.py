"""process.rlimits: resource limits, set on init from outside with prlimit(2).

The parent sets them, not init: the parent may be allowed to raise what init, in its user namespace, may not.
"""

from __future__ import annotations

from pyruntime.errors import KernelError, StepError
from pyruntime.kernel import process
from pyruntime.kernel.constants import EPERM
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor, ParentActor
    from pyruntime.plan.request import Request

# setrlimit(2); the numbers of x86 and ARM (and of every architecture but alpha, mips and sparc).
RESOURCES = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
INFINITY = 2**64 - 1
_PROCESSES = "RLIMIT_NPROC"


def plan(request: Request) -> Iterator[Step]:
    """READY: one step a limit. Names, repetitions and soft > hard are the checker's (spec/rules.py)."""
    for index, entry in enumerate(request.process.get("rlimits") or ()):
        soft, hard = _value(entry["soft"]), _value(entry["hard"])
        yield Step(f"/process/rlimits/{index}", set_limit, limit=entry["type"], soft=soft, hard=hard)


def plan_spawned(request: Request) -> Iterator[Step]:
    """BECOME: RLIMIT_NPROC is for the process that executes the program, not for the one that clones it."""
    if not request.spawns():
        return
    for index, entry in enumerate(request.process.get("rlimits") or ()):
        if entry["type"] == _PROCESSES:
            soft, hard = _value(entry["soft"]), _value(entry["hard"])
            yield Step(f"/process/rlimits/{index}", leave_limit, limit=_PROCESSES, soft=soft, hard=hard)


def leave_limit(init: InitActor, limit: str, soft: int, hard: int) -> None:
    """leave {limit} to the process that executes the program"""
    assert init.spawn is not None  # as `plan_spawned` asked
    init.spawn.limit = (soft, hard)


def set_limit(parent: ParentActor, limit: str, soft: int, hard: int) -> None:
    """set {limit} to soft {soft}, hard {hard}"""
    if limit == _PROCESSES and parent.request.spawns():
        _lift(parent.pid)  # `leave_limit` has the rest
        return
    try:
        process.set_limit(parent.pid, RESOURCES[limit], soft, hard)
    except KernelError as error:
        if error.errno != EPERM:
            raise
        own = _hard_limit(limit)
        why = f"{hard} is more than the hard limit of this runtime ({own})"
        if own == "unlimited" or (own.isdigit() and hard <= int(own)):
            why = "the container is another user's"
        raise StepError(
            f"set {limit} to soft {soft}, hard {hard}: operation not permitted (EPERM)",
            why=f"{why}, and this runtime lacks CAP_SYS_RESOURCE",
            hint="ask for less, or run with CAP_SYS_RESOURCE",
            step=f"set {limit} to soft {soft}, hard {hard}",
            syscall=error.call(),
            errno="EPERM",
        ) from error


def _lift(pid: int) -> None:
    """Allow a process to clone the one that executes the program, whatever RLIMIT_NPROC that gets."""
    try:
        process.set_limit(pid, RESOURCES[_PROCESSES], INFINITY, INFINITY)
    except KernelError as error:
        if error.errno != EPERM:  # without CAP_SYS_RESOURCE the process can still lower its own
            raise


def _value(number: int) -> int:
    """Return a limit of config.json; -1 is how some engines write RLIM_INFINITY."""
    return INFINITY if number == -1 else number


def _hard_limit(name: str) -> str:
    """This process's own hard limit, for a message: a person waits here."""
    import resource

    try:
        hard = resource.getrlimit(RESOURCES[name])[1]
    except (OSError, ValueError):
        return "unknown"
    return "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
