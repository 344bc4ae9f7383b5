"""One thing that `validate` or `doctor` has to say."""

from __future__ import annotations

from pyruntime.errors import PyruntimeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# From what stops a container to what only could not be seen.
SEVERITIES = ("error", "warning", "note")


class Finding:
    """What is wrong, where, why, and what to do.

    severity: "error": a container cannot be made; "warning": it can, but something has no effect or may fail;
              "note": it could not be looked at.
    pointer:  JSON pointer of the field, "" for the whole.
    rule:     a short name of the check, the same for all its findings, for whoever filters them.
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
        """Its parts by name."""
        return {name: getattr(self, name) for name in ("severity", "rule", "pointer", "message", "why", "hint")}

    def text(self) -> str:
        """All but the severity, as one line."""
        line = ": ".join(part for part in (self.pointer, self.message, self.why) if part)
        return f"{line}; {self.hint}" if self.hint else line


def of_error(error: PyruntimeError, rule: str, *, severity: str = "error", pointer: str = "") -> Finding:
    """An error that a check or the plan has raised."""
    return Finding(
        severity,
        error.pointer or pointer,
        error.message,
        why=error.why or "",
        hint=error.hint or "",
        rule=rule,
    )


def near(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """ "did you mean …?" for a misspelt word, else the other hint."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"did you mean {close[0]}?" if close else otherwise
