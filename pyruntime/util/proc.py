"""The files of /proc/PID (proc(5))."""

from __future__ import annotations

from pyruntime.util.fileio import read_file


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
