"""The state of containers between commands: a directory per container below --root.

    ROOT/ID/             0700; flock(2) on the directory is the container's lock
    ROOT/ID/state.json   the record: versioned, written to a temporary file and renamed
    ROOT/ID/config.json  config.json as it was at create: the bundle's may change afterwards
    ROOT/ID/exec.fifo    the exec fifo (runtime/exec_fifo.py)
    ROOT/ID/exec.error   the error of init after `start`
    ROOT/ID/abandoned    `delete --force` waits for the lock: its holder must not wait for hooks any longer

Record, then do: a resource outside init (cgroup, mount, process) stands in the record before it is made, so
that `delete --force` finds it after a SIGKILL at any moment. Nothing is fsynced: the record speaks of
processes and cgroups, which a power failure ends as well.
"""

from __future__ import annotations

import posix

from pyruntime.errors import NotFound, StateError
from pyruntime.kernel.constants import EACCES, EISDIR, ELOOP
from pyruntime.state.directory import (
    ABANDONED,
    CONFIG,
    FAILURE,
    FIFO,
    LOCK_SECONDS,
    RECORD,
    exists,
    lock,
    make,
    open_directory,
    read_below,
    remove,
    require_no_mount,
    root_of,
    unusable,
)
from pyruntime.util import fastjson
from pyruntime.util.fileio import write_atomically
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.spec.sections import Hook

__all__ = [
    "ABANDONED",
    "CONFIG",
    "FAILURE",
    "FIFO",
    "RECORD",
    "exists",
    "lock",
    "make",
    "remove",
    "require_no_mount",
    "root_of",
    "unusable",
]

VERSION = 1

_O_CLOEXEC = posix.O_CLOEXEC
_NOT_A_FILE = (EACCES, EISDIR, ELOOP)
_LARGEST = {"pid": 1 << 31, "owner": 1 << 32, "start": 1 << 63}
_UNSAVED = frozenset(("directory", "pidfd", "saved"))


class Record:
    """The record of one container, as state.json holds it.

    id, bundle, oci_version, annotations: from the command line and config.json.
    rootfs:     absolute path of the root filesystem.
    pid, start: init's pid and its start time in clock ticks after boot (proc(5), field 22); 0 before the clone.
    created:    RFC 3339 time at which init was ready, "" until then: the container is `creating`.
    cgroups:    hierarchy -> absolute directory.
    cgroup_manager: "cgroupfs" or "systemd".
    private_pid: the container has a pid namespace of its own, so its processes die with init.
    host_mounts: a directory of the host whose mounts are the container's (no mount namespace of its own).
    hooks:      the poststart and poststop hooks of config.json.
    namespaces: kind -> path in /proc of init's namespaces to join for `exec`.
    saved:      it stands on disk already; not part of it.
    pidfd:      init's, held since the clone by the command that made it; -1 in all others. Not part of it.
    extra:      what features note for their own undo (`rdt`, `netDevices`, …).
    """

    __slots__ = (
        "annotations",
        "bundle",
        "cgroup_manager",
        "cgroups",
        "created",
        "directory",
        "extra",
        "hooks",
        "host_mounts",
        "id",
        "oci_version",
        "owner",
        "pid",
        "pidfd",
        "private_pid",
        "rootfs",
        "saved",
        "start",
    )

    def __init__(self, directory: str, id: ContainerId) -> None:
        self.directory = directory
        self.saved = False
        self.id = id
        self.bundle = ""
        self.oci_version = ""
        self.annotations: dict[str, str] = {}
        self.rootfs = ""
        self.pid = 0
        self.pidfd = -1
        self.start = 0
        self.created = ""
        self.cgroups: dict[str, str] = {}
        self.cgroup_manager = "cgroupfs"
        self.private_pid = True
        self.host_mounts = ""
        self.hooks: dict[str, list[Hook]] = {}
        self.owner = posix.geteuid()
        self.extra: dict[str, Any] = {}

    def save(self) -> None:
        """Write the record atomically."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in _UNSAVED}
        fields["version"] = VERSION
        write_atomically(self.directory, RECORD, fastjson.dumps(fields), replace=self.saved)
        self.saved = True

    def is_other(self, later: Record) -> bool:
        """Return whether a record that was read later under the same name is of another container: it has another
        init."""
        return self.pid > 0 and (self.pid, self.start) != (later.pid, later.start)

    def path(self, name: str) -> str:
        """Return the path of a file in the container's directory."""
        return f"{self.directory}/{name}"


