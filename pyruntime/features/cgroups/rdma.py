"""linux.resources.rdma: handles and objects of RDMA devices."""

from __future__ import annotations

from pyruntime.features.cgroups import setting
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def plan(rdma: dict[str, dict[str, int]], hierarchy: str, pointer: str, warn: Callable[[str], None]) -> Iterator[Step]:
    """Yield the steps for each device; what is not given stays as it is."""
    for device, limits in rdma.items():
        words = [
            f"{key}={limits[name]}"
            for name, key in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
            if limits.get(name) is not None
        ]
        if words:
            place = f"{pointer}/{device.replace('~', '~0').replace('/', '~1')}"
            value = " ".join((device, *words))
            yield Step(place, setting.write, hierarchy=hierarchy, file="rdma.max", value=value)
