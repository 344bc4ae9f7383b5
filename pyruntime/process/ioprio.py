"""process.ioPriority: the priority of reads and writes (ioprio_set(2))."""

from __future__ import annotations

from pyruntime.errors import ConfigError, KernelError, StepError
from pyruntime.kernel.scheduling import set_io_priority
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyruntime.plan.request import Request

CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_LEVELS = range(8)


def plan(request: Request) -> Iterator[Step]:
    """READY: the parent sets it, because the real-time class takes CAP_SYS_ADMIN or CAP_SYS_NICE outside of
    any user namespace."""
    given = request.process.get("ioPriority")
    if not given:
        return
    klass, priority = given.get("class", "IOPRIO_CLASS_BE"), given.get("priority") or 0
    if klass not in CLASSES:
        raise ConfigError(
            f"{klass} is not a class",
            pointer="/process/ioPriority/class",
            mend=f"use one of {', '.join(CLASSES)}",
        )
    if priority not in _LEVELS:
        raise ConfigError(f"priority is 0 to 7, not {priority}", pointer="/process/ioPriority/priority")
    yield Step("/process/ioPriority", set_priority, klass=klass, priority=priority)


def set_priority(parent: Any, klass: str, priority: int) -> None:
    """set the I/O priority to {klass}, level {priority}"""
    try:
        set_io_priority(parent.pid, CLASSES[klass], priority)
    except KernelError as error:
        if error.errno != 1:
            raise
        raise StepError(
            f"set the I/O priority to {klass}, level {priority}: operation not permitted (EPERM)",
            why="the real-time class takes CAP_SYS_ADMIN or CAP_SYS_NICE",
            mend="use IOPRIO_CLASS_BE",
            syscall=error.call(),
            errno="EPERM",
        ) from error
