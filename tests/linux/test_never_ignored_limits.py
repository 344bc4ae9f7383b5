"""The rarer limits of linux.resources: each is in force, or refused by its name, or told to have no effect.

On a host with cgroup v1; tests/linux/test_cgroup_limits_v2.py has them for v2.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from support import leaks, proc
from support.refusal import create_refused

pytestmark = pytest.mark.skipif(
    not os.path.isdir("/sys/fs/cgroup/memory"), reason="no cgroup v1 here: test_cgroup_limits_v2.py has them"
)
MIB = 1 << 20


def disk() -> dict[str, int]:
    """A whole disk of this host."""
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "ram", "zram")):
            major, minor = Path(f"/sys/block/{name}/dev").read_text().strip().split(":")
            return {"major": int(major), "minor": int(minor)}
    pytest.skip("no block device on this host")


def found(box, pattern: str) -> list[str]:
    """What the files of the container's cgroups hold whose names match."""
    path = box.config["linux"]["cgroupsPath"]
    folders = [Path(top + path) for top in leaks.hierarchies()]
    return [
        (folder / name).read_text().strip()
        for folder in folders
        if folder.is_dir()
        for name in os.listdir(folder)
        if re.fullmatch(pattern, name)
    ]


def obeyed_or_refused(box, resources: dict, pointer: str, pattern: str, value: str) -> None:
    """In a file of the container's cgroup that matches the pattern, or refused with the pointer."""
    box.config["linux"]["resources"] = resources
    result = box.create(check=None)
    if result.code:
        if box.runtime.is_ours:
            assert pointer in result.stderr, result
        return
    assert value in found(box, pattern), f"{pointer} was ignored: {found(box, pattern)}"


@pytest.mark.parametrize(
    "field, name",
    [
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
    ],
)
def test_throttling(container, field, name):
    box = container(["/bin/sleep", "100"])
    place = disk()
    box.config["linux"]["resources"] = {"blockIO": {field: [{**place, "rate": 100000}]}}
    box.create()
    assert found(box, re.escape(name)) == [f"{place['major']}:{place['minor']} 100000"]


@pytest.mark.parametrize(
    "resources, pointer, pattern, value",
    [
        ({"blockIO": {"weight": 321}}, "/linux/resources/blockIO/weight", r"blkio(\.bfq)?\.weight", "321"),
        ({"blockIO": {"leafWeight": 321}}, "/linux/resources/blockIO/leafWeight", r"blkio.*leaf_weight", "321"),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]},
            "/linux/resources/hugepageLimits",
            r"hugetlb\.2MB\.(max|limit_in_bytes)",
            str(4 * MIB),
        ),
        ({"network": {"classID": 77}}, "/linux/resources/network", r"net_cls\.classid", "77"),
        (
            {"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 1000000}},
            "/linux/resources/cpu",
            r"cpu\.rt_runtime_us",
            "1000",
        ),
        ({"memory": {"swappiness": 7}}, "/linux/resources/memory/swappiness", r"memory\.swappiness", "7"),
    ],
    ids=["weight", "leafWeight", "hugepages", "classID", "realtime", "swappiness"],
)
def test_in_force_or_refused(container, resources, pointer, pattern, value):
    obeyed_or_refused(container(["/bin/sleep", "100"]), resources, pointer, pattern, value)


@pytest.mark.parametrize("weight", ["weight", "leafWeight"])
def test_weight_of_a_device(container, weight):
    place = disk()
    obeyed_or_refused(
        container(["/bin/sleep", "100"]),
        {"blockIO": {"weightDevice": [{**place, weight: 321}]}},
        "/linux/resources/blockIO/weightDevice/0",
        r"blkio(\.bfq)?\.(leaf_)?weight_device",
        f"{place['major']}:{place['minor']} 321",
    )


@pytest.mark.ours
@pytest.mark.parametrize(
    "resources, words",
    [
        ({"network": {"priorities": [{"name": "lo", "priority": 3}]}}, ("/linux/resources/network", "net_prio")),
        ({"rdma": {"mlx5_0": {"hcaHandles": 3, "hcaObjects": 1000}}}, ("/linux/resources/rdma", "rdma")),
        ({"unified": {"memory.high": "1000000"}}, ("/linux/resources/unified/memory.high", "memory")),
    ],
)
def test_refused_where_the_controller_is_not(container, resources, words):
    if any(os.path.isdir(f"/sys/fs/cgroup/{name}") for name in ("net_prio", "rdma")):
        pytest.skip("the controllers are here")
    box = container()
    box.config["linux"]["resources"] = resources
    create_refused(box, *words)


@pytest.mark.ours
def test_kernel_memory_is_told_to_be_no_limit(container):
    box = container(["/bin/true"])
    box.config["linux"]["resources"] = {"memory": {"kernel": 64 * MIB}}
    said = box.create().stderr
    assert "/linux/resources/memory/kernel is ignored" in said
    assert proc.process_state(box.pid) in "SRD"


def test_use_hierarchy_and_check_before_update(container):
    """Linux accounts for whole subtrees always, since 5.11; and a limit that init cannot live in is refused always."""
    box = container(["/bin/sleep", "100"])
    box.config["linux"]["resources"] = {"memory": {"limit": 64 * MIB, "useHierarchy": True, "checkBeforeUpdate": True}}
    box.create()
    assert found(box, r"memory\.use_hierarchy") in (["1"], [])
    assert found(box, r"memory\.limit_in_bytes") == [str(64 * MIB)]
