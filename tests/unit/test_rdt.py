"""linux.intelRdt: what is planned, for the first process and for those of `exec`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyruntime import rdt
from pyruntime.plan import exec as plan_exec
from pyruntime.plan.request import Request
from pyruntime.plan.step import SETUP


def request(**intel: Any) -> Request:
    nowhere: Any = None
    return Request({"linux": {"intelRdt": intel}}, id="box", bundle="/b", layout=nowhere)


@pytest.mark.parametrize(
    ("intel", "paths"),
    [
        ({"l3CacheSchema": "L3:0=f"}, ["/sys/fs/resctrl/box"]),
        ({"closID": "gold"}, ["/sys/fs/resctrl/gold"]),
        ({"closID": "/"}, ["/sys/fs/resctrl"]),
        ({"closID": "gold", "enableMonitoring": True}, ["/sys/fs/resctrl/gold", "/sys/fs/resctrl/gold/mon_groups/box"]),
        ({"enableMonitoring": True}, ["/sys/fs/resctrl/box", "/sys/fs/resctrl/box/mon_groups/box"]),
    ],
)
def test_a_process_of_exec_joins_the_groups_of_the_container(intel: dict[str, Any], paths: list[str]) -> None:
    (step,) = rdt.plan_exec(request(**intel))
    assert step.args == {"paths": paths}
    assert all(path in step.describe() for path in paths)


def test_exec_has_the_feature() -> None:
    planners = [planner for phase, planner in plan_exec.FEATURES if phase == SETUP][1:]
    assert [step.do for planner in planners for step in planner(request(closID="gold"))] == [rdt.join]


def test_without_it_nothing_is_planned() -> None:
    assert list(rdt.plan_exec(request())) == []


def test_joining_writes_the_pid_to_each(tmp_path: Path) -> None:
    class Parent:
        pid = 4711

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tasks").touch()
    rdt.join(Parent(), [str(tmp_path / "a"), str(tmp_path / "b")])
    assert [(tmp_path / name / "tasks").read_text() for name in ("a", "b")] == ["4711", "4711"]


def test_schemata_of_both_kinds() -> None:
    given = {"l3CacheSchema": "L3:0=f\nMB:0=10", "memBwSchema": "MB:0=50", "schemata": ["L2:0=1"]}
    assert rdt.schemata(given) == ["L3:0=f", "MB:0=50", "L2:0=1"]
