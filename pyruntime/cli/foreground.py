"""Waiting for a process in the foreground: signals go on to it, and its exit status becomes ours."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only the slow half
import posix

from pyruntime.kernel import process

_SIGCHLD = 17
_NOT_FORWARDED = frozenset((_SIGCHLD, 23))  # SIGURG: Go's scheduler, in callers' process groups
# Every signal but SIGKILL and SIGSTOP, and the two that the C library keeps for itself.
_WATCHED = frozenset(range(1, 65)) - {9, 19, 32, 33}


def hold_signals() -> None:
    """Let signals wait for `attend`. To be called before the clone: one that comes meanwhile is not lost.

    The child lets them through again right before execve (kernel.process.reset_signals)."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, _WATCHED)


def attend(pid: int, pidfd: int) -> int:
    """Forward signals to a child and reap whoever ends, until it has ended.

    pidfd is the child's, -1 when it is gone; closed here. Gives back its exit status, 128 + N for signal N."""
    while True:
        # Look before waiting: it may have ended before the signal was awaited.
        status = _reap(pid)
        if status is not None:
            if pidfd >= 0:
                posix.close(pidfd)
            return 128 - status if status < 0 else status
        signal = _signal.sigwait(_WATCHED)
        if signal not in _NOT_FORWARDED and pidfd >= 0:
            try:
                process.send_signal(pidfd, signal)
            except ProcessLookupError:
                pass


def _reap(child: int) -> int | None:
    """Take the exit statuses of all that has ended: the child's, minus the signal's number, or None."""
    found = None
    while True:
        try:
            pid, status = posix.waitpid(-1, posix.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = posix.waitstatus_to_exitcode(status)
