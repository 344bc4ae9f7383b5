"""What init has written while it was recorded (record.py has the lines), as events."""

from __future__ import annotations

from pyruntime.trace.event_format import FAILED, INIT, OK, PARENT, PAUSE, STEP, UNFINISHED, WAIT, Event, Message
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

EXEC_FIFO = "wait at the exec fifo for start"


class Spool:
    """The lines of one init.

    steps: [words, phase, JSON pointer, module.function] of each step; without, the spool says so itself."""

    def __init__(self, data: bytes, steps: list[list[str]] | None = None) -> None:
        self.steps: list[list[str]] = steps or []
        self._begun: list[tuple[int, int]] = []
        self._ended: dict[int, tuple[int, str]] = {}
        self._spans: list[Event] = []
        self._sent: list[tuple[int, str]] = []
        self._received: list[tuple[int, str]] = []
        offset = 0
        # A line that is cut short is the last of a file system that is full.
        for line in data.decode("utf-8", "surrogateescape").split("\n")[:-1]:
            if line.startswith("{"):
                found = fastjson.loads(line)
                self.steps = found["steps"]
            elif line.startswith("O "):
                offset = int(line[2:])
            else:
                self._take(line, offset)

    def _take(self, line: str, offset: int) -> None:
        word, first, rest = line.split(" ", 2)
        if word == "M":
            self._sent.append((int(first) - offset, rest))
        elif word == "B":
            self._begun.append((int(first), int(rest) - offset))
        elif word in "EF":
            self._ended[int(first)] = (int(rest) - offset, OK if word == "E" else FAILED)
        elif word in "SR":
            end, _, words = rest.partition(" ")
            times = int(first) - offset, int(end) - offset
            if word == "R":
                self._received.append((times[1], words))
                words = f"wait for the parent: {words}" if words else "wait for the parent: the end"
            self._spans.append(Event(INIT, PAUSE if words == EXEC_FIFO else WAIT, words, *times))

    def events(self, left: int, since: int = 0) -> list[Event]:
        """Return what init did, as far as it ended after a moment.

        left: when the parent saw that init's channel or exec fifo was closed: by execve, or by its death."""
        found = []
        for number, start in self._begun:
            # A spool without its list of steps is that of a create that was killed.
            known = number < len(self.steps)
            words, phase, pointer, name = self.steps[number] if known else (f"step {number}", "", "", "")
            # The last step of a process that has become the user's program does not come back.
            gone = OK if name == "program.execute" else UNFINISHED
            end, result = self._ended.get(number, (max(left, start), gone))
            event = Event(INIT, STEP, words, start, end, result, field=pointer, step=name, phase=phase)
            found.append(event)
        found = [event for event in found + self._spans if event.end >= since]
        for event in found:
            event.start = max(event.start, since)
        return found

    def messages(self, sent: list[tuple[int, str]], received: list[tuple[int, str]]) -> list[Message]:
        """Return the messages of both ways, each with the time it was sent and taken; sent, received: those of the
        parent.

        A channel keeps the order, so the first that one end sent is the first that the other took."""
        there = [Message(name, INIT, at, taken) for (at, name), (taken, _) in zip(self._sent, received, strict=False)]
        back = [Message(name, PARENT, at, taken) for (at, name), (taken, _) in zip(sent, self._received, strict=False)]
        return sorted(there + back, key=lambda message: message.sent)
