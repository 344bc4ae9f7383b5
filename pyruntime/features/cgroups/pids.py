"""linux.resources.pids: how many tasks, threads among them, there may be at once."""

from __future__ import annotations

from pyruntime.features.cgroups import setting
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.spec.sections import Pids


def plan(pids: Pids, hierarchy: str, pointer: str, warn: Callable[[str], None]) -> Iterator[Step]:
    """Yield the step for the limit: -1 (and any other negative number) is none, 0 forbids every new task
    (runtime-spec 1.3; it was "no limit" before).

    For 0 the file gets 1, like systemd's TasksMax, which cannot be 0: init exists already."""
    limit = pids.get("limit")
    if limit is not None:
        value = "max" if limit < 0 else str(limit or 1)
        yield Step(f"{pointer}/limit", setting.write, hierarchy=hierarchy, file="pids.max", value=value)
