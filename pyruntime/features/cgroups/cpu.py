"""linux.resources.cpu, except cpus and mems: shares, bandwidth, real-time, idle. Times are microseconds."""

from __future__ import annotations

from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.features.cgroups import setting
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.spec.sections import Cpu

MIN_SHARES, MAX_SHARES = 2, 262144


def plan(cpu: Cpu, hierarchy: str, pointer: str, warn: Callable[[str], None]) -> Iterator[Step]:
    """Yield the steps for linux.resources.cpu."""
    shares = cpu.get("shares") or 0
    if shares and not MIN_SHARES <= shares <= MAX_SHARES:
        warn(
            f"config.json: {pointer}/shares: {shares} becomes {min(max(shares, MIN_SHARES), MAX_SHARES)}: "
            f"the kernel takes {MIN_SHARES} to {MAX_SHARES}"
        )
    if hierarchy == UNIFIED:
        yield from _v2(cpu, shares, pointer, warn)
    else:
        yield from _v1(cpu, shares, hierarchy, pointer)


def _v1(cpu: Cpu, shares: int, hierarchy: str, pointer: str) -> Iterator[Step]:
    def one(name: str, file: str, value: object) -> Step:
        return Step(f"{pointer}/{name}", setting.write, hierarchy=hierarchy, file=file, value=str(value))

    idle = cpu.get("idle")
    if idle is not None:
        yield one("idle", "cpu.idle", idle)
    if shares and idle != 1:  # an idle cgroup has no weight, the kernel refuses one
        yield one("shares", "cpu.shares", shares)
    together = []
    if cpu.get("period"):
        together.append(["cpu.cfs_period_us", str(cpu["period"])])
    if cpu.get("quota"):
        together.append(["cpu.cfs_quota_us", str(cpu["quota"])])
    if cpu.get("burst") is not None:
        together.append(["cpu.cfs_burst_us", str(cpu["burst"])])
    if together:
        yield Step(pointer, setting.write_together, hierarchy=hierarchy, writes=together)
    together = []
    if cpu.get("realtimePeriod"):
        together.append(["cpu.rt_period_us", str(cpu["realtimePeriod"])])
    if cpu.get("realtimeRuntime"):
        together.append(["cpu.rt_runtime_us", str(cpu["realtimeRuntime"])])
    if together:
        yield Step(pointer, setting.write_together, hierarchy=hierarchy, writes=together)


def _v2(cpu: Cpu, shares: int, pointer: str, warn: Callable[[str], None]) -> Iterator[Step]:
    def one(name: str, file: str, value: object) -> Step:
        place = f"{pointer}/{name}" if name else pointer
        return Step(place, setting.write, hierarchy=UNIFIED, file=file, value=str(value))

    for name in ("realtimeRuntime", "realtimePeriod"):
        if cpu.get(name):
            warn(f"config.json: {pointer}/{name} is ignored: cgroup v2 has no real-time limits")
    idle = cpu.get("idle")
    if idle is not None:
        yield one("idle", "cpu.idle", idle)
    if shares and idle != 1:
        yield one("shares", "cpu.weight", weight(shares))
    quota, period, burst = cpu.get("quota") or 0, cpu.get("period") or 0, cpu.get("burst")
    together = []
    if quota or period:
        limit = str(quota) if quota > 0 else "max"
        # Without a period the kernel keeps the one it has.
        together.append(["cpu.max", f"{limit} {period}" if period else limit])
    if burst is not None:
        together.append(["cpu.max.burst", str(burst)])
    if together:
        yield Step(pointer, setting.write_together, hierarchy=UNIFIED, writes=together)


def weight(shares: int) -> int:
    """cpu.weight (1 to 10000, default 100) for v1's shares (2 to 262144, default 1024).

    The curve through the three points that runc, crun and Kubernetes took in 2025: a quadratic function of the
    logarithm, so that 1024 shares are the default weight, and small shares stay apart."""
    if shares <= MIN_SHARES:
        return 1
    if shares >= MAX_SHARES:
        return 10000
    from math import ceil, log2  # v2 only

    power = log2(shares)
    return ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))
