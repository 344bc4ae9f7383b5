"""linux.resources.network: marks for the container's packets (v1's net_cls and net_prio; v2 has neither)."""

from __future__ import annotations

from pyruntime.features.cgroups import setting
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.spec.sections import Network


def plan(network: Network, hierarchy: str, pointer: str, warn: Callable[[str], None]) -> Iterator[Step]:
    """Yield the steps for classID and priorities, each in its own hierarchy."""
    if network.get("classID"):
        value = str(network["classID"])
        yield Step(f"{pointer}/classID", setting.write, hierarchy=hierarchy, file="net_cls.classid", value=value)
    lines = [f"{entry['name']} {entry['priority']}" for entry in network.get("priorities") or ()]
    if lines:
        yield Step(
            f"{pointer}/priorities",
            setting.write_lines,
            hierarchy=hierarchy,
            file="net_prio.ifpriomap",
            value=lines,
        )
