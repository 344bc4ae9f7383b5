"""linux.resources as steps: which controller serves what, and where (runtime-spec config-linux.md, "Control groups").

Each controller's module has `plan(limits, hierarchy)`: the steps for one member of linux.resources, in the words
of v1, or of v2 where the hierarchy is the cgroup2 tree.
"""

from __future__ import annotations

from pyruntime.cgroupfs.layout import UNIFIED, Layout
from pyruntime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyruntime.plan.request import Request
    from pyruntime.plan.step import Step
    from pyruntime.spec.sections import Resources

POINTER = "/linux/resources"

# (member of linux.resources, its members that count or () for all, controller in v1, in v2, module)
_CPU = ("shares", "quota", "burst", "period", "realtimeRuntime", "realtimePeriod", "idle")
CONTROLLERS: tuple[tuple[str, tuple[str, ...], str, str, str], ...] = (
    ("cpu", ("cpus", "mems"), "cpuset", "cpuset", "cpuset"),
    ("cpu", _CPU, "cpu", "cpu", "cpu"),
    ("memory", (), "memory", "memory", "memory"),
    ("pids", (), "pids", "pids", "pids"),
    ("blockIO", (), "blkio", "io", "blockio"),
    ("hugepageLimits", (), "hugetlb", "hugetlb", "hugetlb"),
    ("network", ("classID",), "net_cls", "", "net_cls"),
    ("network", ("priorities",), "net_prio", "", "net_cls"),
    ("rdma", (), "rdma", "rdma", "rdma"),
)

_ZERO_IS_A_VALUE = frozenset((("pids", "limit"), ("memory", "swappiness"), ("cpu", "idle"), ("cpu", "burst")))


def plan(request: Request) -> Iterator[Step]:
    """HOOKS: all limits, once the device nodes are made and before a hook runs."""
    resources = request.linux.get("resources") or {}
    if resources.get("unified"):
        from pyruntime.features.cgroups import unified

        unified.check_new(resources["unified"])
    if request.systemd_cgroup:
        from pyruntime.features.cgroups import systemd

        yield from systemd.plan_limits(request)
    yield from plan_resources(resources, request.layout, request.warn)
    from pyruntime.features.cgroups import devices

    yield from devices.plan(resources.get("devices") or [], request)


def plan_resources(resources: Resources, layout: Layout, warn: Callable[[str], None]) -> Iterator[Step]:
    """Yield the steps for all but the device rules. Raises ConfigError for what this host's cgroups cannot do."""
    for member, part, controller in asked(resources, layout):
        pointer = f"{POINTER}/{member}"
        if not controller.hierarchy:
            raise ConfigError(
                f"this host has no cgroup controller {controller.name}",
                pointer=pointer,
                why="its cgroups are " + (layout.kind if layout.kind != "none" else "not mounted, or not to be seen"),
                hint="leave out the limit, or mount or enable the controller",
            )
        module = __import__(f"pyruntime.features.cgroups.{controller.module}", None, None, ("plan",))
        yield from module.plan(part, controller.hierarchy, pointer, warn)
    if resources.get("unified"):
        from pyruntime.features.cgroups import unified

        yield from unified.plan(resources["unified"], layout)


class Controller:
    """A controller that a limit needs: its name, the hierarchy that has it ("" for none), and its module."""

    __slots__ = ("hierarchy", "module", "name")

    def __init__(self, name: str, hierarchy: str, module: str) -> None:
        self.name = name
        self.hierarchy = hierarchy
        self.module = module


def asked(resources: Resources, layout: Layout) -> Iterator[tuple[str, Any, Controller]]:
    """Yield what is really asked for: (member of linux.resources, its value, controller). Zeros mean unset."""
    for member, names, v1, v2, module in CONTROLLERS:
        value: Any = resources.get(member)
        if not value:
            continue
        if names:
            value = {name: value[name] for name in names if name in value}
        if isinstance(value, dict) and not any(_is_set(member, name, one) for name, one in value.items()):
            continue
        hierarchy = layout.serving(v1)
        if hierarchy in ("", UNIFIED):
            hierarchy = layout.serving(v2) if v2 else ""
        yield member, value, Controller(v1 if layout.kind != "v2" else v2 or v1, hierarchy, module)


def _is_set(member: str, name: str, value: object) -> bool:
    return bool(value) or (value is not None and (member, name) in _ZERO_IS_A_VALUE)


def needed(resources: Resources, layout: Layout) -> list[str]:
    """Return the controllers that the container's cgroup2 cgroup must have for its limits."""
    names = {one.name for _, _, one in asked(resources, layout) if one.hierarchy == UNIFIED}
    if "blkio" in names:
        names = names - {"blkio"} | {"io"}
    for file in resources.get("unified") or ():
        controller = file.partition(".")[0]
        if layout.serving(controller) == UNIFIED:
            names.add(controller)
    return sorted(names)
