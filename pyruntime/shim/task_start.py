"""Start of a created container by the shim itself, without a child: it opens the exec fifo (runtime/exec_fifo.py)."""

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


def open_gate(loop: Loop, record: Record, seconds: float, done: Done) -> bool:
    """Start a container; False when that takes a child: there are hooks to run, or it is in no state for it.

    done is called once, with init's error if it could not become the user's process, or had not after so many
    seconds. The container's lock and the descriptors are given back before that, whatever happens."""
    if "poststart" in record.hooks:
        return False
    try:
        lock = store.lock(record.directory, record.id, timeout=0)
    except (PyruntimeError, OSError):
        return False
    try:
        created = status_of(record) == "created"
        fd = exec_fifo.knock(record) if created else -1
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
                exec_fifo.conclude(record)  # with the descriptor that was closed just now, if there is no other
            except (PyruntimeError, OSError) as raised:
                error = raised
        posix.close(lock)
        _report(error, done)

    timer = loop.later(seconds, lambda: ended(PyruntimeError(f"init stands still for {seconds:g} s")))
    loop.watch(fd, 0, lambda events: ended(None))  # POLLERR is always reported
    return True


def _report(error: PyruntimeError | OSError | None, done: Done) -> None:
    done(None, from_oserror(error, doing="start the container") if isinstance(error, OSError) else error)
