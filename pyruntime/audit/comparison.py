"""A comparison of `audit`: a requested setting and its actual value."""

from __future__ import annotations

from pyruntime.errors import printable

AS_ASKED = "as asked"
DRIFTED = "drifted"
CANNOT_SEE = "cannot see"

_LONGEST = 300


class Comparison:
    """A line of an audit.

    pointer:      JSON pointer of the field of config.json, "" for defaults of the runtime.
    what:         description of the setting.
    verdict:      AS_ASKED, DRIFTED or CANNOT_SEE.
    asked, found: requested and actual value if DRIFTED.
    note:         additional information, or the reason of CANNOT_SEE."""

    __slots__ = ("asked", "found", "note", "pointer", "verdict", "what")

    def __init__(
        self, pointer: str, what: str, verdict: str, *, asked: object = "", found: object = "", note: str = ""
    ) -> None:
        self.pointer = pointer
        self.what = _short(what)
        self.verdict = verdict
        self.asked = _short(asked)
        self.found = _short(found)
        self.note = _short(note)

    def to_json(self) -> dict[str, object]:
        """Return an object for --format json."""
        found = {"field": self.pointer, "what": self.what, "verdict": self.verdict}
        return found | {name: getattr(self, name) for name in ("asked", "found", "note") if getattr(self, name) != ""}

    def __repr__(self) -> str:
        return f"<Comparison {self.verdict}: {self.pointer} {self.what}: {self.asked} / {self.found} {self.note}>"


def as_asked(pointer: str, what: str, note: str = "") -> Comparison:
    """Return a comparison for a setting that is as requested."""
    return Comparison(pointer, what, AS_ASKED, note=note)


def drifted(pointer: str, what: str, asked: object, found: object, note: str = "") -> Comparison:
    """Return a comparison for a setting that differs."""
    return Comparison(pointer, what, DRIFTED, asked=asked, found=found, note=note)


def cannot_see(pointer: str, what: str, why: str) -> Comparison:
    """Return a comparison for a setting that cannot be read. why: the reason."""
    return Comparison(pointer, what, CANNOT_SEE, note=why)


def compare(pointer: str, what: str, asked: object, found: object, note: str = "") -> Comparison:
    """Return `as_asked` if the values are equal, else `drifted`."""
    return as_asked(pointer, what, note) if asked == found else drifted(pointer, what, asked, found, note)


def _short(value: object) -> str:
    """Return a value as one printable line: it may be under the control of the container."""
    text = printable(", ".join(map(str, value)) if isinstance(value, (list, tuple, set, frozenset)) else str(value))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
