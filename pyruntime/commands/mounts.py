"""mounts: add mounts to a running container, remove them again, list them."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import layout
from pyruntime.errors import ConfigError, StateError
from pyruntime.features.namespaces import target as targets
from pyruntime.features.rootfs import mounts as planner
from pyruntime.features.rootfs.destination import destination_of
from pyruntime.features.rootfs.path import clean
from pyruntime.plan.request import Request
from pyruntime.runtime import visitor
from pyruntime.spec import check
from pyruntime.state import store
from pyruntime.state.status import status_of
from pyruntime.util import fastjson, mountinfo
from pyruntime.util.fileio import read_file, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.commands.settings import Settings
    from pyruntime.plan.step import Step
    from pyruntime.runtime.visitor import AddedMount
    from pyruntime.spec.sections import Config, Mount
    from pyruntime.state.store import Record
    from pyruntime.util.ids import ContainerId

KEY = "mounts"  # in Record.extra: what `add` has mounted, [{"destination": …, "mount": id of the mount}]

# Filesystems that show a namespace or the cgroup of the process that mounts them, which is not the container's.
_OF_THE_MOUNTER = ("proc", "sysfs", "mqueue", "cgroup", "cgroup2", "devpts", "bpf", "binfmt_misc")


def add(settings: Settings, id: ContainerId, entries: list[Mount], *, origin: str = "mounts") -> None:
    """Mount what entries (as of mounts in config.json) give: all of it or, when one fails, none. Raises PyruntimeError.

    origin: what messages call the entries."""
    record = store.load(settings.root, id)
    lock = store.lock_again(record)
    try:
        _require_running(record)
        config = _config(record)
        request = _request(settings, record, config, entries, origin)
        steps = list(planner.plan(request))
        for step, entry in zip(steps, entries, strict=True):
            _require_addable(step, entry, request)
        for warning in request.warnings:
            settings.log.warning(warning)
        noted: list[AddedMount] = record.extra.setdefault(KEY, [])
        places = [destination_of(request, entry) for entry in entries]
        # Recorded before it is mounted, with no id yet: state and audit know what may be there.
        fresh: list[AddedMount] = [{"destination": clean(place), "mount": 0} for place in places]
        noted += fresh
        record.save()
        try:
            target = targets.find(record)
            try:
                ids = visitor.run(target, lambda visiting: visiting.add(steps), rootless=settings.rootless)
            finally:
                target.close()
        except BaseException:
            del noted[-len(fresh) :]
            record.save()
            raise
        for one, number in zip(fresh, ids, strict=True):
            one["mount"] = number
        config.setdefault("mounts", []).extend(entries)
        write_atomically(record.directory, store.CONFIG, fastjson.dumps(config))
        record.save()
    finally:
        posix.close(lock)


def remove(settings: Settings, id: ContainerId, destinations: list[str]) -> None:
    """Unmount what `add` has mounted at these destinations. Raises PyruntimeError.

    A mount that the container has unmounted itself, or covered, is only removed from the record, with a warning."""
    record = store.load(settings.root, id)
    lock = store.lock_again(record)
    try:
        _require_running(record)
        config = _config(record)
        noted: list[AddedMount] = record.extra.get(KEY) or []
        found: list[AddedMount] = []
        for destination in destinations:
            place = clean(destination)
            # Of several on one place the last is on top.
            matching = [one for one in noted if one["destination"] == place and one not in found]
            if not matching:
                raise StateError(
                    f"no mount was added at {place} of container {id}",
                    hint=f"see: pyruntime mounts list {id}; a mount of config.json cannot be removed",
                )
            found.append(matching[-1])
        target = targets.find(record)
        try:
            present = visitor.run(target, lambda visiting: visiting.remove(found), rootless=settings.rootless)
        finally:
            target.close()
        for one, was_there in zip(found, present, strict=True):
            if not was_there:
                settings.log.warning(
                    f"the mount at {one['destination']} was not found: a process of the container has unmounted, "
                    "moved or covered it"
                )
            noted.remove(one)
            _forget(config, record, one["destination"])
        write_atomically(record.directory, store.CONFIG, fastjson.dumps(config))
        record.save()
    finally:
        posix.close(lock)


def listed(settings: Settings, id: ContainerId) -> list[dict[str, object]]:
    """Return the mounts that config.json asked for, and those that `add` has made. Raises PyruntimeError.

    Each has the members of mounts in config.json, `added`, and `mounted`: whether a mount is at that place now."""
    record = store.load(settings.root, id)
    entries = _config(record).get("mounts") or []
    noted: list[AddedMount] = record.extra.get(KEY) or []
    present = {} if status_of(record) == "stopped" else {one.id: one.place for one in mountinfo.of(record.pid)}
    places = set(present.values())
    # By destination, from the end: a command that was killed may have recorded one of the two only.
    waiting = list(noted)
    found: list[dict[str, object]] = []
    for entry in reversed(entries):
        place = clean(entry["destination"])
        own = next((one for one in reversed(waiting) if one["destination"] == place), None)
        if own is not None:
            waiting.remove(own)
        found.append(
            {
                "destination": place,
                "type": entry.get("type") or "",
                "source": entry.get("source") or "",
                "options": entry.get("options") or [],
                "added": own is not None,
                "mounted": place in places if own is None else own["mount"] in present,
            }
        )
    return found[::-1]


def _require_running(record: Record) -> None:
    status = status_of(record)
    if status in ("stopped", "creating"):
        raise StateError(f"container not running: {record.id} is {status}")


def _config(record: Record) -> Config:
    config: Config = fastjson.loads(read_file(record.path(store.CONFIG)))
    return config


def _request(settings: Settings, record: Record, config: Config, entries: list[Mount], origin: str) -> Request:
    """Return the request of a container that has these mounts and no others, checked. Raises ConfigError."""
    asked: Config = {**config, "mounts": entries}
    ours = [problem for problem in check.check(asked) if problem.pointer.startswith("/mounts")]
    for problem in check.without_errors(ours, origin):
        settings.log.warning(f"{origin}: {problem}")
    return Request(asked, id=record.id, bundle=record.bundle, layout=layout.find(), rootless=settings.rootless)


def _require_addable(step: Step, entry: Mount, request: Request) -> None:
    """Raise ConfigError for a mount that can be made at create only."""
    kind = entry.get("type") or ""
    if step.do is planner.bind:
        if step.args["idmap"] is not None:
            raise ConfigError("a mount with mappings of its own cannot be added", pointer=step.pointer)
        if "copy-symlink" in step.args["links"]:
            raise ConfigError("copy-symlink is for create only", pointer=f"{step.pointer}/options")
        step.args["idmap"] = {}  # the source was opened before: Visitor.ask_parent has it
    elif step.do is not planner.mount_filesystem or kind in _OF_THE_MOUNTER:
        raise ConfigError(
            f"a mount of type {kind or 'remount'} cannot be added to a running container",
            pointer=step.pointer,
            why="it shows a namespace, or changes a mount, of the process that makes it",
            hint="put it into config.json",
        )
    elif step.args["by_string"] or step.args["copy_up"]:
        words = " ".join(entry.get("options") or [])
        raise ConfigError(
            f"these options are for create only: {words}",
            pointer=f"{step.pointer}/options",
            hint="leave out tmpcopyup, and the options of the old mount(2) such as sync, dirsync and lazytime",
        )


def _forget(config: Config, record: Record, place: str) -> None:
    """Take the last entry with this destination out of the recorded config."""
    entries = config["mounts"]
    for index in range(len(entries) - 1, -1, -1):
        if clean(entries[index]["destination"]) == place:
            del entries[index]
            return
