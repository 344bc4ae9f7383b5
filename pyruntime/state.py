"""What is known of a container between two commands: one directory a container below --root.

    ROOT/ID/             0700; flock(2) on the directory is the container's lock
    ROOT/ID/state.json   the record: versioned, written to a temporary file and renamed
    ROOT/ID/config.json  config.json as it was at create: the bundle's may change afterwards
    ROOT/ID/exec.fifo    the start gate (start/fifo.py)
    ROOT/ID/exec.error   what init could not do after `start` was called
    ROOT/ID/abandoned    `delete --force` waits for the lock: who holds it does not wait for hooks any longer

Record, then do: a resource outside init (cgroup, mount, process) stands in the record before it is made, so
that `delete --force` finds it after a SIGKILL at any moment. Nothing is fsynced: the record speaks of
processes and cgroups, which a power failure ends as well.
"""

from __future__ import annotations

import posix

from pyruntime import fastjson
from pyruntime.errors import NotFound, StateError
from pyruntime.ids import ContainerId
from pyruntime.state_directory import (
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
_NOT_A_FILE = (13, 21, 40)  # EACCES, EISDIR, ELOOP
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
        self.hooks: dict[str, Any] = {}
        self.owner = posix.geteuid()
        self.extra: dict[str, Any] = {}

    def save(self) -> None:
        """Write the record: readers see the old one or the new one, never a part."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in _UNSAVED}
        fields["version"] = VERSION
        write_atomically(self.directory, RECORD, fastjson.dumps(fields), replace=self.saved)
        self.saved = True

    def is_other(self, later: Record) -> bool:
        """Whether a record that was read later under the same name is of another container: it has another init."""
        return self.pid > 0 and (self.pid, self.start) != (later.pid, later.start)

    def path(self, name: str) -> str:
        """Path of a file in the container's directory."""
        return f"{self.directory}/{name}"


def write_atomically(directory: str, name: str, text: str, mode: int = 0o600, *, replace: bool = False) -> None:
    """Write a file as a whole: a temporary file beside it, then rename(2). Raises OSError (ENOSPC, EROFS).

    With replace there is one of that name already. rename(2) over it makes ext4 write the new one to disk there
    and then (auto_da_alloc), 0.3 to 1 ms; to exchange their names and remove the old one does not."""
    temporary = f"{directory}/.{name}.{posix.getpid()}"
    fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | _O_CLOEXEC, mode)
    try:
        try:
            data = memoryview(text.encode("utf-8", "surrogateescape"))
            while data:
                data = data[posix.write(fd, data) :]
        finally:
            posix.close(fd)
        if replace:
            _exchange(temporary, f"{directory}/{name}")
        else:
            posix.rename(temporary, f"{directory}/{name}")
    except BaseException:
        posix.unlink(temporary)
        raise


def _exchange(new: str, old: str) -> None:
    from pyruntime.kernel import files  # who replaces a record has the shim already

    try:
        files.exchange(new, old)
    except OSError:  # a filesystem that cannot, or no old one
        posix.rename(new, old)
    else:
        posix.unlink(new)


def read_file(path: str) -> str:
    """The whole of a small file. Raises OSError."""
    fd = posix.open(path, posix.O_RDONLY | _O_CLOEXEC)
    try:
        data = bytearray()  # to `bytes` each piece would be added with a copy of all before it
        # To the end: files of /proc and cgroups come in whole lines, less than a page at a time.
        while chunk := posix.read(fd, 65536):
            data += chunk
    finally:
        posix.close(fd)
    return data.decode("utf-8", "surrogateescape")


