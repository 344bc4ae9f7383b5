"""ROOT/ID: made, opened, locked and removed by descriptors, so that no name leads out of ROOT.

ROOT is the caller's word, links and all. Below it no link is followed, no mount is entered, and a directory that
belongs to another user is not a container: its record would make us run that user's hooks.
"""

from __future__ import annotations

import fcntl
import posix
import time

from pyruntime.errors import Busy, NotFound, StateError
from pyruntime.kernel.constants import EBUSY, EEXIST, ENOTDIR, ENOTEMPTY, O_PATH, S_IFLNK, S_IFMT
from pyruntime.util.ids import ContainerId

RECORD = "state.json"
CONFIG = "config.json"
FIFO = "exec.fifo"
FAILURE = "exec.error"
ABANDONED = "abandoned"

LOCK_SECONDS = 10.0

_CHUNK = 1 << 16
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_NOT_EMPTY = (ENOTEMPTY, EEXIST, ENOTDIR)  # ENOTEMPTY, EEXIST; ENOTDIR: opening it has the words for that


def open_directory(root: str, id: ContainerId) -> int:
    """Open ROOT/ID for reading. Raises NotFound, and StateError when it is not a directory of this user's."""
    id = ContainerId(id)  # at run time, too
    root_fd = _open_root(root, id)
    try:
        return _open_below(root_fd, root, id)
    finally:
        posix.close(root_fd)


def _open_root(root: str, id: ContainerId) -> int:
    try:
        return posix.open(root, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except FileNotFoundError:
        raise _not_found(root, id) from None


def _open_below(root_fd: int, root: str, id: ContainerId) -> int:
    directory = f"{root}/{id}"
    try:
        fd = posix.open(id, _DIRECTORY, dir_fd=root_fd)
    except FileNotFoundError:
        raise _not_found(root, id) from None
    except NotADirectoryError:
        kind = posix.stat(id, dir_fd=root_fd, follow_symlinks=False).st_mode & S_IFMT
        raise StateError(
            f"{id} is not a container: {directory} is {'a symbolic link' if kind == S_IFLNK else 'not a directory'}",
            hint="see: pyruntime list",
        ) from None
    except PermissionError:
        raise StateError(
            f"container {id}: open {directory}: permission denied",
            hint="run as the user who created the container",
        ) from None
    try:
        found = posix.fstat(fd)
        if found.st_uid != posix.geteuid():
            raise StateError(
                f"container {id}: {directory} is owned by uid {found.st_uid}, not by uid {posix.geteuid()}",
                hint="run as the user who created the container",
            )
        if found.st_dev != posix.fstat(root_fd).st_dev:
            raise _mounted(directory)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def _not_found(root: str, id: str) -> NotFound:
    return NotFound(f'container "{id}" does not exist', why=f"{root}/{id} does not exist")


def _mounted(path: str) -> StateError:
    return StateError(f"another file system is mounted on {path}", hint="unmount it, then try again")


def read_below(directory_fd: int, name: str) -> str:
    """Return the content of a file in an open directory, as a whole. Raises OSError; ELOOP for a link."""
    # O_NONBLOCK: a FIFO is empty then, and does not wait for a writer.
    fd = posix.open(name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC, dir_fd=directory_fd)
    try:
        data = chunk = posix.read(fd, _CHUNK)
        while len(chunk) == _CHUNK:  # these are regular files: a short read is the end
            chunk = posix.read(fd, _CHUNK)
            data += chunk
    finally:
        posix.close(fd)
    return data.decode("utf-8", "surrogateescape")


def exists(root: str, id: ContainerId) -> bool:
    """Return whether ROOT/ID is there, whatever it is."""
    try:
        posix.stat(f"{root}/{ContainerId(id)}", follow_symlinks=False)
    except OSError:
        return False
    return True


def make(root: str, id: ContainerId) -> tuple[str, int]:
    """Make and lock the directory of a new container: (directory, descriptor that holds the lock).

    Raises StateError when the id is taken, or the directory cannot be made."""
    id = ContainerId(id)
    directory = f"{root}/{id}"
    try:
        root_fd = _made_root(root)
        try:
            posix.mkdir(id, 0o700, dir_fd=root_fd)
            try:
                fd = lock(directory, id)
                try:
                    # Before it was locked others may have removed it, and made a container in a new one.
                    taken = any(name != ABANDONED for name in posix.listdir(fd))
                except BaseException:
                    posix.close(fd)
                    raise
            except (OSError, StateError) as error:
                if not isinstance(error, (Busy, NotFound)):  # those: another command has it
                    posix.rmdir(id, dir_fd=root_fd)
                raise
        finally:
            posix.close(root_fd)
        if taken:
            posix.close(fd)
            raise FileExistsError
        return directory, fd
    except FileExistsError:
        raise StateError(
            f"container with given ID already exists: {id}",
            hint=f"choose another id, or remove the container with: pyruntime delete {id}",
        ) from None
    except OSError as error:
        raise unusable(root, directory, error) from error


def _made_root(root: str) -> int:
    flags = O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
    try:
        return posix.open(root, flags)
    except FileNotFoundError:
        _make_root(root)
        return posix.open(root, flags)


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
    """Return the error for a state directory that cannot be made or written."""
    from pyruntime.errors import errno_name, strerror

    hints = {
        13: "run as root, or give a directory of your own with --root",
        1: "run as root, or give a directory of your own with --root",
        30: "give a writable directory with --root",
        28: "free space there, or give another directory with --root",
    }
    named = str(error.filename or "")
    return StateError(
        f"cannot keep the container's state: {named if named.startswith('/') else directory}:"
        f" {strerror(error.errno)} ({errno_name(error.errno)})",
        hint=hints.get(error.errno or 0, f"check --root ({root})"),
    )


def lock(directory: str, id: ContainerId, timeout: float = LOCK_SECONDS) -> int:
    """Take the container's lock; closing the descriptor gives it back.

    Waits up to timeout seconds for another command, then raises Busy. Raises NotFound when the container was
    removed meanwhile."""
    fd = open_directory(root_of(directory), id)
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
                        hint="wait for that command, or end it",
                    ) from None
                time.sleep(0.005)
        if posix.fstat(fd).st_nlink == 0:
            raise NotFound(f'container "{id}" does not exist')
    except BaseException:
        posix.close(fd)  # or this very command would wait for it when it undoes what it has made
        raise
    return fd


