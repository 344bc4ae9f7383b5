"""Signals as something to read: signalfd(2)."""

from __future__ import annotations

import posix

from pyruntime.kernel.call import check, lib

_SIZE = 128  # bytes of struct signalfd_siginfo; the number comes first


def open_signals(signals: frozenset[int]) -> int:
    """Return a descriptor that is readable while a signal of this set, which must be blocked, is pending."""
    mask = 0
    for number in signals:
        mask |= 1 << number - 1
    return check(lib.shim_signalfd(mask), "signalfd", hex(mask))


def next_signal(fd: int) -> int:
    """Take the next pending signal of such a descriptor: its number, 0 when there is none."""
    try:
        data = posix.read(fd, _SIZE)
    except BlockingIOError:
        return 0
    return int.from_bytes(data[:4], "little")
