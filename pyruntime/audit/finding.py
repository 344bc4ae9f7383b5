"""A finding: one thing that was asked for, and what was found of it."""

from __future__ import annotations

from pyruntime.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

AS_ASKED = "as asked"
DRIFTED = "drifted"
CANNOT_SEE = "cannot see"

_LONGEST = 300


class Finding:
    """One line of an audit.

    pointer: JSON pointer of the field of config.json, "" for what every container gets.
    what:    in words. verdict: AS_ASKED, DRIFTED or CANNOT_SEE.
    asked, found: the values of a DRIFTED one. note: what else there is to know, or why it cannot be seen."""

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
        """For --format json."""
        found = {"field": self.pointer, "what": self.what, "verdict": self.verdict}
        return found | {name: getattr(self, name) for name in ("asked", "found", "note") if getattr(self, name) != ""}

    def __repr__(self) -> str:
        return f"<Finding {self.verdict}: {self.pointer} {self.what}: {self.asked} / {self.found} {self.note}>"


def as_asked(pointer: str, what: str, note: str = "") -> Finding:
    """What was asked for is there."""
    return Finding(pointer, what, AS_ASKED, note=note)


def drifted(pointer: str, what: str, asked: object, found: object, note: str = "") -> Finding:
    """Something else is there."""
    return Finding(pointer, what, DRIFTED, asked=asked, found=found, note=note)


def cannot_see(pointer: str, what: str, why: str) -> Finding:
    """The kernel does not tell, or not us, or not now."""
    return Finding(pointer, what, CANNOT_SEE, note=why)


def compare(pointer: str, what: str, asked: object, found: object, note: str = "") -> Finding:
    """As asked when the two are equal."""
    return as_asked(pointer, what, note) if asked == found else drifted(pointer, what, asked, found, note)


def _short(value: object) -> str:
    """A value as one line. Much of it is the container's own words."""
    text = printable(", ".join(map(str, value)) if isinstance(value, (list, tuple, set, frozenset)) else str(value))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
