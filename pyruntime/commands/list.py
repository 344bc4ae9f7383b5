"""list: the containers below --root, and what each of them is."""

from __future__ import annotations

import posix

from pyruntime.errors import PyruntimeError, StateError, Unknown, errno_name, strerror
from pyruntime.state import store
from pyruntime.state.status import oci_state, status_of
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.commands.settings import Settings


def ids_of(settings: Settings) -> list[ContainerId]:
    """Return the names of the containers, in order. What else lies below --root is passed over.

    Raises StateError when --root does not exist, unless it is the default one, which the first create makes."""
    try:
        with posix.scandir(settings.root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not settings.root_given:
            return []
        reason = f"{strerror(error.errno)} ({errno_name(error.errno)})"
        raise StateError(f"--root {settings.root}: {reason}", hint="check the path") from None
    ids = []
    for name in names:
        try:
            if _has_record(settings, name):
                ids.append(ContainerId(name))
        except StateError:
            pass
    return ids


def containers(settings: Settings, ids: list[ContainerId]) -> list[dict[str, object]]:
    """Return what `list` and runc show of containers; see `describe`."""
    users: dict[int, str] = {}
    return [found for id in ids if (found := describe(settings, id, users)) is not None]


def describe(settings: Settings, id: ContainerId, users: dict[int, str]) -> dict[str, object] | None:
    """Return one container as `list` and runc show it: ociVersion, id, status, pid (0 for none), bundle, rootfs,
    created (RFC 3339), owner (a user name). None, with a warning, for one whose record cannot be read.

    users: the names of users that were looked up already."""
    try:
        record = store.load(settings.root, id)
    except PyruntimeError as error:
        # A damaged one hides no other.
        if _has_record(settings, id):  # else it was deleted meanwhile
            settings.log.warning(str(error))
        return None
    try:
        status = status_of(record)
    except Unknown as error:
        settings.log.warning(str(error))
        status = "unknown"
    found = oci_state(record, status)
    found.setdefault("pid", 0)
    return {**found, "rootfs": record.rootfs, "created": record.created, "owner": _user(record.owner, users)}


def _has_record(settings: Settings, name: str) -> bool:
    """Return whether it is the directory of a container: not that of a create that has just begun, nor another's."""
    try:
        posix.stat(f"{settings.root}/{name}/{store.RECORD}", follow_symlinks=False)
    except OSError:
        settings.log.debug(f"{settings.root}/{name} has no record of a container")
        return False
    return True


def _user(uid: int, users: dict[int, str]) -> str:
    if uid not in users:
        import pwd

        try:
            users[uid] = pwd.getpwuid(uid).pw_name
        except KeyError:
            users[uid] = f"#{uid}"
    return users[uid]
