"""A trace in memory, and as the JSON of Chrome's trace viewer and Perfetto ("Trace Event Format", JSON object form)."""

from __future__ import annotations

from pyruntime.errors import PyruntimeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = "pyruntime trace 1"

PARENT = "parent"  # the command itself
INIT = "init"  # the container's first process, or the one that exec brings into it

# Kinds of events.
COMMAND = "command"  # the whole of it, and the whole of what init did: viewers hang arrows only on bars
STEP = "step"  # a step of the plan
CALL = "call"  # what else the command does
WAIT = "wait"  # for the other process
PAUSE = "pause"  # for the container, or for `start`: of any length

OK = "ok"
FAILED = "failed"
UNFINISHED = "unfinished"  # the process died in it

_NS = 1000  # the format counts microseconds


class Event:
    """Something that took time.

    track: PARENT or INIT. kind: STEP, …. name: what it was, in words.
    start, end: nanoseconds of the host's CLOCK_MONOTONIC. result: OK, FAILED or UNFINISHED.
    field: JSON pointer of the field of config.json that a step comes from; step: its `module.function`;
    phase: its phase (docs/architecture.md). error: what went wrong, as PyruntimeError.to_json has it."""

    __slots__ = ("end", "error", "field", "kind", "name", "phase", "result", "start", "step", "track")

    def __init__(
        self,
        track: str,
        kind: str,
        name: str,
        start: int,
        end: int,
        result: str = OK,
        *,
        field: str = "",
        step: str = "",
        phase: str = "",
    ) -> None:
        self.track = track
        self.kind = kind
        self.name = name
        self.start = start
        self.end = end
        self.result = result
        self.field = field
        self.step = step
        self.phase = phase
        self.error: dict[str, object] | None = None

    @property
    def duration(self) -> int:
        """Nanoseconds."""
        return self.end - self.start

    def __repr__(self) -> str:
        return f"<Event {self.track} {self.kind} {self.name}: {self.duration} ns, {self.result}>"


class Message:
    """A message of the handshake: who sent it, when, and when it was taken."""

    __slots__ = ("name", "received", "sender", "sent")

    def __init__(self, name: str, sender: str, sent: int, received: int) -> None:
        self.name = name
        self.sender = sender
        self.sent = sent
        self.received = received


