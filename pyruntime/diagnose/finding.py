"""A finding of `validate` or `doctor`."""

from __future__ import annotations

from pyruntime.errors import PyruntimeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# In descending order.
SEVERITIES = ("error", "warning", "note")


class Finding:
    """A problem of a config or host: its field, the reason and a hint.

    severity: "error": the container cannot be created; "warning": it can, but something has no effect or may fail;
              "note": it could not be checked.
    pointer:  JSON pointer (RFC 6901) of the field, "" for the whole config.
    rule:     short name of the check, the same for all its findings, to filter by.
    """

    __slots__ = ("hint", "message", "pointer", "rule", "severity", "why")

    def __init__(
        self, severity: str, pointer: str, message: str, *, why: str = "", hint: str = "", rule: str = "host"
    ) -> None:
        self.severity = severity
        self.pointer = pointer
        self.message = message
        self.why = why
        self.hint = hint
        self.rule = rule

    def to_json(self) -> dict[str, str]:
        """Return the fields as a JSON object."""
        return {name: getattr(self, name) for name in ("severity", "rule", "pointer", "message", "why", "hint")}

    def text(self) -> str:
        """Return one line without the severity: `POINTER: MESSAGE: WHY; HINT`."""
        line = ": ".join(part for part in (self.pointer, self.message, self.why) if part)
        return f"{line}; {self.hint}" if self.hint else line


def of_error(error: PyruntimeError, rule: str, *, severity: str = "error", pointer: str = "") -> Finding:
    """Return the finding for an error that a check or the plan raised."""
    return Finding(
        severity,
        error.pointer or pointer,
        error.message,
        why=error.why or "",
        hint=error.hint or "",
        rule=rule,
    )


def near(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return "did you mean …?" if a known word is similar, else `otherwise`."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"did you mean {close[0]}?" if close else otherwise
