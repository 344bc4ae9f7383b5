"""Signals by pidfd. Python's `_signal` has the call: commands that only look and signal need no shim."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only the slow half
import select


def send_signal(pidfd: int, signal: int) -> None:
    """pidfd_send_signal(2): no other process can be meant, even when the pid was used again.

    Raises ProcessLookupError when it is dead, OSError for anything else."""
    _signal.pidfd_send_signal(pidfd, signal)


def has_exited(pidfd: int) -> bool:
    """Return whether the process of a pidfd has ended; it may still be a zombie."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
