"""--pid-file: write a process's pid for a caller that waits for the file.

A regular file is replaced as a whole. A FIFO, a terminal or another character device is written to, and stays.
"""

from __future__ import annotations

import posix

from pyruntime.errors import StateError, errno_name, strerror
from pyruntime.kernel import files
from pyruntime.kernel.constants import S_IFCHR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG
from pyruntime.util.fileio import write_atomically

_STREAMS = (S_IFIFO, S_IFCHR)


def check(path: str) -> None:
    """Raise StateError for a place that cannot take a pid file, before anything is made."""
    directory = path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")
    try:
        posix.stat(directory)
    except OSError as error:
        raise _failed(path, error, "make its directory first") from None
    _is_stream(path)


def write(path: str, pid: int) -> None:
    """Write a pid atomically: a reader that sees the file sees the number. Raises StateError."""
    directory, _, name = path.rpartition("/")
    directory = directory or ("/" if path.startswith("/") else ".")
    try:
        if _is_stream(path):
            _write_to_stream(path, b"%d" % pid)
            return
        try:
            files.create_whole(f"{directory}/{name}", b"%d" % pid, 0o644)
        except OSError:  # an old file is there, or the filesystem has no O_TMPFILE
            write_atomically(directory, name, str(pid), mode=0o644)
    except OSError as error:
        raise _failed(path, error) from error


def _is_stream(path: str) -> bool:
    """Return whether it exists and is written to, not replaced. Raises StateError for what can be neither."""
    try:
        kind = posix.stat(path, follow_symlinks=False).st_mode & S_IFMT
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _failed(path, error) from None
    if kind == S_IFREG:
        return False
    if kind == S_IFLNK:  # such as /dev/stdout
        try:
            kind = posix.stat(path).st_mode & S_IFMT
        except OSError as error:
            raise _failed(path, error) from None
    if kind not in _STREAMS:
        raise StateError(
            f"--pid-file {path}: not a regular file, a FIFO or a character device",
            hint="give the path of a file; a symbolic link to a file is not followed",
        )
    return True


def _write_to_stream(path: str, data: bytes) -> None:
    # O_NONBLOCK: a FIFO without a reader is an error (ENXIO), and not waited for.
    fd = posix.open(path, posix.O_WRONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC)
    try:
        kind = posix.fstat(fd).st_mode & S_IFMT
        if kind not in _STREAMS:
            raise StateError(f"--pid-file {path}: it was replaced meanwhile")
        posix.write(fd, data)
    finally:
        posix.close(fd)


def _failed(path: str, error: OSError, hint: str | None = None) -> StateError:
    return StateError(f"--pid-file {path}: {strerror(error.errno)} ({errno_name(error.errno)})", hint=hint)
