"""process.scheduler: the scheduling policy (sched(7), sched_setattr(2)).

The parent sets it, with its privileges: in a user namespace CAP_SYS_NICE does not reach as far.
"""

from __future__ import annotations

from pyruntime.errors import ConfigError, KernelError, StepError, errno_name, strerror
from pyruntime.kernel.scheduling import set_scheduler
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import ParentActor
    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import Scheduler

# linux/sched.h; SCHED_ISO is a number that Linux keeps free and refuses.
POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
_REAL_TIME = ("SCHED_FIFO", "SCHED_RR")
_DEADLINE = "SCHED_DEADLINE"
_NICE = range(-20, 20)


def plan(request: Request) -> Iterator[Step]:
    """READY: the last thing but the limits, so that init itself is not starved. Raises ConfigError."""
    if not (request.spawns() and _is_not_inherited(request.process["scheduler"])):
        yield from _plan(request)


def plan_spawned(request: Request) -> Iterator[Step]:
    """SPAWNED: the policies that do not reach a clone. Raises ConfigError."""
    if request.spawns() and _is_not_inherited(request.process["scheduler"]):
        yield from _plan(request)


def _is_not_inherited(given: Scheduler) -> bool:
    """sched(7): a deadline task cannot fork at all."""
    return given["policy"] == _DEADLINE or "SCHED_FLAG_RESET_ON_FORK" in (given.get("flags") or ())


def _plan(request: Request) -> Iterator[Step]:
    """Yield the step.

    Raises ConfigError for values that go with another policy (runtime-spec config.md, "scheduler")."""
    given = request.process["scheduler"]
    here = "/process/scheduler"
    policy = given["policy"]
    nice, priority = given.get("nice") or 0, given.get("priority") or 0
    if nice not in _NICE:
        raise ConfigError(f"nice is -20 to 19, not {nice}", pointer=f"{here}/nice")
    if priority and policy not in _REAL_TIME:
        raise ConfigError(
            f"{policy} has no priority",
            pointer=f"{here}/priority",
            hint=f"use nice, or {' or '.join(_REAL_TIME)}",
        )
    times = {
        "runtime": given.get("runtime") or 0,
        "deadline": given.get("deadline") or 0,
        "period": given.get("period") or 0,
    }
    for name, value in times.items():
        if value and policy != _DEADLINE:
            raise ConfigError(f"{policy} has no {name}", pointer=f"{here}/{name}", hint=f"use {_DEADLINE}")
    yield Step(
        here,
        set_policy,
        policy=policy,
        nice=nice,
        priority=priority,
        flags=list(given.get("flags") or ()),
        runtime=times["runtime"],
        deadline=times["deadline"],
        period=times["period"],
    )


def set_policy(
    parent: ParentActor,
    policy: str,
    nice: int,
    priority: int,
    flags: list[str],
    runtime: int,
    deadline: int,
    period: int,
) -> None:
    """schedule the process as {policy}"""
    bits = 0
    for flag in flags:
        bits |= FLAGS[flag]
    try:
        set_scheduler(parent.pid, POLICIES[policy], bits, nice, priority, runtime, deadline, period)
    except KernelError as error:
        name = errno_name(error.errno)
        why, hint = _reason(policy, name)
        raise StepError(
            f"schedule the process as {policy}: {strerror(error.errno)} ({name})",
            why=why,
            hint=hint,
            step=f"schedule the process as {policy}",
            syscall=error.call(),
            errno=name,
        ) from error


def _reason(policy: str, errno: str) -> tuple[str | None, str | None]:
    """Return why a policy is refused, and what to do (sched_setattr(2), Documentation/scheduler)."""
    if errno == "EPERM" and policy == _DEADLINE:
        return (
            "it takes CAP_SYS_NICE, and a cpuset that is all CPUs of a root domain",
            "leave linux.resources.cpu.cpus out, or make the cpuset exclusive",
        )
    if errno == "EPERM" and policy in _REAL_TIME:
        return (
            "it takes CAP_SYS_NICE, and on cgroup v1 real time: cpu.rt_runtime_us of its cgroup is 0",
            "set linux.resources.cpu.realtimeRuntime (cgroup v1), or use another policy",
        )
    if errno == "EPERM":
        return "a lower nice value takes CAP_SYS_NICE", "ask for a higher one"
    if errno == "EBUSY":
        return "the CPUs have not that much time to give", "lower runtime, or raise period"
    if errno == "EINVAL" and policy == _DEADLINE:
        return "runtime <= deadline <= period must hold, and runtime be 1024 ns or more", "correct the times"
    if errno == "EINVAL" and policy in _REAL_TIME:
        return "priority must be 1 to 99", "set /process/scheduler/priority"
    if errno == "EINVAL":
        return "this kernel has no such policy, or not with these flags", None
    return None, None
