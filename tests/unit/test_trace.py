"""Traces without containers: the format, the pictures, what the spool says, and that what is wrapped is there."""

from __future__ import annotations

import sys
import xml.etree.ElementTree
from importlib import import_module

import jsonschema
import pytest
from support import traces

from pyruntime.errors import PyruntimeError
from pyruntime.plan import step
from pyruntime.trace import event_format, picture, recorder, spans, svg, table
from pyruntime.trace.event_format import CALL, COMMAND, FAILED, INIT, PARENT, PAUSE, STEP, Event, Message, Trace
from pyruntime.trace.spool import Spool

PAINT = import_module("pyruntime.util.colour").Painter(False)


def made(name: str = "mount proc on /proc", result: str = "ok") -> Trace:
    trace = Trace("create", "box", {PARENT: 10, INIT: 11})
    trace.version = "1"
    trace.events = [
        Event(PARENT, COMMAND, "create box", 1_000_000, 9_000_000, result),
        Event(PARENT, CALL, "plan", 1_500_000, 2_500_000),
        Event(INIT, STEP, name, 3_000_000, 4_000_001, result, field="/mounts/0", step="mounts.bind", phase="build"),
    ]
    trace.messages = [Message("procHooks", INIT, 4_100_000, 4_200_000)]
    if result == FAILED:
        trace.error = {"kind": "StepError", "message": "it did not work", "pointer": "/mounts/0"}
        trace.events[2].error = trace.error
    return trace


@pytest.mark.parametrize("result", ["ok", FAILED])
def test_to_json_and_back(result: str) -> None:
    trace = made(result=result)
    data = trace.to_json()
    jsonschema.validate(data, traces.SCHEMA, jsonschema.Draft202012Validator)
    back = event_format.from_json(data)
    assert back.to_json() == data
    assert [(event.start, event.end) for event in back.events] == [(e.start, e.end) for e in trace.events]


def test_the_schema_condemns() -> None:
    data = made().to_json()
    data["traceEvents"][6]["args"]["result"] = "perhaps"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, traces.SCHEMA, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("data", [None, [], {}, {"otherData": {"format": "other"}}, {"traceEvents": []}])
def test_what_is_no_trace(data: object) -> None:
    with pytest.raises(PyruntimeError):
        event_format.from_json(data)


def test_every_wrapped_function_is_there() -> None:
    """Somebody renames a function, and its bar would be gone without a word."""
    for module, path, _, words in spans.SPANS:
        import_module(module)
        holder, name = spans.locate(module, path)
        assert callable(getattr(holder, name)), f"{module}.{path}"
        assert words


def test_what_is_wrapped_is_unwrapped() -> None:
    for command in spans.MODULES:
        spans.load(command)
    before = {(m, p): getattr(*spans.locate(m, p)) for m, p, _, _ in spans.SPANS if m in sys.modules}
    restore = spans.install(recorder.Recorder())
    changed = {(m, p): getattr(*spans.locate(m, p)) for m, p, _, _ in spans.SPANS if m in sys.modules}
    restore()
    after = {(m, p): getattr(*spans.locate(m, p)) for m, p, _, _ in spans.SPANS if m in sys.modules}
    assert all(changed[key] is not before[key] for key in before)
    assert after == before
    assert step.recording() is None


STEPS = [["a", "build", "/a", "m.a"], ["b", "build", "", "m.b"], ["run it", "execute", "/process", "program.execute"]]


def test_the_spool() -> None:
    lines = "O 1000|S 1100 1200 wait for the plan|B 0 1300|E 0 1400|M 1450 procHooks|R 1500 1600 procRun|B 1 1700|"
    spool = Spool(lines.replace("|", "\n").encode(), STEPS)
    found = sorted(spool.events(900), key=lambda event: event.start)
    shown = [(event.name, event.start, event.end, event.result) for event in found]
    assert shown == [
        ("wait for the plan", 100, 200, "ok"),
        ("a", 300, 400, "ok"),
        ("wait for the parent: procRun", 500, 600, "ok"),
        ("b", 700, 900, "unfinished"),
    ]
    messages = spool.messages([(550, "procRun")], [(460, "procHooks")])
    assert [(m.name, m.sender, m.sent, m.received) for m in messages] == [
        ("procHooks", INIT, 450, 460),
        ("procRun", PARENT, 550, 600),
    ]


def test_a_spool_that_is_cut_short_and_has_no_list_of_steps() -> None:
    found = Spool(b"B 0 5\nE 0 9\nB 1 1").events(20)
    assert [(event.name, event.start, event.end) for event in found] == [("step 0", 5, 9)]


