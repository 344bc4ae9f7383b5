"""Colour on a terminal: for whoever looks, never for who reads a pipe, and not against NO_COLOR (no-color.org)."""

from __future__ import annotations

import posix

CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "bold": "1", "dim": "2"}


class Painter:
    """Paints words, or leaves them as they are. on: whether there is somebody to see it."""

    __slots__ = ("on",)

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, *names: str) -> str:
        """The text in the colours and weights named (keys of CODES)."""
        if not self.on or not text:
            return text
        codes = ";".join(CODES[name] for name in names)
        return f"\x1b[{codes}m{text}\x1b[0m"


def of(fd: int) -> Painter:
    """The painter for a descriptor: a terminal that can show colour, and nobody who forbids it."""
    environment = posix.environ
    forbidden = environment.get(b"NO_COLOR") or environment.get(b"TERM") == b"dumb"
    return Painter(not forbidden and posix.isatty(fd))
