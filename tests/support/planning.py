"""Requests and plans without a bundle: what the tests of planning and of the handshake start from."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from pyruntime.cgroupfs import layout
from pyruntime.features import registry
from pyruntime.plan.request import Request
from pyruntime.plan.step import PHASES, Step
from pyruntime.spec import check, load

CORPUS = sorted((Path(__file__).parents[1] / "data/configs").glob("*.json"))

# The smallest config that starts anything. No namespaces: a process like any other, in another root.
MINIMAL: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "process": {"cwd": "/", "args": ["/bin/true"]},
}


def config(**members: Any) -> dict[str, Any]:
    """MINIMAL with other top-level members; None takes one away."""
    merged = {**copy.deepcopy(MINIMAL), **members}
    return {name: value for name, value in merged.items() if value is not None}


def with_namespaces(*kinds: str, **members: Any) -> dict[str, Any]:
    """MINIMAL with new namespaces, and members of /linux."""
    return config(linux={"namespaces": [{"type": kind} for kind in kinds], **members})


def request(config: dict[str, Any], **caller: Any) -> Request:
    """A Request for a config that need not be checked."""
    return Request(config, id="box", bundle="/bundle", layout=layout.find(), **caller)


def read(path: Path) -> dict[str, Any]:
    """A file of the corpus, loaded and checked as `create` does it."""
    config = load.parse_object(path.read_bytes(), str(path))
    check.require(config)
    return config


def steps(config: dict[str, Any], **caller: Any) -> list[tuple[str, Step]]:
    """The plan for a config as one list: (phase, step)."""
    plan = registry.build(request(config, **caller))
    return [(phase, step) for phase in PHASES for step in plan.steps[phase]]


def named(config: dict[str, Any], name: str, **caller: Any) -> list[Step]:
    """The steps of one name (`module.function`) in the plan for a config."""
    return [step for _, step in steps(config, **caller) if step.name == name]


def at(config: Any, pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) stands for; KeyError or IndexError when it is not there."""
    for key in pointer.split("/")[1:]:
        name = key.replace("~1", "/").replace("~0", "~")
        config = config[int(name)] if isinstance(config, list) else config[name]
    return config
