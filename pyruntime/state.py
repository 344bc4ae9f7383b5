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

import fcntl
import posix
import time

from pyruntime import fastjson
from pyruntime.errors import Busy, NotFound, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
RECORD = "state.json"
CONFIG = "config.json"
FIFO = "exec.fifo"
FAILURE = "exec.error"
ABANDONED = "abandoned"

LOCK_SECONDS = 10.0

_O_CLOEXEC = posix.O_CLOEXEC
_ID_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-")
_ID_REST = _ID_FIRST | {"."}


def check_id(id: str) -> None:
    """Raise StateError unless id can name a container: `[A-Za-z0-9_+-][A-Za-z0-9_+.-]*`, at most 1024 characters."""
    if not id:
        raise StateError("container id cannot be empty", mend="give an id")
    if len(id) > 1024 or id[0] not in _ID_FIRST or not _ID_REST.issuperset(id):
        raise StateError(
            f"invalid container id format: {id!r}",
            mend="use letters, digits, '_', '+', '-' and '.', not starting with '.'",
        )


_UNSAVED = frozenset(("directory", "saved"))


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
        "private_pid",
        "rootfs",
        "saved",
        "start",
    )

    def __init__(self, directory: str, id: str) -> None:
        self.directory = directory
        self.saved = False
        self.id = id
        self.bundle = ""
        self.oci_version = ""
        self.annotations: dict[str, str] = {}
        self.rootfs = ""
        self.pid = 0
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
            data = text.encode("utf-8", "surrogateescape")
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
        data = b""
        # To the end: files of /proc and cgroups come in whole lines, less than a page at a time.
        while chunk := posix.read(fd, 65536):
            data += chunk
    finally:
        posix.close(fd)
    return data.decode("utf-8", "surrogateescape")


def load(root: str, id: str) -> Record:
    """The record of a container. Raises NotFound when there is none, StateError when it cannot be read."""
    check_id(id)
    directory = f"{root}/{id}"
    try:
        text = read_file(f"{directory}/{RECORD}")
    except FileNotFoundError:
        if exists(root, id):
            raise StateError(
                f"container {id} has no record: its create was killed, or is just beginning",
                mend=f"pyruntime delete --force {id} removes it",
            ) from None
        raise NotFound(f'container "{id}" does not exist', why=f"there is no {directory}") from None
    except PermissionError:
        raise StateError(
            f"container {id}: open {directory}/{RECORD}: permission denied",
            mend="run as the user who created the container",
        ) from None
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
                if type(value) is not type(getattr(record, name)):
                    raise TypeError(f"{name} is {value!r}")
                setattr(record, name, value)
        record.saved = True
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"container {id}: {directory}/{RECORD} is damaged: {error}",
            mend=f"pyruntime delete --force {id} removes the container",
        ) from None
    return record


def salvage(root: str, id: str) -> Record:
    """What can be read of a missing or damaged record, for `delete --force`.

    Raises StateError for the record of another version of pyruntime, which that version must undo."""
    record = Record(f"{root}/{id}", id)
    try:
        fields: Any = fastjson.loads(read_file(record.path(RECORD)))
    except (OSError, ValueError):
        return record
    if not isinstance(fields, dict):
        return record
    if fields.get("version", VERSION) != VERSION:
        load(root, id)  # says so
    for name in Record.__slots__:
        value = fields.get(name)
        if name not in _UNSAVED and name != "id" and type(value) is type(getattr(record, name, None)):
            setattr(record, name, value)
    return record


def lock_again(record: Record, timeout: float = LOCK_SECONDS) -> int:
    """Take the lock of a container whose record was read without it, and take over what was written since.

    Else `delete --force` would undo what a `create` had recorded so far, and miss what it has made meanwhile.
    Gives back a descriptor as `lock` does. Raises Busy, and NotFound also for another container, of the same name, that
    was created since this one was deleted."""
    fd = lock(record.directory, record.id, timeout)
    try:
        fresh = load(record.directory.rpartition("/")[0], record.id)
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
        setattr(record, name, getattr(fresh, name))
    return fd


