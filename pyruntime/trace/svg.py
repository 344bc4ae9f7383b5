"""A trace as a picture: one SVG file with the time from left to right, a band for each process, arrows for messages.

It stands for itself: no script, no font and no style sheet from elsewhere; dark and light as the reader has it."""

from __future__ import annotations

from pyruntime.trace.event_format import COMMAND, FAILED, INIT, OK, PARENT, PAUSE, STEP, Event, Message, Trace
from pyruntime.trace.picture import Scale, duration, rows

WIDTH = 1200
_LEFT, _RIGHT, _TOP = 12, 12, 64
_ROW = 19
_BAND = 34  # between the bands: room for the arrows
_LONGEST_REASON = 170
_LETTER = 6.1  # width of a letter of 11 px, about
_SHOWN_MESSAGES = ("procHooks", "procHooksDone", "procReady", "procRun", "procWaiting", "procError", "procSeccomp")

_STYLE = """
text { font: 11px system-ui, sans-serif; fill: #222 }
.title { font-size: 15px; font-weight: 600 } .small { fill: #666 } .who { font-weight: 600; font-size: 12px }
.paper { fill: #fff } .band { fill: #f4f5f7 } .tick { stroke: #ccc; stroke-width: 1 }
rect.step { fill: #6fbf8b } rect.call { fill: #8fb7e8 } rect.command { fill: #cfd8e6 } rect.wait { fill: #f3d38a }
rect.pause { fill: #ddd } rect.failed, rect.unfinished { fill: #e2574c }
.cut { fill: none; stroke: #999; stroke-dasharray: 3 3 } .message { stroke: #9b59b6; stroke-width: 1.2; fill: none }
.arrow { fill: #9b59b6 } .word { fill: #7d3c98; font-size: 10px; stroke: #fff; stroke-width: 3px; paint-order: stroke }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .small { fill: #999 } .paper { fill: #16181c } .band { fill: #1f2329 } .tick { stroke: #3a3f47 }
rect.step { fill: #2f7d4f } rect.call { fill: #33608f } rect.command { fill: #394352 } rect.wait { fill: #8a6d1f }
rect.pause { fill: #444 } .word { fill: #c39bd3; stroke: #16181c } }
"""


class _Picture:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.scale = Scale(trace)
        self.parts: list[str] = []
        self.y = _TOP
        self.bands: dict[str, tuple[int, int]] = {}

    def x(self, moment: int) -> float:
        return _LEFT + self.scale.place(moment) * (WIDTH - _LEFT - _RIGHT)

    def band(self, track: str, title: str) -> None:
        """Draw the events of a process."""
        events = self.trace.on(track)
        if not events:
            return

        def apart(one: Event, other: Event) -> bool:
            return self.x(other.start) >= max(self.x(one.end), self.x(one.start) + 1) - 0.01

        found = rows(events, apart)
        height = len(found) * _ROW + 24
        self.bands[track] = (self.y, self.y + height)
        self.parts.append(f'<rect class="band" x="0" y="{self.y}" width="{WIDTH}" height="{height}"/>')
        self.parts.append(f'<text class="who" x="{_LEFT}" y="{self.y + 14}">{_safe(title)}</text>')
        for number, row in enumerate(found):
            for event, next in zip(row, [*row[1:], None], strict=True):
                limit = self.x(next.start) if next is not None else WIDTH - _RIGHT
                self.bar(event, self.y + 20 + number * _ROW, limit)
        self.y += height + _BAND

    def bar(self, event: Event, y: int, limit: float) -> None:
        """One event, with its name where there is room up to the next, and as what a pointer on it shows."""
        x = self.x(event.start)
        width = max(self.x(event.end) - x, 1)
        kind = event.kind if event.result == OK else event.result
        title = f"{event.name}: {duration(event.duration)}"
        if event.field:
            title += f" ({event.field})"
        self.parts.append(
            f'<g><title>{_safe(title)}</title><rect class="{_safe(kind)}" x="{x:.1f}" y="{y}" width="{width:.1f}" '
            f'height="{_ROW - 3}" rx="2"/>'
        )
        # Beside a short bar, too, if nothing follows soon.
        room = int((max(limit - x, width) - 6) / _LETTER)
        words = event.name
        if event.duration * 20 > self.scale.length:
            words += f", {duration(event.duration)}"
        if room >= 5:
            words = words if len(words) <= room else words[: room - 1] + "…"
            self.parts.append(f'<text x="{x + 3:.1f}" y="{y + 12}">{_safe(words)}</text>')
        self.parts.append("</g>")

    def message(self, message: Message) -> None:
        """Draw an arrow from sender to receiver."""
        if PARENT not in self.bands or INIT not in self.bands:
            return
        upper, lower = self.bands[PARENT][1], self.bands[INIT][0]
        begin, end = (upper, lower) if message.sender == PARENT else (lower, upper)
        x, to = self.x(message.sent), self.x(message.received)
        head = 5 if end > begin else -5
        self.parts.append(f'<path class="message" d="M{x:.1f} {begin}L{to:.1f} {end - head}"/>')
        self.parts.append(f'<path class="arrow" d="M{to - 3:.1f} {end - head}h6L{to:.1f} {end}z"/>')

    def message_names(self) -> None:
        """The names of messages, as many as there is room for."""
        taken = -1.0
        if INIT not in self.bands or PARENT not in self.bands:
            return
        for message in self.trace.messages:
            # Right of the arrow at half its height, where the name stands.
            x = (self.x(message.sent) + self.x(message.received)) / 2 + 6
            if message.name in _SHOWN_MESSAGES and x > taken:
                # A name's place is the middle between the bands.
                y = (self.bands[PARENT][1] + self.bands[INIT][0]) / 2 + 4
                if x + len(message.name) * 6.2 < WIDTH:
                    self.parts.append(f'<text class="word" x="{x:.1f}" y="{y:.0f}">{_safe(message.name)}</text>')
                    taken = x + len(message.name) * 6.2

    def axis(self) -> None:
        """Lines and words for the time, and the places where it was cut."""
        step = _round(self.scale.length / 8)
        if not self.scale.cuts:
            for tick in range(0, self.scale.length, step):
                x = self.x(self.scale.begin + tick)
                self.parts.append(f'<path class="tick" d="M{x:.1f} {_TOP - 10}V{self.y - _BAND}"/>')
                label = duration(tick)
                # Left of the last line where the picture ends before the label does.
                place = f'x="{x + 2:.1f}"'
                if x + 2 + len(label) * _LETTER > WIDTH:
                    place = f'x="{x - 2:.1f}" text-anchor="end"'
                self.parts.append(f'<text class="small" {place} y="{_TOP - 4}">{label}</text>')
        for start, end in self.scale.cuts:
            x, to = self.x(start), self.x(end)
            height = self.y - _BAND - _TOP + 8
            self.parts.append(f'<rect class="cut" x="{x:.1f}" y="{_TOP - 8}" width="{to - x:.1f}" height="{height}"/>')
            self.parts.append(f'<text class="small" x="{x + 2:.1f}" y="{_TOP - 12}">{duration(end - start)}</text>')


