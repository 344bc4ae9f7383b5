"""linux.intelRdt: what is planned, for the first process and for those of `exec`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyruntime.features import exec_registry as plan_exec
from pyruntime.features.rdt import resctrl as rdt
from pyruntime.features.rdt import stats
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


def resctrl(root: Path, group: str) -> None:
    """Files as resctrl has them on a machine with two caches."""
    texts = {
        "info/L3/cbm_mask": "fffff",
        "info/L3/min_cbm_bits": "1",
        "info/L3/num_closids": "16",
        "info/MB/bandwidth_gran": "10",
        "info/MB/min_bandwidth": "10",
        "info/MB/num_closids": "8",
        "info/MB/delay_linear": "1",
        "schemata": "    MB:0=100;1=100\n    L3:0=fffff;1=fffff",
        f"{group}/schemata": "    MB:0=20;1=70\n    L3:0=7f0;1=1f",
        f"{group}/mon_groups/box/mon_data/mon_L3_00/mbm_total_bytes": "100",
        f"{group}/mon_groups/box/mon_data/mon_L3_00/mbm_local_bytes": "60",
        f"{group}/mon_groups/box/mon_data/mon_L3_00/llc_occupancy": "4096",
        f"{group}/mon_groups/box/mon_data/mon_L3_01/mbm_total_bytes": "5",
        f"{group}/mon_groups/box/mon_data/mon_L3_01/mbm_local_bytes": "Unavailable",
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_statistics(tmp_path: Path) -> None:
    resctrl(tmp_path, "gold")
    found = stats.read({"closID": "gold", "enableMonitoring": True}, "box", str(tmp_path))
    assert found == {
        "l3_cache_info": {"cbm_mask": "fffff", "min_cbm_bits": 1, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=fffff;1=fffff",
        "l3_cache_schema": "L3:0=7f0;1=1f",
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
        "mem_bw_schema_root": "MB:0=100;1=100",
        "mem_bw_schema": "MB:0=20;1=70",
        "mbm_stats": [{"mbm_total_bytes": 100, "mbm_local_bytes": 60}, {"mbm_total_bytes": 5}],
        "cmt_stats": [{"llc_occupancy": 4096}, {}],
    }
    assert "mbm_stats" not in stats.read({"closID": "gold"}, "box", str(tmp_path))


@pytest.mark.parametrize("given", [None, {}, {"closID": "gone", "enableMonitoring": True}])
def test_no_statistics(given: dict[str, Any] | None, tmp_path: Path) -> None:
    assert stats.read(given, "box", str(tmp_path / "nothing")) == {}
