"""Where the bars of a picture stand: time to place, without the long waits that say nothing, and bars in rows."""

from __future__ import annotations

from pyruntime.trace.event_format import COMMAND, PAUSE, Event, Trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A pause (the container runs, init waits for `start`) is cut when it is longer than this part of the rest; and what is
# left of it then.
_LONG_PAUSE = 0.4
_LEFT_OF_PAUSE = 0.04


class Scale:
    """From a moment to a fraction of a picture's width.

    begin: where the picture begins. length: nanoseconds shown, with pauses cut short. cuts: (begin, end) of those."""

    def __init__(self, trace: Trace) -> None:
        whole = trace.whole
        self.begin = whole.start
        pauses = _pauses(trace)
        busy = whole.end - whole.start - sum(end - start for start, end in pauses)
        self.cuts = [(start, end) for start, end in pauses if end - start > busy * _LONG_PAUSE]
        taken = sum(end - start for start, end in self.cuts)
        self._rest = max(whole.end - whole.start - taken, 1)
        self._left = int(self._rest * _LEFT_OF_PAUSE)
        self.length = sum(self._kept(start, end) for start, end in self.cuts) + self._rest

    def _kept(self, start: int, end: int) -> int:
        return min(end - start, self._left)

    def place(self, moment: int) -> float:
        """Return the position of a time, from 0 to 1."""
        shown = moment - self.begin
        for start, end in self.cuts:
            within = min(max(moment - start, 0), end - start)
            shown -= within - within * self._kept(start, end) // max(end - start, 1)
        return min(max(shown / self.length, 0.0), 1.0)


def _pauses(trace: Trace) -> list[tuple[int, int]]:
    """Return the parts of the trace in which nothing but a pause was going on, in order."""
    pauses = sorted((event.start, event.end) for event in trace.events if event.kind == PAUSE)
    busy = [event for event in trace.events if event.kind not in (PAUSE, COMMAND)]
    found: list[tuple[int, int]] = []
    for start, end in pauses:
        inside = sorted((e.start, e.end) for e in busy if e.start < end and e.end > start)
        at = start
        for begin, finish in [*inside, (end, end)]:
            if begin - at > 0:
                found.append((at, min(begin, end)))
            at = max(at, finish)
    # init waits at the exec fifo while the parent waits for init to exit: the same period in both.
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def rows(events: list[Event], apart: Callable[[Event, Event], bool]) -> list[list[Event]]:
    """Events in rows so that those of a row do not overlap, what holds others above it.

    apart: whether the first of two, which begins earlier, leaves room for the second."""
    found: list[list[Event]] = []
    for event in sorted(events, key=lambda one: (one.start, -one.end)):
        for row in found:
            if apart(row[-1], event):
                row.append(event)
                break
        else:
            found.append([event])
    return found


def duration(nanoseconds: int) -> str:
    """Format a duration: "812 ns", "41 µs", "1.25 ms", "3.1 s"."""
    if nanoseconds < 1000:
        return f"{nanoseconds} ns"
    if nanoseconds < 10**6:
        return f"{nanoseconds / 1000:.0f} µs"
    if nanoseconds < 10**9:
        return f"{nanoseconds / 10**6:.2f} ms"
    return f"{nanoseconds / 10**9:.2f} s"
