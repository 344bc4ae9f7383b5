"""Wait for a process in the foreground: forward signals to it, and exit with its status."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only the slow half
import posix
import select

from pyruntime.kernel.constants import SIGCHLD, SIGURG, SIGWINCH
from pyruntime.kernel.pidfd import send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# SIGURG is how Go's scheduler interrupts itself, in callers that share our process group; SIGWINCH reports the
# caller's terminal, which the process has only by way of a relay (terminal.py).
_NOT_FORWARDED = frozenset((SIGCHLD, SIGURG, SIGWINCH))
# Every signal but SIGKILL and SIGSTOP, and the two that the C library keeps for itself.
WATCHED = frozenset(range(1, 65)) - {9, 19, 32, 33}


def hold_signals() -> None:
    """Block signals until `attend`. To be called before the clone: one that arrives meanwhile is not lost.

    The child unblocks them right before execve (kernel.process.reset_signals)."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, WATCHED)


class Source:
    """What else than signals is waited for in the foreground: a terminal, a notify socket."""

    def register(self, poll: select.poll) -> None:
        """Say which descriptors to wait for; called before each wait."""

    def serve(self, fd: int, events: int) -> None:
        """Do what a descriptor is ready for; called with those of other sources, too."""

    def signal(self, number: int) -> None:
        """Handle a signal before it is forwarded to the process."""

    def finish(self) -> None:
        """The process has ended."""


def attend(pid: int, pidfd: int, sources: Sequence[Source] = ()) -> int:
    """Forward signals to a child and reap processes, until the child has exited.

    pidfd is the child's, -1 when it is gone. Gives back its exit status, 128 + N for signal N."""
    if sources:
        return _attend_sources(pid, pidfd, sources)
    while True:
        # Look before waiting: it may have ended before the signal was awaited.
        status = reap(pid)
        if status is not None:
            return status
        forward(_signal.sigwait(WATCHED), pidfd)


def _attend_sources(pid: int, pidfd: int, sources: Sequence[Source]) -> int:
    from pyruntime.kernel import signalfd

    pending = signalfd.open_signals(WATCHED)
    poll = select.poll()
    poll.register(pending, select.POLLIN)
    while (status := reap(pid)) is None:
        for source in sources:
            source.register(poll)
        for fd, events in poll.poll():
            for source in sources:
                source.serve(fd, events)
        while number := signalfd.next_signal(pending):
            for source in sources:
                source.signal(number)
            forward(number, pidfd)
    for source in sources:
        source.finish()
    posix.close(pending)
    return status


def forward(signal: int, pidfd: int) -> None:
    """Send a signal on to the child, if it is one for it."""
    if signal not in _NOT_FORWARDED and pidfd >= 0:
        try:
            send_signal(pidfd, signal)
        except ProcessLookupError:
            pass


def reap(child: int) -> int | None:
    """Take the exit statuses of all that has ended: the child's, 128 + N for signal N, or None."""
    found = None
    while True:
        try:
            pid, status = posix.waitpid(-1, posix.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = posix.waitstatus_to_exitcode(status)
            found = 128 - code if code < 0 else code