class Trace:
    """What one command did.

    pids: PARENT and INIT -> the process, as the host numbers it; 0 for one that is not known.
    main: the track whose command event holds all others: PARENT, except in a trace of init only."""

    def __init__(self, command: str, id: str, pids: dict[str, int], main: str = PARENT) -> None:
        self.command = command
        self.id = id
        self.pids = pids
        self.events: list[Event] = []
        self.messages: list[Message] = []
        self.version = ""
        self.main = main
        self.error: dict[str, object] | None = None

    @property
    def whole(self) -> Event:
        """The event of the command itself, which all others lie in."""
        return next(event for event in self.events if event.kind == COMMAND and event.track == self.main)

    def only(self, track: str) -> Trace:
        """Return what one process did, as a trace of its own. Raises PyruntimeError when it is not in the trace."""
        found = Trace(self.command, self.id, {track: self.pids.get(track, 0)}, track)
        found.version, found.error = self.version, self.error
        found.events = self.on(track)
        if not any(event.kind == COMMAND for event in found.events):
            raise PyruntimeError(f"{track} is not in this trace", hint="it has nothing but the command itself")
        return found

    def on(self, track: str) -> list[Event]:
        """Return the events of a track, in the order in which they began; what holds others before them."""
        found = [event for event in self.events if event.track == track]
        return sorted(found, key=lambda event: (event.start, -event.end))

    def to_json(self) -> dict[str, object]:
        """Return the JSON object for a file."""
        about: dict[str, object] = {
            "format": FORMAT,
            "version": self.version,
            "command": self.command,
            "id": self.id,
            "clock": "CLOCK_MONOTONIC",
            "result": self.whole.result,
        }
        if self.error is not None:
            about["error"] = self.error
        events: list[dict[str, object]] = []
        for order, (track, name) in enumerate(self._names()):
            pid = self.pids[track]
            events += [
                _metadata("process_name", pid, {"name": name}),
                _metadata("process_sort_index", pid, {"sort_index": order}),
                _metadata("thread_name", pid, {"name": track}),
            ]
        for track, _ in self._names():
            events += [self._complete(event) for event in self.on(track)]
        for number, message in enumerate(self.messages, 1):
            other = INIT if message.sender == PARENT else PARENT
            events.append(self._flow("s", number, message, message.sender, message.sent))
            events.append(self._flow("f", number, message, other, message.received))
        return {"displayTimeUnit": "ns", "otherData": about, "traceEvents": events}

    def name_of_init(self) -> str:
        """Return the credentials of the other process."""
        return f"{'the process in' if self.command == 'exec' else 'init of'} {self.id}"

    def _names(self) -> list[tuple[str, str]]:
        names = [(PARENT, f"pyruntime {self.command}")]
        if any(event.track == INIT for event in self.events):
            names.append((INIT, self.name_of_init()))
        return names

    def _complete(self, event: Event) -> dict[str, object]:
        about: dict[str, object] = {
            "result": event.result,
            "start_ns": event.start,
            "duration_ns": event.duration,
        }
        for name in ("field", "step", "phase", "error"):
            value = getattr(event, name)
            if value:
                about[name] = value
        pid = self.pids[event.track]
        return {
            "name": event.name,
            "cat": event.kind,
            "ph": "X",
            "ts": event.start / _NS,
            "dur": event.duration / _NS,
            "pid": pid,
            "tid": pid,
            "args": about,
        }

    def _flow(self, kind: str, number: int, message: Message, track: str, time: int) -> dict[str, object]:
        pid = self.pids[track]
        found: dict[str, object] = {"name": message.name, "cat": "message", "ph": kind, "id": number}
        found |= {"ts": time / _NS, "pid": pid, "tid": pid}
        if kind == "f":
            found["bp"] = "e"  # it ends at what lies around that moment, not at what comes next
        return found


def _metadata(name: str, pid: int, value: dict[str, object]) -> dict[str, object]:
    return {"name": name, "ph": "M", "pid": pid, "tid": pid, "args": value}


def from_json(data: Any) -> Trace:
    """Return the trace that `to_json` wrote. Raises PyruntimeError for what is none."""
    try:
        about = data["otherData"]
        if about["format"] != FORMAT:
            raise PyruntimeError(f"this is a {about['format']}", hint=f"this version reads: {FORMAT}")
        trace = Trace(str(about["command"]), str(about["id"]), {})
        trace.version = str(about.get("version", ""))
        trace.error = about.get("error")
        sent: dict[int, tuple[str, int]] = {}
        for one in data["traceEvents"]:
            if one["ph"] == "M" and one["name"] == "thread_name":
                trace.pids[one["args"]["name"]] = one["pid"]
        tracks = {pid: track for track, pid in trace.pids.items()}
        for one in data["traceEvents"]:
            if one["ph"] == "X":
                args = one["args"]
                start = int(args["start_ns"])
                end = start + int(args["duration_ns"])
                event = Event(tracks[one["pid"]], str(one["cat"]), str(one["name"]), start, end, str(args["result"]))
                event.field, event.step = str(args.get("field", "")), str(args.get("step", ""))
                event.phase, event.error = str(args.get("phase", "")), args.get("error")
                trace.events.append(event)
            elif one["ph"] == "s":
                sent[one["id"]] = (tracks[one["pid"]], round(one["ts"] * _NS))
            elif one["ph"] == "f":
                sender, time = sent[one["id"]]
                trace.messages.append(Message(str(one["name"]), sender, time, round(one["ts"] * _NS)))
        if not any(event.kind == COMMAND and event.track == PARENT for event in trace.events):
            raise KeyError(COMMAND)
        return trace
    except (KeyError, TypeError, ValueError, AttributeError):
        raise PyruntimeError(
            "not a trace of pyruntime", hint="give a file that --trace has written (docs/trace.md)"
        ) from None
