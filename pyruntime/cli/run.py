"""run: create and start a container, and wait for its end."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only the slow half
import posix

from pyruntime import container
from pyruntime.cli import create
from pyruntime.cli.flags import Flag
from pyruntime.cli.main import Context, one_id
from pyruntime.errors import PyruntimeError
from pyruntime.kernel import process
from pyruntime.kernel.constants import PR_SET_CHILD_SUBREAPER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.state import Record

USAGE = "ID"
FLAGS = (
    *create.FLAGS,
    Flag("detach", "return once the process runs", short="d"),
    Flag("keep", "keep the container's state after the process has ended"),
)

_SIGCHLD = 17
_NOT_FORWARDED = frozenset((_SIGCHLD, 23))  # SIGURG: Go's scheduler, in callers' process groups


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Run the container: the exit status of its process, 128 + N when signal N ended it."""
    id = one_id(words, "run")
    detach = values["detach"]
    if not detach:
        # Blocked before the clone: a signal that comes meanwhile waits for `_attend`. init unblocks its own.
        _signal.pthread_sigmask(_signal.SIG_SETMASK, _FORWARDED)
        if not values["no-subreaper"]:
            process.prctl(PR_SET_CHILD_SUBREAPER, 1)
    record = create.create(context, values, id, detach=detach)
    try:
        container.start(record, context.log)
    except PyruntimeError:
        container.destroy(record)
        raise
    if detach:
        return 0
    status = _attend(record)
    if not values["keep"]:
        container.delete(record, force=True, log=context.log)
    return status


_FORWARDED = frozenset(range(1, 65)) - {9, 19, 32, 33}


def _attend(record: Record) -> int:
    """Forward signals to init and reap whoever ends, until init has ended: its exit status."""
    pidfd = container.open_init(record)
    while True:
        # Look before waiting: init may have ended before the signal was awaited.
        status = _reap(record.pid)
        if status is not None:
            if pidfd >= 0:
                posix.close(pidfd)
            return 128 - status if status < 0 else status
        signal = _signal.sigwait(_FORWARDED)
        if signal not in _NOT_FORWARDED and pidfd >= 0:
            try:
                process.send_signal(pidfd, signal)
            except ProcessLookupError:
                pass


def _reap(init: int) -> int | None:
    """Take the exit statuses of all that has ended: init's, minus the signal's number, or None."""
    found = None
    while True:
        try:
            pid, status = posix.waitpid(-1, posix.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == init:
            found = posix.waitstatus_to_exitcode(status)