def root_of(directory: str) -> str:
    """ROOT of ROOT/ID."""
    return directory.rpartition("/")[0] or "/"


def require_no_mount(directory: str, id: ContainerId) -> None:
    """Raise StateError when something is mounted on ROOT/ID: what is in it is not a container's, and may not go."""
    root_fd = _open_root(root_of(directory), id)
    try:
        # rmdir(2) looks for a mount before it looks whether the directory is empty. st_dev shows no bind mount.
        if posix.listdir(directory):
            _removed_empty(root_fd, id, directory)
    except FileNotFoundError:
        pass
    finally:
        posix.close(root_fd)


def remove(directory: str) -> None:
    """Remove a container's directory, the record last. What no longer exists is not an error.

    Raises StateError when something is mounted on it or in it: that stays, and the record with it."""
    root, id = root_of(directory), ContainerId(directory.rpartition("/")[2])
    try:
        root_fd = _open_root(root, id)
    except NotFound:
        return
    try:
        # Not empty again: another `delete --force` has left its word meanwhile (abandon).
        while not _removed_empty(root_fd, id, directory):
            fd = _open_below(root_fd, root, id)
            try:
                _empty(fd, directory)
            finally:
                posix.close(fd)
    except NotFound:
        pass
    finally:
        posix.close(root_fd)


def _removed_empty(parent: int, name: str, path: str) -> bool:
    """Return whether a directory is gone; False while it is not empty. Raises StateError for a mount point."""
    try:
        posix.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno == EBUSY:
            raise _mounted(path) from None
        if error.errno not in _NOT_EMPTY:
            raise
        return False
    return True


def _empty(fd: int, path: str) -> None:
    """Remove what is in an open directory."""
    for name in sorted(posix.listdir(fd), key=lambda name: name == RECORD):
        inside = f"{path}/{name}"
        try:
            posix.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            if not _removed_empty(fd, name, inside):
                _empty_below(fd, name, inside)
        except OSError as error:
            if error.errno == EBUSY:
                raise _mounted(inside) from None
            raise


def _empty_below(parent: int, name: str, path: str) -> None:
    fd = posix.open(name, _DIRECTORY, dir_fd=parent)
    try:
        if posix.fstat(fd).st_dev != posix.fstat(parent).st_dev:
            raise _mounted(path)  # since rmdir(2) found none
        _empty(fd, path)
    finally:
        posix.close(fd)
    posix.rmdir(name, dir_fd=parent)