def abandon(record: Record) -> None:
    """Let who holds the lock know that the container is to be deleted whatever happens to it. Raises OSError."""
    try:
        posix.close(posix.open(record.path(ABANDONED), posix.O_WRONLY | posix.O_CREAT | _O_CLOEXEC, 0o600))
    except FileNotFoundError:
        pass  # it is gone already


def exists(root: str, id: str) -> bool:
    """Whether there is a directory for a container of this name."""
    try:
        posix.stat(f"{root}/{id}")
    except OSError:
        return False
    return True


def make(root: str, id: str) -> tuple[str, int]:
    """Make and lock the directory of a new container: (directory, descriptor that holds the lock).

    Raises StateError when the id is taken, or the directory cannot be made."""
    check_id(id)
    directory = f"{root}/{id}"
    try:
        try:
            posix.mkdir(directory, 0o700)
        except FileNotFoundError:
            _make_root(root)
            posix.mkdir(directory, 0o700)
        try:
            fd = lock(directory, id)
            try:
                # Before it was locked others may have removed it, and made a container in a new one.
                taken = any(name != ABANDONED for name in posix.listdir(fd))
            except BaseException:
                posix.close(fd)
                raise
        except OSError:
            posix.rmdir(directory)
            raise
        if taken:
            posix.close(fd)
            raise FileExistsError
        return directory, fd
    except FileExistsError:
        raise StateError(
            f"container with given ID already exists: {id}",
            mend=f"choose another id, or remove the container with: pyruntime delete {id}",
        ) from None
    except OSError as error:
        raise unusable(root, directory, error) from error


def _make_root(root: str) -> None:
    parent = root.rpartition("/")[0]
    try:
        posix.mkdir(root, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        if not parent:
            raise
        _make_root(parent)
        posix.mkdir(root, 0o700)


def unusable(root: str, directory: str, error: OSError) -> StateError:
    """The error for a state directory that cannot be made or written."""
    from pyruntime.errors import errno_name, strerror

    mends = {
        13: "run as root, or give a directory of your own with --root",
        1: "run as root, or give a directory of your own with --root",
        30: "give a writable directory with --root",
        28: "free space there, or give another directory with --root",
    }
    return StateError(
        f"cannot keep the container's state: {error.filename or directory}: {strerror(error.errno)}"
        f" ({errno_name(error.errno)})",
        mend=mends.get(error.errno or 0, f"check --root ({root})"),
    )


def lock(directory: str, id: str, timeout: float = LOCK_SECONDS) -> int:
    """Take the container's lock; closing the descriptor gives it back.

    Waits up to timeout seconds for another command, then raises Busy. Raises NotFound when the container was
    removed meanwhile."""
    try:
        fd = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | _O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f'container "{id}" does not exist') from None
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Busy(
                        f"container {id} is busy: another command has held its lock for {timeout:g} s",
                        mend="wait for that command, or end it",
                    ) from None
                time.sleep(0.005)
        if posix.fstat(fd).st_nlink == 0:
            raise NotFound(f'container "{id}" does not exist')
    except BaseException:
        posix.close(fd)  # or this very command would wait for it when it undoes what it has made
        raise
    return fd


def remove(directory: str) -> None:
    """Remove a container's directory. What is not there any more is no error."""
    while True:
        try:
            names = posix.listdir(directory)
        except FileNotFoundError:
            return
        for name in names:
            try:
                posix.unlink(f"{directory}/{name}")
            except FileNotFoundError:
                pass
            except IsADirectoryError:
                remove(f"{directory}/{name}")
        try:
            posix.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno == 39:  # ENOTEMPTY: another `delete --force` has left its word meanwhile (abandon)
                continue
            raise
        return


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


def status(record: Record) -> str:
    """What the kernel says the container is: creating, created, running, paused or stopped.

    A pid that was given to another process since has another start time, so it does not count as init."""
    if not record.created and not record.pid:
        return "creating"
    if record.pid == 0 or start_time(record.pid) != record.start:
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
