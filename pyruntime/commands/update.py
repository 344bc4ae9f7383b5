"""update: change the resource limits of a container."""

from __future__ import annotations

import posix

from pyruntime.errors import StateError, UsageError
from pyruntime.features.cgroups import update as cgroup_update
from pyruntime.spec import check
from pyruntime.state import store
from pyruntime.state.status import status_of
from pyruntime.util import fastjson
from pyruntime.util.fileio import read_file, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.commands.settings import Settings
    from pyruntime.spec.sections import Config, DeviceRule, Process, Resources
    from pyruntime.state.store import Record
    from pyruntime.util.ids import ContainerId

_RESCTRL = "/sys/fs/resctrl"


def update(
    settings: Settings,
    id: ContainerId,
    resources: Resources,
    *,
    origin: str = "resources",
    l3_cache_schema: str = "",
    mem_bw_schema: str = "",
    device_add: list[str] | None = None,
    device_remove: list[str] | None = None,
    process: Process | None = None,
    readonly_paths: list[str] | None = None,
    masked_paths: list[str] | None = None,
) -> None:
    """Change limits; what is not given stays. Raises PyruntimeError.

    resources: an object as linux.resources of config.json. origin: what messages call it.
    l3_cache_schema, mem_bw_schema: as of linux.intelRdt, for a container with a resctrl group.
    device_add, device_remove: rules such as "c 10:200 rwm", to allow and no longer to allow.
    process: attributes of processes that run, members of `process` of config.json (update_process.FIELDS).
    readonly_paths, masked_paths: paths of the container, as of linux in config.json, in addition to those there are."""
    rules = _DeviceRules(device_add or [], device_remove or [])
    record = store.load(settings.root, id)
    for problem in check.without_errors(check.check_resources(resources), origin):
        settings.log.warning(f"{origin}: {problem}")
    lock = store.lock(record.directory, record.id)
    try:
        if status_of(record) == "stopped":
            raise StateError(f"container not running: {record.id} is stopped")
        if rules:
            resources = {**resources, "devices": rules.applied(record, resources)}
        if readonly_paths or masked_paths:
            _hide(settings, record, readonly_paths or [], masked_paths or [])
        if process:
            from pyruntime.commands import update_process

            update_process.change(record, process, settings.log, rootless=settings.rootless)
        cgroup_update.update(record, resources, settings.log.warning)
        if l3_cache_schema or mem_bw_schema:
            _update_rdt(record, l3_cache_schema, mem_bw_schema)
    finally:
        posix.close(lock)


class _DeviceRules:
    """Device rules to add and to remove."""

    def __init__(self, added: list[str], removed: list[str]) -> None:
        self.added: list[DeviceRule] = []
        self.removed: list[DeviceRule] = []
        if added or removed:
            from pyruntime.features.cgroups import device_changes

            self.added = [device_changes.parse(text, allow=True) for text in added]
            self.removed = [device_changes.parse(text, allow=False) for text in removed]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)

    def applied(self, record: Record, resources: Resources) -> list[DeviceRule]:
        """Return the container's rules, or those that replace them in the same update, with the changes."""
        from pyruntime.features.cgroups import device_changes

        config: Config = fastjson.loads(read_file(record.path(store.CONFIG)))
        own = (config.get("linux", {}).get("resources") or {}).get("devices") or []
        return device_changes.changed(resources.get("devices") or own, self.added, self.removed)


def _hide(settings: Settings, record: Record, readonly: list[str], masked: list[str]) -> None:
    """Make paths of the container read-only, and mask others."""
    from pyruntime.features.namespaces import target as targets
    from pyruntime.runtime import visitor

    for name in (*readonly, *masked):
        if not name.startswith("/"):
            raise UsageError(f"{name!r} is not an absolute path of the container")
    config: Config = fastjson.loads(read_file(record.path(store.CONFIG)))
    linux = config.setdefault("linux", {})
    target = targets.find(record)
    try:
        visitor.run(target, lambda visiting: visiting.hide(readonly, masked), rootless=settings.rootless)
    finally:
        target.close()
    linux["readonlyPaths"] = list(dict.fromkeys([*(linux.get("readonlyPaths") or ()), *readonly]))
    linux["maskedPaths"] = list(dict.fromkeys([*(linux.get("maskedPaths") or ()), *masked]))
    write_atomically(record.directory, store.CONFIG, fastjson.dumps(config))


def _update_rdt(record: Record, cache: str, bandwidth: str) -> None:
    """Change the schemata of the container's resctrl group."""
    from pyruntime.features.rdt import resctrl

    config: Config = fastjson.loads(read_file(record.path(store.CONFIG)))
    group = (config.get("linux", {}).get("intelRdt") or {}).get("closID") or record.id
    directory = record.extra.get("rdt") or f"{_RESCTRL}/{group}"
    if not posix.access(f"{directory}/schemata", posix.F_OK):
        raise StateError(
            f"container {record.id} has no resctrl group", hint="give linux.intelRdt in config.json at create"
        )
    resctrl.write_schemata(directory, resctrl.schemata({"l3CacheSchema": cache, "memBwSchema": bandwidth}))
