"""Scheduling, I/O priority and memory policy: sched_setattr(2), ioprio_set(2), set_mempolicy(2)."""

from __future__ import annotations

from pyruntime.kernel.call import check, ffi, lib
from pyruntime.kernel.constants import IOPRIO_CLASS_SHIFT, IOPRIO_WHO_PROCESS

_WORD = 64  # bits of an unsigned long


def set_scheduler(
    pid: int, policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int
) -> None:
    """sched_setattr(2); runtime, deadline and period in nanoseconds."""
    result = lib.shim_sched_setattr(pid, policy, flags, nice, priority, runtime, deadline, period)
    check(
        result,
        "sched_setattr",
        f"policy={policy}",
        f"flags={flags:#x}",
        f"nice={nice}",
        f"priority={priority}",
    )


def set_io_priority(pid: int, klass: int, priority: int) -> None:
    """ioprio_set(2) of one process."""
    value = klass << IOPRIO_CLASS_SHIFT | priority
    check(lib.shim_ioprio_set(IOPRIO_WHO_PROCESS, pid, value), "ioprio_set", f"class={klass}", priority)


def io_priority(pid: int) -> tuple[int, int]:
    """ioprio_get(2) of one process or thread: class and priority."""
    value = check(lib.shim_ioprio_get(IOPRIO_WHO_PROCESS, pid), "ioprio_get", pid)
    return value >> IOPRIO_CLASS_SHIFT, value & ((1 << IOPRIO_CLASS_SHIFT) - 1)


def set_memory_policy(mode: int, nodes: list[int]) -> None:
    """set_mempolicy(2) of this thread; mode has the flags in it already."""
    if not nodes:
        check(lib.shim_set_mempolicy(mode, ffi.NULL, 0), "set_mempolicy", hex(mode), "no nodes")
        return
    words = [0] * (max(nodes) // _WORD + 1)
    for node in nodes:
        words[node // _WORD] |= 1 << node % _WORD
    mask = ffi.new("unsigned long[]", words)
    # The kernel reads one bit less than maxnode says (get_nodes in mm/mempolicy.c, so since Linux 2.6.7).
    check(
        lib.shim_set_mempolicy(mode, mask, len(words) * _WORD + 1),
        "set_mempolicy",
        hex(mode),
        ",".join(map(str, nodes)),
    )
