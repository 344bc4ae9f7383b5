"""--systemd-cgroup: systemd makes the container's cgroup, as a transient scope (org.freedesktop.systemd1(5)).

cgroupsPath is `slice:prefix:name`; the unit is `prefix-name.scope` in that slice. A scope needs a process, so it is
made once init is cloned, and init continues when it is in. Limits are given to systemd as properties, so that it
keeps them when it reloads, and then written to the files as without it: not all have a property.
"""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, PyruntimeError, StateError
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.features.cgroups.systemd_bus import Bus, Property
    from pyruntime.plan.actors import CgroupActor, ParentActor
    from pyruntime.plan.request import Request
    from pyruntime.state.store import Record

POINTER = "/linux/cgroupsPath"


def plan_create(request: Request) -> Iterator[Step]:
    """PREPARE: the record's note of the unit."""
    _, unit = unit_of(request)
    yield Step(POINTER if request.linux.get("cgroupsPath") else "", note, unit=unit, user=request.rootless)


def plan_start(request: Request) -> Iterator[Step]:
    """SETUP, before anything that needs the cgroup: the scope, with init in it."""
    if not request.systemd_cgroup:
        return
    from pyruntime.features.cgroups import limits
    from pyruntime.features.cgroups.systemd_properties import from_annotations

    slice, unit = unit_of(request)
    yield Step(
        POINTER if request.linux.get("cgroupsPath") else "",
        start,
        unit=unit,
        slice=slice,
        user=request.rootless,
        id=request.id,
        mount_points={h.name: h.mount_point for h in request.layout.hierarchies},
        controllers=limits.needed(request.linux.get("resources") or {}, request.layout),
        properties=from_annotations(request.config.get("annotations") or {}),
    )


def plan_limits(request: Request) -> Iterator[Step]:
    """HOOKS: the limits that systemd has properties for."""
    if not request.systemd_cgroup:
        return
    from pyruntime.features.cgroups.systemd_properties import from_resources

    resources = request.linux.get("resources") or {}
    properties = from_resources(resources, v2=request.layout.kind == "v2")
    if properties:
        _, unit = unit_of(request)
        yield Step("/linux/resources", set_properties, unit=unit, user=request.rootless, properties=properties)


def unit_of(request: Request) -> tuple[str, str]:
    """Return (slice, unit) of a container. Raises ConfigError for a cgroupsPath of another form."""
    path: str = request.linux.get("cgroupsPath") or ""
    default = "user.slice" if request.rootless else "system.slice"
    if not path:
        return default, f"pyruntime-{request.id}.scope"
    parts = path.split(":")
    if len(parts) != 3:
        raise ConfigError(
            f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "{path}" instead',
            pointer=POINTER,
            hint="write it so, or leave out --systemd-cgroup",
        )
    slice, prefix, name = parts
    slice = slice or default
    if name.endswith(".slice"):
        raise ConfigError(
            f'"{name}" is the name of a slice, which holds no processes', pointer=POINTER, hint='as "a-b.slice:box:web"'
        )
    if not slice.endswith(".slice") or "/" in path or ".." in path or not name:
        raise ConfigError(
            f'"{path}" does not have the form slice:prefix:name', pointer=POINTER, hint='as "system.slice:box:web"'
        )
    return slice, f"{prefix}-{name}.scope" if prefix else f"{name}.scope"


def expand(slice: str) -> str:
    """Return the path of a slice: /a.slice/a-b.slice for a-b.slice; "" for -.slice (systemd.slice(5))."""
    names = slice.removesuffix(".slice").split("-")
    if slice == "-.slice":
        return ""
    if "" in names:
        raise ConfigError(f'"{slice}" is not the name of a slice', pointer=POINTER, hint='as "machine-web.slice"')
    return "".join(f"/{'-'.join(names[: index + 1])}.slice" for index in range(len(names)))


def directories_of(request: Request) -> dict[str, str]:
    """hierarchy -> absolute directory that the scope will have."""
    slice, unit = unit_of(request)
    found = {}
    for hierarchy in request.layout.hierarchies:
        manager = _manager_of(hierarchy.own) if request.rootless else ""
        found[hierarchy.name] = f"{hierarchy.mount_point}{manager}{expand(slice)}/{unit}"
    return found


def _manager_of(own: str) -> str:
    """Return the cgroup of the user's systemd, which this process runs below: …/user@1000.service."""
    parts = own.split("/")
    for index, part in enumerate(parts):
        if part.startswith("user@") and part.endswith(".service"):
            return "/".join(parts[: index + 1])
    return ""


def require() -> None:
    """Raise StateError on a host without systemd."""
    if not posix.access("/run/systemd/system", posix.F_OK):  # sd_booted(3)
        raise StateError("systemd not running on this host, cannot use systemd cgroups manager")


