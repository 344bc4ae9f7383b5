"""--pid-file: a process's pid for whoever waits for the file."""

from __future__ import annotations

import posix

from pyruntime import state
from pyruntime.errors import StateError, errno_name, strerror
from pyruntime.kernel import files


def check(path: str) -> None:
    """Raise StateError for a place that cannot take a pid file, before anything is made."""
    directory = path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")
    try:
        posix.stat(directory)
    except OSError as error:
        raise StateError(
            f"--pid-file {path}: {strerror(error.errno)} ({errno_name(error.errno)})",
            mend="make its directory first",
        ) from None


def write(path: str, pid: int) -> None:
    """Write a pid as a whole: who sees the file sees the number."""
    directory, _, name = path.rpartition("/")
    directory = directory or ("/" if path.startswith("/") else ".")
    try:
        try:
            files.create_whole(f"{directory}/{name}", b"%d" % pid, 0o644)
        except OSError:  # an old file is there, or the filesystem has no O_TMPFILE
            state.write_atomically(directory, name, str(pid), mode=0o644)
    except OSError as error:
        raise StateError(f"--pid-file {path}: {strerror(error.errno)} ({errno_name(error.errno)})") from error
