"""process.execCPUAffinity and lists such as "0-3,7": where a process may run (sched_setaffinity(2))."""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, StepError
from pyruntime.kernel.constants import EINVAL
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import ParentActor
    from pyruntime.plan.request import Request

_FIELD = "/process/execCPUAffinity"
_FEW, _MANY = 1024, 8192  # _MANY: CONFIG_NR_CPUS of a kernel with CONFIG_MAXSMP


def parse_list(text: str, pointer: str) -> list[int]:
    """Return the numbers of a list of CPUs or memory nodes at `pointer`. Raises ConfigError."""
    from pyruntime.util import ranges

    try:
        return ranges.parse(text)
    except ValueError as error:
        raise ConfigError(str(error), pointer=pointer, hint='write the list as "0-3,7"') from None


def plan_reset(request: Request) -> Iterator[Step]:
    """SETUP: the caller of the runtime may be restricted to few CPUs; the container gets all that its cpuset
    allows (runc since 1.2), and the kernel narrows it to that when init joins its cgroup."""
    yield Step("", reset)


def plan_initial(request: Request) -> Iterator[Step]:
    """PREPARE of `exec`: the process is cloned into the container's cgroup with this affinity."""
    cpus = (request.process.get("execCPUAffinity") or {}).get("initial")
    if cpus:
        yield Step(f"{_FIELD}/initial", set_initial, cpus=parse_list(cpus, f"{_FIELD}/initial"))


def plan_final(request: Request) -> Iterator[Step]:
    """READY of `exec`: the process is in the container's cgroup by now. Without it, all CPUs of the cpuset."""
    cpus = (request.process.get("execCPUAffinity") or {}).get("final")
    if cpus:
        yield Step(f"{_FIELD}/final", set_final, cpus=parse_list(cpus, f"{_FIELD}/final"))
    elif not (request.process.get("execCPUAffinity") or {}).get("initial"):
        yield from plan_reset(request)


def set_initial(parent: ParentActor, cpus: list[int]) -> None:
    """run on the CPUs {cpus} until the process is in the container's cgroup"""
    _set(0, cpus)


def set_final(parent: ParentActor, cpus: list[int]) -> None:
    """allow the process the CPUs {cpus}"""
    _set(parent.pid, cpus)


def reset(parent: ParentActor) -> None:
    """allow the process every CPU of its cpuset"""
    online = posix.cpu_count() or 1
    if len(posix.sched_getaffinity(parent.pid)) < online:
        # The kernel drops what the cpuset or the machine does not have; numbers may have gaps.
        posix.sched_setaffinity(parent.pid, range(_FEW if online <= _FEW else _MANY))


def _set(pid: int, cpus: list[int]) -> None:
    try:
        posix.sched_setaffinity(pid, cpus)
    except OSError as error:
        if error.errno != EINVAL:
            raise
        shown = ",".join(map(str, cpus))
        raise StepError(
            f"run on the CPUs {shown}: invalid argument (EINVAL)",
            why="the cpuset has none of these CPUs, or the machine has none",
            hint="name CPUs of the container's cpuset (linux.resources.cpu.cpus)",
            syscall=f"sched_setaffinity({pid}, {shown})",
            errno="EINVAL",
        ) from error
