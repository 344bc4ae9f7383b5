"""Changing the limits of a container that is there already: all of the change, or none of it."""

from __future__ import annotations

from pyruntime.cgroupfs import control_files, freezer
from pyruntime.cgroupfs.layout import UNIFIED, Hierarchy, Layout, serving_hierarchy
from pyruntime.errors import ConfigError, PyruntimeError
from pyruntime.features.cgroups import devices, limits, setting
from pyruntime.plan.step import execute
from pyruntime.state import store
from pyruntime.util import fastjson
from pyruntime.util.fileio import read_file, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyruntime.plan.step import Step
    from pyruntime.spec.sections import Config, DeviceRule, Resources
    from pyruntime.state.store import Record

# A zero means "as it was" in what engines send, except here (runtime-spec 1.3).
_ZERO_IS_A_VALUE = frozenset(("limit in pids", "swappiness in memory", "idle in cpu", "burst in cpu"))


class Updater:
    """What the steps of an update act on."""

    __slots__ = ("record", "trace", "warn")

    def __init__(self, record: Record, warn: Callable[[str], None]) -> None:
        self.record = record
        self.warn = warn
        self.trace: Callable[[Step], None] | None = None


def update(record: Record, resources: Resources, warn: Callable[[str], None]) -> None:
    """Set what `resources` (checked, as of linux.resources) gives; what it leaves out stays.

    Raises PyruntimeError when any of it cannot be set; then the old limits are in place again."""
    config: Config = fastjson.loads(read_file(record.path(store.CONFIG)))
    linux = config.setdefault("linux", {})
    old = linux.get("resources") or {}
    merged = merge(old, resources)
    layout = layout_of(record.cgroups)
    # A limit may hang on others of its member (a quota on its period), so a changed member is set as a whole.
    changed: Resources = {**merged}
    for name in merged:
        if not _is_changed(name, old, resources, merged):
            del changed[name]  # type: ignore[misc]
    new_rules = changed.pop("devices", None)
    if not record.cgroups and (changed or new_rules):
        raise ConfigError("cannot update: the container has no cgroup of its own")
    steps = list(limits.plan_resources(changed, layout, warn))
    if new_rules is not None:
        _require_devices(record.cgroups, new_rules)
    updater = Updater(record, warn)
    saved = _snapshot(record, steps)
    try:
        execute(steps, updater)
        if new_rules is not None:
            _set_devices(updater, new_rules)
        if record.cgroup_manager == "systemd":
            _tell_systemd(updater, changed, layout)
    except BaseException:
        _restore(record, saved)
        if new_rules is not None:
            _set_devices(updater, old.get("devices") or [])
        raise
    linux["resources"] = merged
    write_atomically(record.directory, store.CONFIG, fastjson.dumps(config))


def _tell_systemd(updater: Updater, changed: Resources, layout: Layout) -> None:
    """Set the new limits in systemd, so that it does not restore the old ones."""
    from pyruntime.features.cgroups import systemd, systemd_properties

    properties = systemd_properties.from_resources(changed, v2=layout.kind == "v2")
    noted = updater.record.extra.get("systemd")
    if properties and noted:
        systemd.set_properties(updater, noted["unit"], noted["user"], properties)


def merge(old: Resources, new: Resources) -> Resources:
    """Resources with those of `new` in the place of those of `old`; zeros and empty ones leave the old."""
    merged: Any = {**old}
    for member, value in new.items():
        if isinstance(value, dict):
            before = old.get(member)
            both = dict(before) if isinstance(before, dict) else {}
            for name, one in value.items():
                if one or (one is not None and f"{name} in {member}" in _ZERO_IS_A_VALUE):
                    both[name] = one
            if member == "memory" and value.get("limit") == -1 and not value.get("swap"):
                both["swap"] = -1  # there is no swap limit without a memory limit
            merged[member] = both
        elif value:
            merged[member] = value
    result: Resources = merged
    return result


