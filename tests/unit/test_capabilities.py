"""Capability sets as bit masks, and what happens to names that nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.planning import config, request

from pyruntime.errors import ConfigError
from pyruntime.features import registry
from pyruntime.features.process import capabilities
from pyruntime.plan.step import Step


def planned(version: str = "1.3.0", /, **sets: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The masks that the plan holds, and its warnings."""
    mine = config()
    mine["ociVersion"] = version
    mine["process"]["capabilities"] = sets
    asked = request(mine)
    steps: list[Step] = registry.build(asked).steps["become"]
    masks: dict[str, Any] = {}
    for step in steps:
        if step.name == "capabilities.limit":
            masks["bounding"] = step.args["mask"]
        elif step.name == "capabilities.apply":
            masks.update(step.args)
    return masks, asked.warnings


def test_numbers_are_the_kernels() -> None:
    assert capabilities.NUMBERS["CAP_CHOWN"] == 0
    assert capabilities.NUMBERS["CAP_SYS_ADMIN"] == 21
    assert capabilities.NUMBERS["CAP_SYS_RESOURCE"] == 24
    assert capabilities.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40
    assert list(capabilities.NUMBERS.values()) == list(range(41))


def test_no_name_of_the_running_kernel_is_missing() -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    if last >= len(capabilities.NAMES):
        pytest.fail(f"the kernel has capability {last}, we know {len(capabilities.NAMES)} names")


@pytest.mark.parametrize("kind", capabilities.SETS)
def test_a_set(kind: str) -> None:
    masks, warnings = planned(**{kind: ["CAP_CHOWN", "CAP_KILL", "CAP_CHOWN"]})
    assert masks == {**dict.fromkeys(capabilities.SETS, 0), kind: 1 << 0 | 1 << 5}
    assert not warnings


def test_nothing_asked_for_is_nothing_given() -> None:
    masks, _ = planned()
    assert masks == dict.fromkeys(capabilities.SETS, 0)
    without = registry.build(request(config())).steps["become"]
    assert [step.args["mask"] for step in without if step.name == "capabilities.limit"] == [0]


@pytest.mark.parametrize("name", ["CAP_NOSUCH", "chown", "CHOWN", "", "cap_chown"])
def test_an_unknown_name_is_left_out(name: str) -> None:
    """From 1.1 on it is a warning of the check (spec/rules.py), and the rest is served."""
    masks, _ = planned("1.1.0", bounding=[name, "CAP_KILL"])
    assert masks["bounding"] == 1 << 5


def test_an_unknown_name_is_an_error_up_to_1_0() -> None:
    """runtime-spec 1.0 config.md, "Linux Process": what cannot be mapped MUST cause an error."""
    with pytest.raises(ConfigError, match="unknown capability CAP_NOSUCH") as caught:
        planned("1.0.2-dev", permitted=["CAP_NOSUCH"])
    assert caught.value.pointer == "/process/capabilities/permitted"


def test_names_of_a_mask() -> None:
    assert capabilities.names(0) == ""
    assert capabilities.names(1 << 24 | 1) == "CAP_CHOWN CAP_SYS_RESOURCE"
    assert capabilities.names(1 << 63) == ""
