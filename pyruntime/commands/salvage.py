"""`delete --force` of a container whose record is missing or damaged: what can still be known of it, and when that is
too little to know that none of its processes is alive."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import layout, processes
from pyruntime.errors import PyruntimeError, StateError, Unknown
from pyruntime.features.cgroups import place
from pyruntime.plan.request import Request
from pyruntime.state import cgroup_identity, store
from pyruntime.state.directory import ABANDONED, CONFIG, FAILURE, FIFO, RECORD, open_directory, read_below
from pyruntime.state.status import waits_for_start
from pyruntime.state.store import Record
from pyruntime.util import fastjson
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

# What a container's directory may hold; also under the name that state.write_atomically uses meanwhile.
_OURS = frozenset((RECORD, CONFIG, FIFO, FAILURE, ABANDONED, "notify", "criu-root", "exec.trace"))


def read(root: str, id: ContainerId) -> Record:
    """Return what can be read of a missing or damaged record.

    Raises StateError for the record of another version of pyruntime, or of another runtime, which that one must undo,
    and for a directory without a record in which there is what no container has. Raises Unknown when processes of the
    container may be alive that cannot be found."""
    record = Record(f"{root}/{id}", id)
    fd = open_directory(root, id)
    try:
        text = read_below(fd, RECORD)
    except FileNotFoundError:
        if not _lost(fd, record):
            return record
        text = ""
    except OSError as error:
        raise store.unreadable(record.directory, id, error) from None
    finally:
        posix.close(fd)
    try:
        return store.load(root, id)  # a create has written it since it was found missing
    except StateError:
        pass
    try:
        fields = fastjson.loads(text)
    except ValueError:
        fields = {}
    if isinstance(fields, dict) and fields:
        if type(fields.get("version")) is int and fields["version"] != store.VERSION:
            store.load(root, id)  # says so
        if fields.get("version") != store.VERSION:
            path = record.path(RECORD)
            raise StateError(f"{path} is not a record of pyruntime", hint="use the runtime that wrote it")
        for name in Record.__slots__:
            if name != "id" and store.fits(record, name, fields.get(name)):
                setattr(record, name, fields[name])
    if not record.pid:
        _require_known(record)
    return record


def _lost(fd: int, record: Record) -> bool:
    """Return whether a directory without a record had one; else a create was killed before it made anything.

    Raises StateError when it is not the directory of a container."""
    names = posix.listdir(fd)
    for name in names:
        if name not in _OURS and not (name.startswith(".") and name[1:].rpartition(".")[0] in _OURS):
            raise StateError(f"{record.id} is not a container: {record.path(name)} is not a file of one")
    if record.id == "lost+found":  # of mkfs(8): empty, owned by root, 0700
        raise StateError(f"{record.id} is not a container: it belongs to the file system")
    return FIFO in names or FAILURE in names


def _require_known(record: Record) -> None:
    """Raise Unknown unless the cgroups account for all processes of a container whose pid is not known."""
    if cgroup_identity.own(record):
        return  # all in them are killed, and they can only be removed then
    cgroups = record.cgroups or _cgroups_by_config(record)
    kinds = {name: cgroup_identity.kind_of(record, name, directory) for name, directory in cgroups.items()}
    left = {name: cgroups[name] for name, kind in kinds.items() if kind == cgroup_identity.UNKNOWN}
    if record.cgroups and not left:
        return  # they are gone, and with them what was in them
    if left and not processes.is_populated(left) and not waits_for_start(record):
        record.cgroups = cgroups
        return
    pids = processes.of(left)
    raise Unknown(
        f"cannot determine whether processes of container {record.id} are alive: {record.path(RECORD)} is damaged",
        why=f"in the cgroup of its name there are {processes.shown(pids)}" if pids else None,
        hint=f"end what is left of it, then {'delete again' if left else f'remove {record.directory}'}",
    )


def _cgroups_by_config(record: Record) -> dict[str, str]:
    """Return where config.json, as it was at create, puts the container's cgroups; {} if unknown."""
    try:
        fd = open_directory(store.root_of(record.directory), record.id)
        try:
            config = fastjson.loads(read_below(fd, CONFIG))
        finally:
            posix.close(fd)
        path = (config.get("linux") or {}).get("cgroupsPath") or ""
        systemd = path.count(":") == 2 and not path.startswith("/")
        request = Request(config, id=record.id, bundle="/", layout=layout.find(), systemd_cgroup=systemd)
        return place.directories_of(request)
    except (OSError, ValueError, AttributeError, TypeError, PyruntimeError):
        return {}
