"""Traces of --trace: read, checked against the schema, and looked at."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from pyruntime.trace import event_format

SCHEMA = json.loads((Path(__file__).resolve().parents[1] / "data/trace.schema.json").read_text())


def read(path: Path) -> event_format.Trace:
    """The trace in a file, which the schema must allow, and whose times must lie within each other."""
    data = json.loads(path.read_text())
    jsonschema.validate(data, SCHEMA, jsonschema.Draft202012Validator)
    trace = event_format.from_json(data)
    whole = trace.whole
    for event in trace.events:
        assert whole.start <= event.start <= event.end <= whole.end, event
    for track in trace.pids:
        nest(trace.on(track))
    for message in trace.messages:
        assert message.sent <= message.received, message.name
        # A viewer drops an arrow whose ends lie on no bar.
        other = "init" if message.sender == "parent" else "parent"
        for track, moment in ((message.sender, message.sent), (other, message.received)):
            assert any(event.start <= moment <= event.end for event in trace.on(track)), message.name
    return trace


def nest(found: list[event_format.Event]) -> None:
    """Fail unless each event lies within the one that it began in: a viewer draws others wrong."""
    open_ones: list[event_format.Event] = []
    for event in found:
        while open_ones and open_ones[-1].end <= event.start:
            open_ones.pop()
        assert not open_ones or event.end <= open_ones[-1].end, (event, open_ones[-1])
        open_ones.append(event)


def steps(trace: event_format.Trace, track: str = "") -> list[str]:
    """The steps' `module.function`, in order."""
    found = [event for name in (["parent", "init"] if not track else [track]) for event in trace.on(name)]
    return [event.step for event in found if event.kind == event_format.STEP]


def step(trace: event_format.Trace, name: str) -> event_format.Event:
    """The first step of a name."""
    return next(event for event in trace.events if event.step == name)
