"""Colour on a terminal, not in a pipe, and not if NO_COLOR is set (no-color.org)."""

from __future__ import annotations

import posix

CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "bold": "1", "dim": "2"}


class Painter:
    """Colours text. on: False returns text unchanged."""

    __slots__ = ("on",)

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, *names: str) -> str:
        """Return the text with the given colours and weights (keys of CODES)."""
        if not self.on or not text:
            return text
        codes = ";".join(CODES[name] for name in names)
        return f"\x1b[{codes}m{text}\x1b[0m"


def of(fd: int) -> Painter:
    """Return the painter for a descriptor. It is on for a terminal with colours, unless NO_COLOR is set."""
    environment = posix.environ
    forbidden = environment.get(b"NO_COLOR") or environment.get(b"TERM") == b"dumb"
    return Painter(not forbidden and posix.isatty(fd))
