"""An error for a person at a terminal: three short lines, where in config.json, the reason, the mend.

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
    from pyruntime.cli.colour import Painter


def lines(command: str, error: PyruntimeError, paint: Painter) -> str:
    """The error as text of two or three lines.

    command: what was to be done, "" when it did not come to that."""
    first = error.brief or error
    head = f"pyruntime: {command} failed" if command else "pyruntime"
    if first.pointer:
        head += f" at {first.pointer} of config.json"
    elif first.pointer is not None:
        head += " at config.json"
    reason = first.message
    if first.syscall:
        # The call with its arguments is for the log; its error in words and by name stays.
        reason = reason.replace(f"{first.syscall}: ", "")
    if first.why:
        reason += f": {first.why}"
    shown = [paint(printable(head), "bold", "red"), f"  {paint('reason', 'bold')}  {printable(reason)}"]
    mend = first.mend or _general_mend(error)
    if mend:
        shown.append(f"  {paint('mend', 'bold')}    {printable(mend)}")
    if error.others:
        shown.append(f"  and {error.others} more: pyruntime validate shows all of them")
    return "\n".join(shown) + "\n"


def _general_mend(error: PyruntimeError) -> str:
    """What to do about an error that says nothing of it."""
    if isinstance(error, (UsageError, NotFound)):
        return "pyruntime --help tells more" if isinstance(error, UsageError) else "pyruntime list shows what there is"
    if isinstance(error, ConfigError):
        return "correct config.json; pyruntime validate checks it without root"
    if isinstance(error, (StepError, HookError)):
        return "run it again with pyruntime --debug: the last step that it tells is the one that failed"
    return ""