def load(root: str, id: ContainerId) -> Record:
    """Return the record of a container. Raises NotFound when there is none, StateError when it cannot be read."""
    directory = f"{root}/{id}"
    fd = open_directory(root, id)
    try:
        text = read_below(fd, RECORD)
    except FileNotFoundError:
        raise StateError(
            f"container {id} has no record: its create was killed, or is just beginning",
            hint=f"pyruntime delete --force {id} removes it",
        ) from None
    except OSError as error:
        raise unreadable(directory, id, error) from None
    finally:
        posix.close(fd)
    try:
        fields = fastjson.loads(text)
        version = fields["version"]
        if version != VERSION:
            raise StateError(
                f"container {id}: {directory}/{RECORD} has version {version}, this pyruntime knows {VERSION}",
                hint="use the pyruntime that created the container",
            )
        record = Record(directory, id)
        for name in Record.__slots__:
            if name not in _UNSAVED and name != "id":
                value = fields[name]
                if not fits(record, name, value):
                    raise TypeError(f"{name} is {value!r}")
                setattr(record, name, value)
        record.saved = True
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"container {id}: {directory}/{RECORD} is damaged: {error}",
            hint=f"pyruntime delete --force {id} removes the container",
        ) from None
    return record


def unreadable(directory: str, id: ContainerId, error: OSError) -> Exception:
    """Return the error for a record that is not a file to be read; another failure of the kernel stays what it is."""
    from pyruntime.errors import errno_name, strerror

    if error.errno not in _NOT_A_FILE:
        return error
    reason = f"{strerror(error.errno)} ({errno_name(error.errno)})"
    return StateError(f"container {id}: open {directory}/{RECORD}: {reason}")


def fits(record: Record, name: str, value: object) -> bool:
    """Return whether a value read from a file can be this field of the record."""
    if name in _UNSAVED:
        return False
    default: object = getattr(record, name, None)
    if type(value) is not type(default):
        return False
    largest = _LARGEST.get(name)
    return largest is None or (isinstance(value, int) and 0 <= value < largest)


def lock_again(record: Record, timeout: float = LOCK_SECONDS) -> int:
    """Take the lock of a container whose record was read without it, and take over what was written since.

    Else `delete --force` would undo what a `create` had recorded so far, and miss what it has made meanwhile.
    Gives back a descriptor as `lock` does. Raises Busy, and NotFound also for another container, of the same name, that
    was created since this one was deleted."""
    fd = lock(record.directory, record.id, timeout)
    try:
        fresh = load(root_of(record.directory), record.id)
    except StateError:
        return fd  # none was ever written, or it is damaged: the caller knows
    except BaseException:
        posix.close(fd)
        raise
    if record.is_other(fresh):
        posix.close(fd)
        why = "it was deleted, and another of this name was created since"
        raise NotFound(f'container "{record.id}" does not exist', why=why)
    for name in Record.__slots__:
        if name != "pidfd":
            setattr(record, name, getattr(fresh, name))
    return fd


def abandon(record: Record) -> None:
    """Tell the lock holder that a forced delete is waiting. Raises OSError."""
    try:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_NOFOLLOW | _O_CLOEXEC
        posix.close(posix.open(record.path(ABANDONED), flags, 0o600))
    except FileNotFoundError:
        pass  # it is gone already