def load(root: str, id: ContainerId) -> Record:
    """The record of a container. Raises NotFound when there is none, StateError when it cannot be read."""
    directory = f"{root}/{id}"
    fd = open_directory(root, id)
    try:
        text = read_below(fd, RECORD)
    except FileNotFoundError:
        raise StateError(
            f"container {id} has no record: its create was killed, or is just beginning",
            mend=f"pyruntime delete --force {id} removes it",
        ) from None
    except OSError as error:
        raise unreadable(directory, id, error) from None
    finally:
        posix.close(fd)
    try:
        fields: Any = fastjson.loads(text)
        version = fields["version"]
        if version != VERSION:
            raise StateError(
                f"container {id}: {directory}/{RECORD} has version {version}, this pyruntime knows {VERSION}",
                mend="use the pyruntime that created the container",
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
            mend=f"pyruntime delete --force {id} removes the container",
        ) from None
    return record


def unreadable(directory: str, id: ContainerId, error: OSError) -> Exception:
    """The error for a record that is not a file to be read; another failure of the kernel stays what it is."""
    from pyruntime.errors import errno_name, strerror

    if error.errno not in _NOT_A_FILE:
        return error
    reason = f"{strerror(error.errno)} ({errno_name(error.errno)})"
    return StateError(f"container {id}: open {directory}/{RECORD}: {reason}")


def fits(record: Record, name: str, value: Any) -> bool:
    """Whether a value read from a file can be this field of the record."""
    if name in _UNSAVED:
        return False
    default: Any = getattr(record, name, None)
    if type(value) is not type(default):
        return False
    largest = _LARGEST.get(name)
    return largest is None or 0 <= value < largest


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
    """Let who holds the lock know that the container is to be deleted whatever happens to it. Raises OSError."""
    try:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_NOFOLLOW | _O_CLOEXEC
        posix.close(posix.open(record.path(ABANDONED), flags, 0o600))
    except FileNotFoundError:
        pass  # it is gone already


def start_time(pid: int) -> int:
    """When a process started, in clock ticks after boot; 0 when it is gone or a zombie (proc(5), stat)."""
    if pid <= 0:
        return 0
    try:
        text = read_file(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The second field, the command's name, may hold anything, ')' and spaces too.
    fields = text[text.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        return 0
    return int(fields[19])


def note_init(record: Record, pid: int, pidfd: int) -> None:
    """Note a container's init, which is alive. The caller saves the record."""
    from pyruntime import liveness

    record.pid = pid
    record.start = start_time(pid)
    liveness.note(record, pidfd)


def is_alive(record: Record) -> bool:
    """Whether a container's init is alive. Raises Unknown when the kernel does not tell."""
    if record.start and start_time(record.pid) == record.start:
        return True
    from pyruntime import liveness

    pidfd = liveness.find(record)
    if pidfd < 0:
        return False
    posix.close(pidfd)
    return True


def status(record: Record) -> str:
    """What the kernel says the container is: creating, created, running, paused or stopped.

    A pid that was given to another process since has another start time, so it does not count as init. Raises Unknown
    when the kernel does not tell."""
    if not record.created and not record.pid:
        return "creating"
    if not is_alive(record):
        return "stopped"
    if not record.created:
        return "creating"
    if record.cgroups:
        from pyruntime.cgroups import freezer

        if freezer.is_frozen(record.cgroups):
            return "paused"
    return "created" if waits_for_start(record) else "running"


def waits_for_start(record: Record) -> bool:
    """Whether init holds the exec fifo open, which it does until it becomes the user's process."""
    try:
        fd = posix.open(record.path(FIFO), posix.O_WRONLY | posix.O_NONBLOCK | _O_CLOEXEC)
    except OSError:  # ENXIO: nobody holds it; ENOENT: `start` has been here
        return False
    posix.close(fd)
    return True


def oci_state(record: Record, status: str, pid: int | None = None) -> dict[str, Any]:
    """The state of runtime-spec runtime.md, "State", as hooks and `state` get it."""
    state: dict[str, Any] = {"ociVersion": record.oci_version, "id": record.id, "status": status}
    if status != "stopped":
        state["pid"] = record.pid if pid is None else pid
    state["bundle"] = record.bundle
    if record.annotations:
        state["annotations"] = record.annotations
    return state
