"""Load, check and plan what a fuzzer has made: an answer, or one PyruntimeError of one line."""

from __future__ import annotations

import json
from typing import Any

from pyruntime.cgroupfs import layout
from pyruntime.errors import ConfigError, PyruntimeError
from pyruntime.features import registry
from pyruntime.features.exec_registry import ExecPlan, ExecRequest
from pyruntime.features.namespaces.target import Target
from pyruntime.plan.request import Request
from pyruntime.spec import check, load
from pyruntime.util import fastjson

LAYOUTS = [
    layout.Layout(()),
    layout.Layout([layout.Hierarchy(layout.UNIFIED, ("cpu", "memory", "pids", "io"), "/sys/fs/cgroup", "/own")]),
    layout.find(),
]
CONTAINER: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
    "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "network")]},
}


def judge_bytes(data: bytes, number: int = 0) -> str:
    """Bytes of a config.json through load, check and plan: "planned" or "refused". Anything else is raised."""
    try:
        config = load.parse_object(data, "config.json")
        _plan(config, number)
    except PyruntimeError as error:
        _judge_error(error)
        return "refused"
    return "planned"


def judge(config: Any, number: int = 0) -> str:
    """A config, as judge_bytes has it. The number chooses how the host and the caller are."""
    return judge_bytes(json.dumps(config).encode("utf-8", "surrogatepass"), number)


def _plan(config: dict[str, Any], number: int) -> None:
    check.require(config)
    request = Request(
        config,
        id="box",
        bundle="/bundle",
        layout=LAYOUTS[number % 3],
        rootless=number % 5 == 0,
        pivot=number % 7 != 0,
    )
    _judge_plan(registry.build(request))
    for text in request.warnings:
        fastjson.dumps(text)  # as the log quotes it


def judge_process(process: Any, number: int = 0) -> str:
    """A process.json of `exec`, as judge_bytes has it."""
    data = json.dumps(process).encode("utf-8", "surrogatepass")
    try:
        process = load.parse_object(data, "process.json")
        check.without_errors(check.check_process(process), "process.json")
        target = Target(1, -1, ["pid", "mount", "network"] if number % 2 else [])
        request = ExecRequest(
            {**CONTAINER, "process": process},
            id="box",
            bundle="/bundle",
            target=target,
            cgroups={"memory": "/sys/fs/cgroup/memory/box"},
        )
        _judge_plan(ExecPlan(request))
    except PyruntimeError as error:
        _judge_error(error)
        return "refused"
    return "planned"


def _judge_plan(plan: Any) -> None:
    """Every step can be described and sent."""
    for steps in plan.steps.values():
        for step in steps:
            assert "\n" not in step.describe(), step.describe()
            json.dumps(step.to_json())


def _judge_error(error: PyruntimeError) -> None:
    text = str(error)
    assert text, "an error without words"
    assert "\n" not in text, f"an error of more than one line: {text}"
    assert len(text) < 4000, f"an error of {len(text)} characters: {text[:500]}"
    text.encode("utf-8", "surrogateescape")  # as the log writes it
    if isinstance(error, ConfigError) and error.pointer is not None:
        assert not error.pointer or error.pointer[0] == "/", error.pointer
