"""An error for a person at a terminal: three short lines, where in config.json, the reason, the hint.

Engines get one line (errors.py); this is imported when standard error is a terminal, and then only."""

from __future__ import annotations

from pyruntime.errors import (
    ConfigError,
    HookError,
    NotFound,
    PyruntimeError,
    StepError,
    UsageError,
    printable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.util.colour import Painter


def lines(command: str, error: PyruntimeError, paint: Painter, arguments: list[str] | None = None) -> str:
    """Return the error as text of two or three lines.

    command:   what was to be done, "" when it did not come to that.
    arguments: the command line, which says where config.json is."""
    first = error.brief or error
    head = f"pyruntime: {command} failed" if command else "pyruntime"
    if first.pointer:
        head += f" at {first.pointer} of {first.file}{_line_of(command, first.pointer, arguments or [])}"
    elif first.pointer is not None:
        head += f" at {first.file}"
    reason = first.message
    if first.syscall:
        # The call with its arguments is for the log; its error in words and by name stays.
        reason = reason.replace(f"{first.syscall}: ", "")
    if first.why:
        reason += f": {first.why}"
    shown = [paint(printable(head), "bold", "red"), f"  {paint('reason', 'bold')}  {printable(reason)}"]
    hint = first.hint or _general_hint(error)
    if hint:
        shown.append(f"  {paint('hint', 'bold')}    {printable(hint)}")
    if error.others:
        shown.append(f"  and {error.others} more: pyruntime validate shows all of them")
    return "\n".join(shown) + "\n"


def _line_of(command: str, pointer: str, arguments: list[str]) -> str:
    """Return the line of a field, as ", line 41"; "" where it is not known."""
    if command not in ("create", "run"):
        return ""
    from pyruntime.spec import load
    from pyruntime.spec.position import Positions

    bundle = "."
    for index, word in enumerate(arguments):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name in ("b", "bundle"):
            bundle = value if equals else "".join(arguments[index + 1 : index + 2])
    try:
        text = load.read_config(bundle).decode()
    except (PyruntimeError, ValueError):
        return ""
    return f", line {Positions(text).find(pointer)[0]}"


def _general_hint(error: PyruntimeError) -> str:
    """Return what to do about an error that says nothing of it."""
    if isinstance(error, (UsageError, NotFound)):
        return "see: pyruntime --help" if isinstance(error, UsageError) else "see: pyruntime list"
    if isinstance(error, ConfigError):
        return "correct config.json; pyruntime validate checks it without root"
    if isinstance(error, (StepError, HookError)):
        return "run it again with pyruntime --debug: the last step that it logs is the one that failed"
    return ""