def _is_changed(name: str, old: Resources, given: Resources, merged: Resources) -> bool:
    # Kubernetes sends all device rules with every update: setting them again would only disturb.
    return bool(given.get(name)) and (name != "devices" or merged["devices"] != old.get("devices"))


def layout_of(cgroups: dict[str, str]) -> Layout:
    """Return the layout that a record's cgroups were made in, with the controllers that they have."""
    found = []
    for name, directory in cgroups.items():
        controllers = tuple(name.split(","))
        if name == UNIFIED:
            try:
                controllers = tuple(read_file(f"{directory}/cgroup.controllers").split())
            except OSError:
                controllers = ()
        found.append(Hierarchy(name, controllers, directory, "/"))
    return Layout(found)


def _require_devices(cgroups: dict[str, str], entries: list[DeviceRule]) -> None:
    """Raise ConfigError for device rules that cannot be set."""
    hierarchy = serving_hierarchy(cgroups, "devices")
    if not hierarchy:
        raise ConfigError("this host has no cgroup controller devices", pointer=devices.POINTER)
    (devices.rules if hierarchy == UNIFIED else devices.v1_rules)(entries)


def _set_devices(updater: Updater, entries: list[DeviceRule]) -> None:
    """Change the device rules while the container is frozen: on v1 they are written one by one."""
    cgroups = updater.record.cgroups
    hierarchy = serving_hierarchy(cgroups, "devices")
    if hierarchy == UNIFIED:
        devices.set_v2(updater, UNIFIED, devices.rules(entries))
        return
    rules = devices.v1_rules(entries)
    frozen = freezer.is_frozen(cgroups)
    if not frozen:
        freezer.freeze(cgroups)
    try:
        devices.set_v1(updater, hierarchy, rules, rootless=False, asked=True)
    finally:
        if not frozen:
            freezer.thaw(cgroups)


def _snapshot(record: Record, steps: list[Step]) -> list[tuple[str, str, str]]:
    """Return what the files that steps will write hold now: (directory, file, text)."""
    found = []
    seen = set()
    for step in steps:
        if "hierarchy" not in step.args:
            continue
        for hierarchy, file in setting.touched(step):
            directory = record.cgroups.get(hierarchy, "")
            if (directory, file) in seen:
                continue
            seen.add((directory, file))
            try:
                found.append((directory, file, read_file(f"{directory}/{file}")))
            except OSError:
                continue  # not there, so not written either
    return found


def _restore(record: Record, saved: list[tuple[str, str, str]]) -> None:
    """Write back what was there. Values may bound each other, so those refused are tried again after the rest."""
    waiting = saved
    while waiting:
        refused = []
        for directory, file, text in waiting:
            try:
                for line in restoring(file, text, _current(directory, file)):
                    control_files.write(directory, file, line)
            except (OSError, PyruntimeError):
                refused.append((directory, file, text))
        if len(refused) == len(waiting):
            return
        waiting = refused


def _current(directory: str, file: str) -> str:
    try:
        return read_file(f"{directory}/{file}")
    except OSError:
        return ""


def restoring(file: str, before: str, now: str) -> list[str]:
    """Return the lines to write to a file so that it reads as before.

    A file that lists devices is restored line by line: what is listed now and was not before gets the value that
    takes it off the list."""
    if before == now:
        return []
    if file == "memory.oom_control":
        return [line.split()[1] for line in before.splitlines() if line.startswith("oom_kill_disable ")]
    listed = file == "io.max" or file.startswith("blkio.throttle") or file.endswith(("_device", "io.weight"))
    if not listed and file not in ("io.bfq.weight", "rdma.max", "net_prio.ifpriomap"):
        return [before.strip() or "\n"]
    lines = before.splitlines()
    kept = {line.split()[0] for line in lines}
    for line in now.splitlines():
        key, *rest = line.split()
        if key in kept:
            continue
        if file == "io.max":
            lines.append(f"{key} {' '.join(word.partition('=')[0] + '=max' for word in rest)}")
        else:
            lines.append(f"{key} {'default' if file.startswith('io.') else '0'}")
    return lines
