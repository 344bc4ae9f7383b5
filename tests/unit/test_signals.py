"""Signals by name and number."""

from __future__ import annotations

import signal

import pytest

from pyruntime.errors import UsageError
from pyruntime.util import signals


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigterm", 15),
        ("term", 15),
        ("SigKill", 9),
        ("0", 0),
        ("1", 1),
        ("64", 64),
        ("32", 32),
        ("RTMIN", 34),
        ("SIGRTMIN", 34),
        ("RTMIN+3", 37),
        ("rtmin+30", 64),
        ("RTMAX", 64),
        ("SIGRTMAX-14", 50),
        ("WINCH", 28),
        ("IOT", 6),
        ("CLD", 17),
    ],
)
def test_a_signal(word: str, number: int) -> None:
    assert signals.parse(word) == number


@pytest.mark.parametrize(
    "word",
    ["", "-1", "65", "SIG", "NOSUCH", "SIGSIGTERM", "TERM ", " 9", "9.0", "RTMIN+31", "RTMIN-1", "RTMAX+1",
     "RTMIN+", "RTMIN3", "RTMIN+x", "1e1", "0x9", "²"],
)  # fmt: skip
def test_what_is_no_signal(word: str) -> None:
    with pytest.raises(UsageError, match="unknown signal") as caught:
        signals.parse(word)
    assert caught.value.hint


def test_the_table_is_the_kernels() -> None:
    for one in signal.Signals:
        if one.value < signals.RTMIN:
            assert signals.parse(one.name) == one.value
    # The C library keeps the first two real-time signals; its RTMIN is 34.
    assert (signals.RTMIN, signals.RTMAX) == (signal.SIGRTMIN, signal.SIGRTMAX)
