"""linux.resources.memory. Sizes are bytes, -1 is no limit, and a missing or zero value leaves things as they are."""

from __future__ import annotations

from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.errors import ConfigError
from pyruntime.features.cgroups import setting
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.plan.actors import CgroupActor
    from pyruntime.spec.sections import Memory


def plan(memory: Memory, hierarchy: str, pointer: str, warn: Callable[[str], None]) -> Iterator[Step]:
    """Yield the steps for linux.resources.memory."""
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if swap > 0 and limit > swap:
        raise ConfigError(
            f"{swap} is less than the memory limit of {limit} bytes",
            pointer=f"{pointer}/swap",
            why="swap is the limit of memory and swap together",
        )
    if limit == -1 and not swap:
        swap = -1
    if memory.get("kernel"):
        warn(
            f"config.json: {pointer}/kernel is ignored: Linux has no separate limit of kernel memory since 5.16, "
            "it counts in the memory limit"
        )
    if hierarchy == UNIFIED:
        yield from _v2(memory, limit, swap, pointer, warn)
    else:
        yield from _v1(memory, limit, swap, hierarchy, pointer)


def _v1(memory: Memory, limit: int, swap: int, hierarchy: str, pointer: str) -> Iterator[Step]:
    if memory.get("useHierarchy"):
        # Always so since Linux 5.11, whose file takes 1 only.
        yield _v1_if_possible(f"{pointer}/useHierarchy", hierarchy, "memory.use_hierarchy", "1", "")
    writes = []
    if limit:
        writes.append(["memory.limit_in_bytes", str(limit)])
    if swap and swap != -1:
        writes.append(["memory.memsw.limit_in_bytes", str(swap)])
    if swap == -1:
        # Before the memory limit, which may not pass it; where swap is not counted there is nothing to lift.
        yield _v1_if_possible(f"{pointer}/swap", hierarchy, "memory.memsw.limit_in_bytes", "-1", "")
    if writes:
        yield Step(pointer, setting.write_together, hierarchy=hierarchy, writes=writes)
    if memory.get("reservation"):
        yield Step(
            f"{pointer}/reservation",
            setting.write,
            hierarchy=hierarchy,
            file="memory.soft_limit_in_bytes",
            value=str(memory["reservation"]),
        )
    if memory.get("kernelTCP"):
        text = f"config.json: {pointer}/kernelTCP is ignored: this kernel has no limit of TCP memory"
        file = "memory.kmem.tcp.limit_in_bytes"
        yield _v1_if_possible(f"{pointer}/kernelTCP", hierarchy, file, str(memory["kernelTCP"]), text)
    if memory.get("swappiness") is not None:
        yield Step(
            f"{pointer}/swappiness",
            setting.write,
            hierarchy=hierarchy,
            file="memory.swappiness",
            value=str(memory["swappiness"]),
        )
    if memory.get("disableOOMKiller"):
        yield Step(
            f"{pointer}/disableOOMKiller",
            setting.write,
            hierarchy=hierarchy,
            file="memory.oom_control",
            value="1",
        )


def _v1_if_possible(pointer: str, hierarchy: str, file: str, value: str, otherwise: str) -> Step:
    return Step(pointer, setting.write_if_possible, hierarchy=hierarchy, file=file, value=value, otherwise=otherwise)


def _v2(memory: Memory, limit: int, swap: int, pointer: str, warn: Callable[[str], None]) -> Iterator[Step]:
    for name, reason in (
        ("kernelTCP", "cgroup v2 counts it in the memory limit"),
        ("swappiness", "cgroup v2 has no swappiness of a cgroup"),
        ("disableOOMKiller", "cgroup v2 cannot switch the OOM killer off"),
    ):
        # A swappiness of 0 asks for something: never to swap.
        if memory.get(name) or (name == "swappiness" and memory.get(name) is not None):
            warn(f"config.json: {pointer}/{name} is ignored: {reason}")
    if memory.get("checkBeforeUpdate") and limit > 0:
        yield Step(f"{pointer}/checkBeforeUpdate", require_room, limit=limit, hierarchy=UNIFIED)
    if swap > 0:
        if limit <= 0:
            raise ConfigError(
                "needs a memory limit beside it",
                pointer=f"{pointer}/swap",
                why="cgroup v2 limits swap alone, which is swap minus limit",
            )
        yield _v2_write(f"{pointer}/swap", "memory.swap.max", str(swap - limit))
    elif swap:
        yield Step(
            f"{pointer}/swap",
            setting.write_if_possible,
            hierarchy=UNIFIED,
            file="memory.swap.max",
            value="max",
            otherwise="",
        )
    if limit:
        yield _v2_write(f"{pointer}/limit", "memory.max", _or_max(limit))
    if memory.get("reservation"):
        yield _v2_write(f"{pointer}/reservation", "memory.low", _or_max(memory["reservation"]))


def _v2_write(pointer: str, file: str, value: str) -> Step:
    return Step(pointer, setting.write, hierarchy=UNIFIED, file=file, value=value)


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def require_room(actor: CgroupActor, limit: int, hierarchy: str) -> None:
    """refuse a memory limit of {limit} below what the container uses

    Without this the kernel would kill until it fits (runtime-spec, "checkBeforeUpdate")."""
    from pyruntime.util.fileio import read_file

    used = int(read_file(f"{setting.directory_of(actor, hierarchy)}/memory.current"))
    if used > limit:
        raise ConfigError(f"rejecting memory limit {limit} < usage {used}", hint="give a higher limit")
