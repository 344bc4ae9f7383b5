"""trace: show a file that --trace has written, as a table with bars, or draw it."""

from __future__ import annotations

import posix

from pyruntime.cli.flags import Flag, number
from pyruntime.cli.main import write_output
from pyruntime.commands.settings import Settings
from pyruntime.errors import PyruntimeError, UsageError, printable
from pyruntime.trace import event_format, picture, svg, table
from pyruntime.util import colour, fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.cli.flags import Values

USAGE = "FILE"
FLAGS = (
    Flag("svg", "draw it as SVG to FILE (- for standard output)", value="FILE"),
    Flag("only", "show only one of the two processes", value="parent|init"),
    Flag("steps", "show only the steps of the plan"),
    Flag("at-least", "omit what took less than N microseconds", value="N"),
    Flag("longest", "show only the N longest steps, longest first", value="N"),
)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Show the trace."""
    if len(words) != 1:
        raise UsageError("trace takes one file", hint="see: pyruntime trace --help")
    trace = event_format.from_json(_read(words[0]))
    track = values["only"]
    if track not in ("", event_format.PARENT, event_format.INIT):
        raise UsageError(f"--only: {track!r}", hint="give parent or init")
    if track:
        trace = trace.only(track)
    if values["svg"]:
        _write(values["svg"], svg.draw(trace, track))
        return 0
    count = number(values["longest"], "longest")
    if count > 0:
        kept = table.longest(trace.events, count)
        lines = [f"{picture.duration(one.duration):>10}  {one.track:6}  {printable(one.name)}\n" for one in kept]
        write_output("".join(lines))
        return 0
    text = table.table(
        trace,
        width=_width(),
        paint=colour.of(1),
        steps_only=values["steps"],
        at_least=number(values["at-least"], "at-least") * 1000,
    )
    write_output(text)
    return 0


def _read(path: str) -> Any:
    try:
        fd = 0 if path == "-" else posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        data = bytearray()
        while chunk := posix.read(fd, 1 << 20):
            data += chunk
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if not data:
        raise PyruntimeError(f"{path} is empty", why="the command has not ended yet, or was killed")
    try:
        return fastjson.loads(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        raise PyruntimeError(f"{path} is not valid JSON", hint="give a file that --trace has written") from None


def _write(path: str, text: str) -> None:
    if path == "-":
        write_output(text)
        return
    data = text.encode("utf-8", "replace")
    try:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC
        fd = posix.open(path, flags, 0o666)
        while data:
            data = data[posix.write(fd, data) :]
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def _width() -> int:
    """Return the columns of the terminal; 0, no limit, for a pipe."""
    try:
        return posix.get_terminal_size(1).columns if posix.isatty(1) else 0
    except OSError:
        return 0
