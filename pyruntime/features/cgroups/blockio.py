"""linux.resources.blockIO: weights, and limits of bytes and operations a second for a device."""

from __future__ import annotations

from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.features.cgroups import setting
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.spec.sections import BlockIO, DeviceRate

# member -> (file of v1, key in io.max of v2)
THROTTLES = {
    "throttleReadBpsDevice": ("blkio.throttle.read_bps_device", "rbps"),
    "throttleWriteBpsDevice": ("blkio.throttle.write_bps_device", "wbps"),
    "throttleReadIOPSDevice": ("blkio.throttle.read_iops_device", "riops"),
    "throttleWriteIOPSDevice": ("blkio.throttle.write_iops_device", "wiops"),
}


def _throttled(block: BlockIO) -> dict[str, list[DeviceRate] | None]:
    """Return the members of THROTTLES."""
    return {
        "throttleReadBpsDevice": block.get("throttleReadBpsDevice"),
        "throttleWriteBpsDevice": block.get("throttleWriteBpsDevice"),
        "throttleReadIOPSDevice": block.get("throttleReadIOPSDevice"),
        "throttleWriteIOPSDevice": block.get("throttleWriteIOPSDevice"),
    }


def plan(block: BlockIO, hierarchy: str, pointer: str, warn: Callable[[str], None]) -> Iterator[Step]:
    """Yield the steps for linux.resources.blockIO. Weights are 10 to 1000, in v1's scale."""
    if hierarchy == UNIFIED:
        yield from _v2(block, pointer, warn)
    else:
        yield from _v1(block, hierarchy, pointer)


def _v1(block: BlockIO, hierarchy: str, pointer: str) -> Iterator[Step]:
    # The CFQ scheduler's files went with Linux 5.0; those of BFQ are there when it is built in.
    for name, file, value in (
        ("weight", "weight", block.get("weight")),
        ("leafWeight", "leaf_weight", block.get("leafWeight")),
    ):
        if value:
            yield _first(f"{pointer}/{name}", hierarchy, _both("", file, str(value)))
    for index, device in enumerate(block.get("weightDevice") or ()):
        number = f"{device['major']}:{device['minor']}"
        for name, file, value in (
            ("weight", "weight_device", device.get("weight")),
            ("leafWeight", "leaf_weight_device", device.get("leafWeight")),
        ):
            if value:
                choices = _both("", file, f"{number} {value}")
                yield _first(f"{pointer}/weightDevice/{index}/{name}", hierarchy, choices)
    for name, rates in _throttled(block).items():
        file, _ = THROTTLES[name]
        lines = [f"{d['major']}:{d['minor']} {d['rate']}" for d in rates or ()]
        if lines:
            yield Step(f"{pointer}/{name}", setting.write_lines, hierarchy=hierarchy, file=file, value=lines)


def _both(prefix: str, file: str, value: str) -> list[list[str]]:
    return [[f"blkio.{file}", value], [f"blkio.bfq.{file}", value]]


def _v2(block: BlockIO, pointer: str, warn: Callable[[str], None]) -> Iterator[Step]:
    if block.get("leafWeight"):
        warn(f"config.json: {pointer}/leafWeight is ignored: cgroup v2 has none")
    weight = block.get("weight") or 0
    if weight:
        choices = [["io.bfq.weight", str(weight)], ["io.weight", f"default {scaled(weight)}"]]
        yield _first(f"{pointer}/weight", UNIFIED, choices)
    for index, device in enumerate(block.get("weightDevice") or ()):
        place = f"{pointer}/weightDevice/{index}"
        if device.get("leafWeight"):
            warn(f"config.json: {place}/leafWeight is ignored: cgroup v2 has none")
        if device.get("weight"):
            number = f"{device['major']}:{device['minor']}"
            choices = [
                ["io.bfq.weight", f"{number} {device['weight']}"],
                ["io.weight", f"{number} {scaled(device['weight'])}"],
            ]
            yield _first(f"{place}/weight", UNIFIED, choices)
    for name, rates in _throttled(block).items():
        _, key = THROTTLES[name]
        # v1 takes a limit away by 0, v2 by max.
        lines = [f"{d['major']}:{d['minor']} {key}={d['rate'] or 'max'}" for d in rates or ()]
        if lines:
            yield Step(f"{pointer}/{name}", setting.write_lines, hierarchy=UNIFIED, file="io.max", value=lines)


def _first(pointer: str, hierarchy: str, choices: list[list[str]]) -> Step:
    return Step(pointer, setting.write_first, hierarchy=hierarchy, choices=choices)


def scaled(weight: int) -> int:
    """io.weight (1 to 10000) for a weight of v1 (10 to 1000): the straight line between the ends."""
    return 1 + (weight - 10) * 9999 // 990
