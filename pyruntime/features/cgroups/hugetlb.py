"""linux.resources.hugepageLimits: how much of each size of huge page the container may use, in bytes."""

from __future__ import annotations

from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.errors import ConfigError
from pyruntime.features.cgroups import setting
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.spec.sections import HugepageLimit


def plan(limits: list[HugepageLimit], hierarchy: str, pointer: str, warn: Callable[[str], None]) -> Iterator[Step]:
    """Yield the steps for each page size: the limit of use, and that of reservation, where the kernel has one (5.7)."""
    ending = "max" if hierarchy == UNIFIED else "limit_in_bytes"
    for index, entry in enumerate(limits):
        size, value = entry["pageSize"], str(entry["limit"])
        place = f"{pointer}/{index}"
        if not size[:1].isdigit() or not size.isalnum():
            raise ConfigError(f'invalid page size "{size}"', pointer=f"{place}/pageSize", hint='write it as "2MB"')
        yield Step(place, setting.write, hierarchy=hierarchy, file=f"hugetlb.{size}.{ending}", value=value)
        yield Step(
            place,
            setting.write_if_possible,
            hierarchy=hierarchy,
            file=f"hugetlb.{size}.rsvd.{ending}",
            value=value,
            otherwise="",
        )