def test_execve_does_not_come_back() -> None:
    [event] = Spool(b"B 2 5\n", STEPS).events(20)
    assert (event.result, event.end) == ("ok", 20)


def test_start_takes_what_is_its_own() -> None:
    data = b"B 0 5\nE 0 9\nS 10 60 wait at the exec fifo for start\nB 2 61\n"
    found = Spool(data, STEPS).events(70, since=50)
    assert [(event.name, event.start, event.end) for event in found] == [
        ("run it", 61, 70),
        ("wait at the exec fifo for start", 50, 60),
    ]


HOSTILE = 'bind </svg><script>alert(1)</script> & "x" on /\x1b[2J\x00\udcff'


def test_the_picture_is_xml_whatever_names_say() -> None:
    text = svg.draw(made(HOSTILE, FAILED))
    root = xml.etree.ElementTree.fromstring(text.encode())
    assert root.tag.endswith("svg")
    assert not [one for one in root.iter() if one.tag.endswith("script")]
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_labels_of_the_axis_end_inside_the_picture() -> None:
    trace = made()
    trace.events[0].end = 9_050_000  # the last line, 8 ms, is close to the right edge
    root = xml.etree.ElementTree.fromstring(svg.draw(trace).encode())
    labels = [one for one in root.iter() if one.get("class") == "small" and (one.text or "").endswith("ms")]
    assert [one.text for one in labels][-1] == "8.00 ms"
    for label in labels:
        assert label.get("text-anchor") == "end" or float(label.get("x", "")) + 6 * len(label.text or "") < svg.WIDTH


def test_the_name_of_a_message_stands_beside_its_arrow() -> None:
    trace = made()
    trace.messages[0].received = 4_900_000
    root = xml.etree.ElementTree.fromstring(svg.draw(trace).encode())
    [arrow] = [one for one in root.iter() if one.get("class") == "message"]
    [name] = [one for one in root.iter() if one.get("class") == "word"]
    begin, end = (float(end.split()[0]) for end in arrow.get("d", "")[1:].split("L"))
    assert float(name.get("x", "")) >= (begin + end) / 2 + 4


def test_only_one_of_the_two() -> None:
    trace = made()
    trace.events.append(Event(INIT, COMMAND, "init of box", 2_900_000, 4_100_000))
    init = trace.only(INIT)
    assert [event.name for event in init.events] == ["init of box", "mount proc on /proc"]
    assert {event.track for event in init.events} == {INIT}
    rows = table.table(init, width=0, paint=PAINT).splitlines()[2:]
    assert rows and all(" init    " in row for row in rows)
    text = svg.draw(init, INIT)
    assert "the part of init: ok, 1.20 ms" in text
    assert "<title>plan: " not in text
    assert trace.only(PARENT).whole.name == "create box"
    with pytest.raises(PyruntimeError, match="init is not in this trace"):
        made().only(INIT)


def test_the_table_moves_no_cursor() -> None:
    text = table.table(made(HOSTILE, FAILED), width=100, paint=PAINT)
    assert "\x1b" not in text
    assert "FAILED" in text
    assert "it did not work" in text


def test_the_table_can_leave_out_what_is_short_but_never_what_failed() -> None:
    text = table.table(made(), width=0, paint=PAINT, at_least=10**9)
    assert "mount proc" not in text
    text = table.table(made(result=FAILED), width=0, paint=PAINT, at_least=10**9)
    assert "mount proc" in text
    text = table.table(made(), width=0, paint=PAINT, steps_only=True)
    assert "plan" not in text.split("\n", 2)[2]
    assert "mount proc" in text


def test_a_long_pause_is_cut_out() -> None:
    trace = made()
    trace.whole.end = 10**12
    trace.events.append(Event(PARENT, PAUSE, "wait for the process's end", 9_000_000, 10**12 - 1_000_000))
    scale = picture.Scale(trace)
    assert scale.place(9_000_000) > 0.8
    assert 0.8 < scale.place(10**12 - 1_000_000) < 1
    assert scale.place(10**12) == 1
    places = [scale.place(moment) for moment in range(0, 10**12, 10**10)]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0 ns"), (999, "999 ns"), (1500, "2 µs"), (1_250_000, "1.25 ms"), (3 * 10**9, "3.00 s")],
)
def test_durations(nanoseconds: int, text: str) -> None:
    assert picture.duration(nanoseconds) == text