def draw(trace: Trace, only: str = "") -> str:
    """Return the SVG document. only: whose trace it is, when it is that of one process (Trace.only)."""
    picture = _Picture(trace)
    marks = len(picture.parts)
    first = f"the parent: pyruntime {trace.command}" if only != INIT else trace.name_of_init()
    picture.band(PARENT, f"{first} (pid {trace.pids.get(PARENT, 0)})")
    who = "the process" if trace.command == "exec" else "init"
    picture.band(INIT, f"{who} (pid {trace.pids.get(INIT, 0)})")
    bars = picture.parts[marks:]
    picture.parts = picture.parts[:marks]
    backs = [part for part in bars if part.startswith('<rect class="band"')]
    picture.parts += backs
    picture.axis()
    picture.parts += [part for part in bars if part not in backs]
    for message in trace.messages:
        picture.message(message)
    picture.message_names()
    height = picture.y - _BAND + 26
    whole = trace.whole
    what = f"pyruntime {trace.command}" if only != INIT else f"pyruntime {trace.command}, the part of init"
    title = f"{what}: {whole.result}, {duration(whole.duration)}"
    reason = ""
    if whole.result == FAILED and trace.error is not None:
        reason = str(trace.error.get("message", ""))
        reason = reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "…"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img" aria-label="{_safe(title)}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
            f'<text class="title" x="{_LEFT}" y="24">{_safe(title)}</text>',
            f'<text x="{_LEFT}" y="43">{_safe(reason)}</text>' if reason else "",
            *_legend(trace),
            *picture.parts,
            f'<text class="small" x="{_LEFT}" y="{height - 8}">pyruntime {_safe(trace.version)}; '
            "the time of CLOCK_MONOTONIC, the same for both</text>",
            "</svg>\n",
        ]
    )


def _legend(trace: Trace) -> list[str]:
    kinds = {event.kind for event in trace.events} - {COMMAND}
    words = {STEP: "a step of the plan", "call": "other work", "wait": "waits for the other", PAUSE: "nothing to do"}
    parts = []
    shown = [(kind, word) for kind, word in words.items() if kind in kinds]
    x = WIDTH - _RIGHT - sum(int(len(word) * _LETTER) + 30 for _, word in shown)
    for kind, word in shown:
        parts.append(f'<rect class="{kind}" x="{x}" y="14" width="12" height="12" rx="2"/>')
        parts.append(f'<text x="{x + 16}" y="24">{word}</text>')
        x += int(len(word) * _LETTER) + 30
    return parts


def _round(nanoseconds: float) -> int:
    """Return the next larger number of 1, 2 or 5 with zeros."""
    size = 1
    while True:
        for digit in (1, 2, 5):
            if digit * size >= nanoseconds:
                return digit * size
        size *= 10


def _safe(text: str) -> str:
    """Return a text that XML can hold: names of steps come from config.json."""
    shown = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
