"""A trace as text: a line an event, with when, how long, a bar, and what it was."""

from __future__ import annotations

from pyruntime.errors import from_json, printable
from pyruntime.trace.event_format import COMMAND, FAILED, INIT, OK, PAUSE, STEP, WAIT, Event, Trace
from pyruntime.trace.picture import Scale, duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.util.colour import Painter

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_COLOURS = {STEP: "green", WAIT: "yellow", PAUSE: "dim", COMMAND: "bold"}
_BAR = 28


def table(trace: Trace, *, width: int, paint: Painter, steps_only: bool = False, at_least: int = 0) -> str:
    """Return the trace as lines of text.

    width: columns, 0 for no limit. at_least: shorter events (nanoseconds) are left out, unless they failed."""
    scale = Scale(trace)
    events = sorted(trace.events, key=lambda event: (event.start, -event.end))
    shown = [
        event
        for event in events
        if event.result != OK
        or event.kind == COMMAND
        or (event.duration >= at_least and (event.kind == STEP or not steps_only))
    ]
    lines = [_head(trace, paint), paint(f"{'at':>10} {'took':>10}  {' ' * _BAR}  who     what", "bold")]
    for event in shown:
        when = f"{duration(event.start - scale.begin):>10} {duration(event.duration):>10}"
        colour = "red" if event.result != OK else _COLOURS.get(event.kind, "blue")
        bar = paint(_bar(scale.place(event.start), scale.place(event.end)), colour)
        mark = "" if event.result == OK else f"{event.result.upper()}: "
        words = printable(mark + event.name)
        room = width - _BAR - 34
        if 0 < room < len(words):
            words = words[: max(room - 1, 8)] + "…"
        lines.append(f"{when}  {bar}  {event.track:6}  {paint(words, 'red') if mark else words}")
    left = len(events) - len(shown)
    if left:
        lines.append(f"{left} shorter events, or none that are steps, are not shown")
    lines += _failure(trace, paint)
    return "\n".join(lines) + "\n"


def _head(trace: Trace, paint: Painter) -> str:
    whole = trace.whole
    steps = [event for event in trace.events if event.kind == STEP]
    init = sum(event.duration for event in steps if event.track == INIT)
    parent = sum(event.duration for event in steps if event.track != INIT)
    text = f"pyruntime {trace.command} {trace.id}: {whole.result}, {duration(whole.duration)}"
    text += f"; {len(steps)} steps: {duration(parent)} in the parent's, {duration(init)} in init's"
    return paint(printable(text), "bold", *(["red"] if whole.result == FAILED else []))


def _failure(trace: Trace, paint: Painter) -> list[str]:
    if trace.error is None:
        return []
    return [paint(f"failed: {from_json(trace.error)}", "red")]


def _bar(start: float, end: float) -> str:
    """Return a bar from one place to another, in eighths of a column; always as much as can be seen."""
    first, last = int(start * _BAR * 8), int(end * _BAR * 8)
    first = min(first, _BAR * 8 - 1)
    last = max(last, first + 1)
    cells = []
    for cell in range(_BAR):
        left, right = max(first - cell * 8, 0), min(last - cell * 8, 8)
        if right <= 0 or left >= 8:
            cells.append(" ")
        elif left > 0 and right == 8:
            # There are no blocks for the right part of a column: one that is half filled, or a line.
            cells.append("▐" if left <= 4 else "▕")
        elif left > 0:
            cells.append("│")
        else:
            cells.append(_EIGHTHS[right])
    return "".join(cells)


def longest(events: list[Event], count: int) -> list[Event]:
    """Return the steps that took longest, longest first."""
    return sorted((event for event in events if event.kind == STEP), key=lambda event: -event.duration)[:count]
