"""Start a created container in the shim process, by opening its exec fifo (runtime/exec_fifo.py)."""

from __future__ import annotations

import posix

from pyruntime.errors import PyruntimeError, from_oserror
from pyruntime.runtime import exec_fifo
from pyruntime.state import store
from pyruntime.state.status import status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime.shim.event_loop import Loop
    from pyruntime.state.store import Record

    Done = Callable[[object, PyruntimeError | None], None]


def open_exec_fifo(loop: Loop, record: Record, seconds: float, done: Done) -> bool:
    """Start a container. Return False if that needs a child: it has hooks, or is not in created state.

    done is called once, with an error if init fails to execute the user process, or does not within `seconds`.
    The container's lock is released and descriptors are closed before that."""
    if "poststart" in record.hooks:
        return False
    try:
        lock = store.lock(record.directory, record.id, timeout=0)
    except (PyruntimeError, OSError):
        return False
    try:
        created = status_of(record) == "created"
        fd = exec_fifo.write_go(record) if created else -1
    except (PyruntimeError, OSError) as error:
        posix.close(lock)
        _report(error, done)
        return True
    if not created:
        posix.close(lock)
        return False

    def ended(error: PyruntimeError | OSError | None) -> None:
        timer.cancel()
        loop.forget(fd)
        posix.close(fd)
        if error is None:
            try:
                exec_fifo.conclude(record)  # needs a descriptor: the one just closed may be the only one free
            except (PyruntimeError, OSError) as raised:
                error = raised
        posix.close(lock)
        _report(error, done)

    timer = loop.later(seconds, lambda: ended(PyruntimeError(f"init made no progress for {seconds:g} s")))
    loop.watch(fd, 0, lambda events: ended(None))  # POLLERR is always reported
    return True


def _report(error: PyruntimeError | OSError | None, done: Done) -> None:
    done(None, from_oserror(error, doing="start the container") if isinstance(error, OSError) else error)
