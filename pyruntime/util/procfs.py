"""Parse the files of /proc/PID (proc(5))."""

from __future__ import annotations

from pyruntime.util.fileio import read_file

# Indices into what stat() returns.
STATE, PARENT, FLAGS, UTIME, STIME, START_TIME = 0, 1, 6, 11, 12, 19


def stat(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; see the indices above. Raises OSError.

    The second field, the name of the command, may contain anything, also spaces and parentheses."""
    return read_file(f"/proc/{pid}/stat").rpartition(")")[2].split()


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks after boot; 0 if it is gone or a zombie."""
    if pid <= 0:
        return 0
    try:
        fields = stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[STATE] in "ZX" else int(fields[START_TIME])


def status(text: str) -> dict[str, str]:
    """Return the fields of a /proc/PID/status or /proc/PID/fdinfo/FD: name -> value."""
    # The kernel escapes line breaks in the name of the command.
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
