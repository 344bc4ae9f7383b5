"""process.ioPriority: the priority of reads and writes (ioprio_set(2))."""

from __future__ import annotations

from pyruntime.errors import KernelError, StepError
from pyruntime.kernel.constants import EPERM
from pyruntime.kernel.scheduling import set_io_priority
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import ParentActor
    from pyruntime.plan.request import Request

CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}


def plan(request: Request) -> Iterator[Step]:
    """READY: the parent sets it, because the real-time class takes CAP_SYS_ADMIN or CAP_SYS_NICE outside of
    any user namespace."""
    given = request.process.get("ioPriority")
    if given:
        yield Step("/process/ioPriority", set_priority, klass=given["class"], priority=given.get("priority") or 0)


def set_priority(parent: ParentActor, klass: str, priority: int) -> None:
    """set the I/O priority to {klass}, level {priority}"""
    try:
        set_io_priority(parent.pid, CLASSES[klass], priority)
    except KernelError as error:
        if error.errno != EPERM:
            raise
        raise StepError(
            f"set the I/O priority to {klass}, level {priority}: operation not permitted (EPERM)",
            why="the real-time class takes CAP_SYS_ADMIN or CAP_SYS_NICE",
            hint="use IOPRIO_CLASS_BE",
            syscall=error.call(),
            errno="EPERM",
        ) from error