def note(parent: ParentActor, unit: str, user: bool) -> None:
    """note that systemd makes {unit}"""
    parent.record.cgroup_manager = "systemd"
    parent.record.extra["systemd"] = {"unit": unit, "user": user}
    parent.record.save()


def start(
    parent: ParentActor,
    unit: str,
    slice: str,
    user: bool,
    id: str,
    mount_points: dict[str, str],
    controllers: list[str],
    properties: list[tuple[str, str, object]],
) -> None:
    """make {unit} in {slice} by systemd"""
    from pyruntime.features.cgroups.systemd_bus import EXISTS, Bus, BusError

    wanted: list[Property] = [
        ("Description", ("s", f"pyruntime container {id}")),
        ("Slice", ("s", slice)),
        ("PIDs", ("au", [parent.pid])),
        ("Delegate", ("b", True)),
        ("DefaultDependencies", ("b", False)),
        ("CollectMode", ("s", "inactive-or-failed")),
        *((f"{name}Accounting", ("b", True)) for name in ("CPU", "Memory", "Tasks", "IO")),
    ]
    given = [(name, (kind, value)) for name, kind, value in properties]
    names = {name for name, _ in given}
    request: tuple[object, ...] = (unit, "replace", [one for one in wanted if one[0] not in names] + given, [])
    bus = Bus(user=user)
    try:
        try:
            bus.run_job("StartTransientUnit", "ssa(sv)a(sa(sv))", request)
        except BusError as error:
            if error.name != EXISTS:
                raise
            # What is left of a scope that has failed can be forgotten. A running one is not ours.
            _forget(bus, unit)
            try:
                bus.run_job("StartTransientUnit", "ssa(sv)a(sa(sv))", request)
            except BusError:
                del parent.record.extra["systemd"]
                parent.record.save()
                raise
        _enter_all(parent, bus.control_group(unit), mount_points, controllers, rootless=user)
    finally:
        bus.close()


def _enter_all(
    parent: ParentActor, path: str, mount_points: dict[str, str], required: list[str], *, rootless: bool
) -> None:
    """Note where the scope is; on v1, put init into the hierarchies that systemd does not use too."""
    from pyruntime.cgroupfs import control_files
    from pyruntime.cgroupfs.layout import UNIFIED
    from pyruntime.features.cgroups import controllers, directories
    from pyruntime.state import cgroup_identity

    cgroups = {name: f"{mount_point}{path}" for name, mount_point in mount_points.items()}
    parent.record.cgroups = cgroups
    cgroup_identity.begin(parent.record, rootless=rootless)
    inodes = parent.record.extra[cgroup_identity.INODES]
    for name, directory in cgroups.items():
        if posix.access(directory, posix.F_OK):
            # Made by systemd just now, or left by a container that has stopped where systemd has no hierarchy.
            cgroup_identity.take_over(parent.record, directory)
            cgroup_identity.note(parent.record, name, directory)
    parent.record.save()
    for name, directory in cgroups.items():
        if name == UNIFIED and len(cgroups) == 1:
            controllers.enable(directory, required, others=False)
            continue
        if name not in inodes:
            if not directories.make(name, directory):
                cgroup_identity.take_over(parent.record, directory)
            cgroup_identity.note(parent.record, name, directory)
            parent.record.save()
        control_files.write(directory, "cgroup.procs", str(parent.pid))


def set_properties(actor: CgroupActor, unit: str, user: bool, properties: list[tuple[str, str, object]]) -> None:
    """set the limits of {unit} in systemd: {properties}"""
    from pyruntime.features.cgroups.systemd_bus import Bus

    bus = Bus(user=user)
    try:
        given = [(name, (kind, value)) for name, kind, value in properties]
        bus.call("SetUnitProperties", "sba(sv)", (unit, True, given))
    finally:
        bus.close()


def stop(record: Record) -> None:
    """Remove the scope of a container whose processes are dead; one that is gone is not an error.

    A scope of the same name that another container runs in is left alone. Before the record has the cgroups of the
    scope, init ends with its parent, and systemd removes a scope without processes."""
    from pyruntime.state import cgroup_identity

    noted = record.extra.get("systemd")
    kinds = [cgroup_identity.kind(record, name) for name in record.cgroups]
    if not noted or not kinds or cgroup_identity.FOREIGN in kinds:
        return
    try:
        from pyruntime.features.cgroups.systemd_bus import NO_SUCH_UNIT, Bus, BusError

        bus = Bus(user=noted["user"])
        try:
            bus.run_job("StopUnit", "ss", (noted["unit"], "replace"))
        except BusError as error:
            if error.name != NO_SUCH_UNIT:
                raise
        finally:
            _forget(bus, noted["unit"])
            bus.close()
    except (PyruntimeError, ImportError):
        # The user's systemd may have gone with the user. The cgroup itself is removed in any case.
        pass


def _forget(bus: Bus, unit: str) -> None:
    try:
        bus.call("ResetFailedUnit", "s", (unit,))
    except StateError:
        pass
