"""Descriptors that the caller passes through to the process: --preserve-fds and LISTEN_FDS (sd_listen_fds(3))."""

from __future__ import annotations

import posix

from pyruntime.errors import UsageError

_FIRST = 3


def preserved(count: int, listening: int = 0) -> int:
    """Return how many descriptors from 3 on the process gets: those of LISTEN_FDS, then those of --preserve-fds.

    To be called before anything is opened. Raises UsageError for one that is not open: it would be one of the
    runtime's own by the time of the clone."""
    if count < 0:
        raise UsageError(f"--preserve-fds: {count} is less than 0")
    for fd in range(_FIRST, _FIRST + listening + count):
        try:
            posix.fstat(fd)
        except OSError:
            flag = "LISTEN_FDS" if fd < _FIRST + listening else f"--preserve-fds {count}"
            raise UsageError(f"{flag}: descriptor {fd} is not open", hint="pass it open, or lower the number") from None
    return listening + count


def listening() -> int:
    """Return how many descriptors LISTEN_FDS passes to this very process: only then is LISTEN_PID ours."""
    environment = posix.environ
    pid, count = environment.get(b"LISTEN_PID", b""), environment.get(b"LISTEN_FDS", b"")
    return int(count[:9]) if count.isdigit() and pid == b"%d" % posix.getpid() else 0
