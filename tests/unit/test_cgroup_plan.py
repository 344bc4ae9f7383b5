"""Where a container's cgroups are and what its limits become, planned for hosts that this one is not."""

from __future__ import annotations

from typing import Any

import pytest

from pyruntime.cgroupfs import layout
from pyruntime.cgroupfs.layout import Hierarchy, Layout
from pyruntime.errors import ConfigError
from pyruntime.features.cgroups import cpu, devices, limits, place, update
from pyruntime.plan.request import Request
from pyruntime.util import mountinfo

TOP = "/sys/fs/cgroup"
V1 = Layout(
    [
        Hierarchy("cpu,cpuacct", ("cpu", "cpuacct"), f"{TOP}/cpu,cpuacct", "/"),
        Hierarchy("memory", ("memory",), f"{TOP}/memory", "/shell"),
        Hierarchy("blkio", ("blkio",), f"{TOP}/blkio", "/"),
        Hierarchy("hugetlb", ("hugetlb",), f"{TOP}/hugetlb", "/"),
        Hierarchy("net_cls,net_prio", ("net_cls", "net_prio"), f"{TOP}/net_cls,net_prio", "/"),
        Hierarchy("cpuset", ("cpuset",), f"{TOP}/cpuset", "/"),
        Hierarchy("pids", ("pids",), f"{TOP}/pids", "/"),
        Hierarchy("rdma", ("rdma",), f"{TOP}/rdma", "/"),
        Hierarchy("devices", ("devices",), f"{TOP}/devices", "/"),
        Hierarchy("systemd", (), f"{TOP}/systemd", "/user.slice"),
    ]
)
HYBRID = Layout([*V1.hierarchies[:2], Hierarchy("unified", ("hugetlb", "io"), f"{TOP}/unified", "/")])
ALL = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma")
V2 = Layout([Hierarchy("unified", ALL, TOP, "/system.slice/engine.service")])
NONE = Layout(())


def request(where: Layout, path: str | None = None, resources: dict[str, Any] | None = None, **more: Any) -> Request:
    linux: dict[str, Any] = {"resources": resources or {}}
    if path is not None:
        linux["cgroupsPath"] = path
    return Request({"linux": linux}, id="box", bundle="/b", layout=where, **more)


def written(where: Layout, resources: dict[str, Any]) -> list[str]:
    """Every write as `hierarchy/file=value`."""
    warnings: list[str] = []
    found = []
    for step in limits.plan_resources(resources, where, warnings.append):
        args = step.args
        step.describe()
        pairs = [*args.get("writes", ()), *args.get("choices", ())]
        if "file" in args:
            values = args["value"] if isinstance(args["value"], list) else [args["value"]]
            pairs += [[args["file"], value] for value in values]
        found += [f"{args['hierarchy']}/{file}={value}" for file, value in pairs]
    return found + [f"warning: {text}" for text in warnings]


def test_kinds() -> None:
    assert [where.kind for where in (V1, HYBRID, V2, NONE)] == ["v1", "hybrid", "v2", "none"]


@pytest.mark.parametrize(
    ("where", "path", "directories"),
    [
        (HYBRID, "/a//./b/", {"cpu,cpuacct": f"{TOP}/cpu,cpuacct/a/b", "memory": f"{TOP}/memory/a/b"}),
        (HYBRID, "a", {"cpu,cpuacct": f"{TOP}/cpu,cpuacct/a", "memory": f"{TOP}/memory/shell/a"}),
        (HYBRID, None, {"memory": f"{TOP}/memory/shell/box", "unified": f"{TOP}/unified/box"}),
        (V2, "/a/b", {"unified": f"{TOP}/a/b"}),
        (V2, "a", {"unified": f"{TOP}/system.slice/a"}),
        (V2, None, {"unified": f"{TOP}/system.slice/box"}),
        (NONE, "/a", {}),
    ],
)
def test_directories(where: Layout, path: str | None, directories: dict[str, str]) -> None:
    assert directories.items() <= place.directories_of(request(where, path)).items()


@pytest.mark.parametrize("path", ["..", "/a/../b", "a/..", "/", ".", "/a\nb"])
def test_bad_paths(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        place.directories_of(request(V1, path))
    assert caught.value.pointer == "/linux/cgroupsPath"


def test_controllers_that_cgroup2_must_hand_down() -> None:
    asked = {"memory": {"limit": 1}, "cpu": {"shares": 0, "cpus": "0"}, "unified": {"pids.max": "5"}}
    assert limits.needed(asked, V2) == ["cpuset", "memory", "pids"]
    assert limits.needed({"blockIO": {"weight": 100}}, V2) == ["io"]
    assert limits.needed({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}], **asked}, HYBRID) == ["hugetlb"]
    (step,) = place.plan_create(request(V2, "/a", asked))
    assert step.args["controllers"] == ["cpuset", "memory", "pids"]


MEMORY = {"limit": 100, "swap": 150, "reservation": 50}
CPU = {"shares": 1024, "quota": 5, "period": 10, "burst": 2}
DISK = {"major": 8, "minor": 0}


@pytest.mark.parametrize(
    ("where", "resources", "writes"),
    [
        (V1, {"memory": MEMORY}, ["limit_in_bytes=100", "memsw.limit_in_bytes=150", "soft_limit_in_bytes=50"]),
        (V1, {"memory": {"limit": -1}}, ["memsw.limit_in_bytes=-1", "limit_in_bytes=-1"]),
        (V1, {"memory": {"limit": 0, "disableOOMKiller": False}}, []),
        (V1, {"memory": {"useHierarchy": True}}, ["use_hierarchy=1"]),
        (V2, {"memory": {"useHierarchy": True}}, []),
        (V2, {"memory": MEMORY}, ["swap.max=50", "max=100", "low=50"]),
        (V2, {"memory": {"limit": -1}}, ["swap.max=max", "max=max"]),
    ],
)
def test_memory(where: Layout, resources: dict[str, Any], writes: list[str]) -> None:
    prefix = "unified/memory." if where is V2 else "memory/memory."
    assert written(where, resources) == [prefix + write for write in writes]


def test_memory_that_does_not_go_together() -> None:
    for where, memory in ((V1, {"limit": 10, "swap": 5}), (V2, {"swap": 5}), (V2, {"limit": -1, "swap": 5})):
        with pytest.raises(ConfigError) as caught:
            written(where, {"memory": memory})
        assert caught.value.pointer == "/linux/resources/memory/swap"


def test_what_a_kernel_has_no_more_is_warned_of() -> None:
    (warning,) = written(V1, {"memory": {"kernel": 10}})
    assert warning.startswith("warning: config.json: /linux/resources/memory/kernel is ignored")
    warnings = written(V2, {"memory": {"swappiness": 0, "disableOOMKiller": True, "kernelTCP": 5}})
    assert len(warnings) == 3
    warnings = written(V2, {"cpu": {"realtimeRuntime": 5, "realtimePeriod": 9}})
    assert len(warnings) == 2


def test_cpu() -> None:
    assert written(V1, {"cpu": CPU}) == [
        "cpu,cpuacct/cpu.shares=1024",
        "cpu,cpuacct/cpu.cfs_period_us=10",
        "cpu,cpuacct/cpu.cfs_quota_us=5",
        "cpu,cpuacct/cpu.cfs_burst_us=2",
    ]
    assert written(V2, {"cpu": CPU}) == ["unified/cpu.weight=100", "unified/cpu.max=5 10", "unified/cpu.max.burst=2"]
    assert written(V2, {"cpu": {"quota": 5}}) == ["unified/cpu.max=5"]
    assert written(V2, {"cpu": {"quota": -1, "period": 7}}) == ["unified/cpu.max=max 7"]
    assert written(V2, {"cpu": {"idle": 1, "shares": 5}}) == ["unified/cpu.idle=1"]
    assert written(V1, {"cpu": {"realtimeRuntime": 5, "realtimePeriod": 9}}) == [
        "cpu,cpuacct/cpu.rt_period_us=9",
        "cpu,cpuacct/cpu.rt_runtime_us=5",
    ]
    for where, name in ((V1, "cpuset"), (V2, "unified")):
        assert written(where, {"cpu": {"cpus": "0-1", "mems": "0", "shares": 0}}) == [
            f"{name}/cpuset.cpus=0-1",
            f"{name}/cpuset.mems=0",
        ]


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(1, 1), (2, 1), (3, 2), (512, 59), (1024, 100), (2048, 174), (262144, 10000), (1 << 30, 10000)],
)
def test_weight_of_shares(shares: int, weight: int) -> None:
    assert cpu.weight(shares) == weight


def test_pids() -> None:
    assert written(V1, {"pids": {"limit": 0}}) == ["pids/pids.max=1"]
    assert written(V2, {"pids": {"limit": 0}}) == ["unified/pids.max=1"]
    assert written(V1, {"pids": {"limit": -2}}) == ["pids/pids.max=max"]
    assert written(V2, {"pids": {"limit": -1}}) == ["unified/pids.max=max"]
    assert written(V2, {"pids": {}}) == []


def test_block_io() -> None:
    block = {
        "weight": 500,
        "weightDevice": [{**DISK, "weight": 10}],
        "throttleReadBpsDevice": [{**DISK, "rate": 100}],
        "throttleWriteIOPSDevice": [{**DISK, "rate": 0}],
    }
    assert written(V1, {"blockIO": block}) == [
        "blkio/blkio.weight=500",
        "blkio/blkio.bfq.weight=500",
        "blkio/blkio.weight_device=8:0 10",
        "blkio/blkio.bfq.weight_device=8:0 10",
        "blkio/blkio.throttle.read_bps_device=8:0 100",
        "blkio/blkio.throttle.write_iops_device=8:0 0",
    ]
    assert written(V2, {"blockIO": block}) == [
        "unified/io.bfq.weight=500",
        "unified/io.weight=default 4950",
        "unified/io.bfq.weight=8:0 10",
        "unified/io.weight=8:0 1",
        "unified/io.max=8:0 rbps=100",
        "unified/io.max=8:0 wiops=max",
    ]


def test_leaf_weights_are_of_old_kernels_only() -> None:
    block = {"leafWeight": 300, "weightDevice": [{**DISK, "leafWeight": 20}]}
    found = written(V1, {"blockIO": block})
    assert {"blkio/blkio.leaf_weight=300", "blkio/blkio.leaf_weight_device=8:0 20"} <= set(found)
    warnings = written(V2, {"blockIO": block})
    assert all("leafWeight is ignored" in warning for warning in warnings)
    assert len(warnings) == 2


def test_the_rest() -> None:
    resources = {
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4}],
        "network": {"classID": 7, "priorities": [{"name": "eth0", "priority": 3}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "rxe3": {"hcaObjects": 5}},
    }
    assert written(V1, resources) == [
        "hugetlb/hugetlb.2MB.limit_in_bytes=4",
        "hugetlb/hugetlb.2MB.rsvd.limit_in_bytes=4",
        "net_cls,net_prio/net_cls.classid=7",
        "net_cls,net_prio/net_prio.ifpriomap=eth0 3",
        "rdma/rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        "rdma/rdma.max=rxe3 hca_object=5",
    ]
    assert written(HYBRID, {"hugepageLimits": resources["hugepageLimits"]})[0] == "unified/hugetlb.2MB.max=4"
    assert written(HYBRID, {"unified": {"hugetlb.2MB.max": "4"}}) == ["unified/hugetlb.2MB.max=4"]
    assert written(V2, {"rdma": resources["rdma"]})[1] == "unified/rdma.max=rxe3 hca_object=5"
    assert written(V2, {"unified": {"memory.high": "5", "io.max": "8:0 rbps=1\n8:1 rbps=2"}}) == [
        "unified/memory.high=5",
        "unified/io.max=8:0 rbps=1",
        "unified/io.max=8:1 rbps=2",
    ]


@pytest.mark.parametrize(
    ("where", "resources", "pointer"),
    [
        (HYBRID, {"pids": {"limit": 5}}, "/linux/resources/pids"),
        (V2, {"network": {"classID": 5}}, "/linux/resources/network"),
        (NONE, {"memory": {"limit": 5}}, "/linux/resources/memory"),
        (V1, {"unified": {"memory.high": "5"}}, "/linux/resources/unified/memory.high"),
        (HYBRID, {"unified": {"memory.high": "5"}}, "/linux/resources/unified/memory.high"),
        (V2, {"unified": {"../x.y": "5"}}, "/linux/resources/unified/..~1x.y"),
        (V1, {"hugepageLimits": [{"pageSize": "x/2", "limit": 4}]}, "/linux/resources/hugepageLimits/0/pageSize"),
    ],
)
def test_what_a_host_cannot_do_names_the_field(where: Layout, resources: dict[str, Any], pointer: str) -> None:
    with pytest.raises(ConfigError) as caught:
        written(where, resources)
    assert caught.value.pointer == pointer


def test_zeros_as_docker_sends_them_ask_for_nothing() -> None:
    resources = {"memory": {"disableOOMKiller": False}, "cpu": {"shares": 0}, "blockIO": {"weight": 0}}
    for where in (V1, HYBRID, V2, NONE):
        assert written(where, resources) == []
        assert limits.needed(resources, where) == []


def test_device_rules() -> None:
    entries = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
        {"allow": True, "type": "b", "major": 8},
        {"allow": False, "type": "u", "minor": 9, "access": "w"},
    ]
    found = devices.rules(entries)
    assert found[:4] == ["deny a", "allow c 1:3 rw", "allow b 8:* rwm", "deny c *:9 w"]
    assert tuple(found[4:]) == devices.DEFAULTS
    assert devices.rules(entries[1:])[0] == "deny a"
    assert devices.rules([{"allow": True}])[0] == "allow a"
    # Without a type it is one of either; the kernel's "a" has no numbers and no accesses.
    found = devices.rules([{"allow": True, "major": 10, "access": "r"}, {"allow": False, "type": "a", "access": "w"}])
    assert found[:5] == ["deny a", "allow b 10:* r", "allow c 10:* r", "deny b *:* w", "deny c *:* w"]
    for bad, pointer in (({"type": "p"}, "type"), ({"type": "c", "access": "x"}, "access")):
        with pytest.raises(ConfigError) as caught:
            devices.rules([{"allow": True, **bad}])
        assert caught.value.pointer == f"/linux/resources/devices/0/{pointer}"


@pytest.mark.parametrize(
    ("own", "add", "remove", "result"),
    [
        ([], ["c 10:200 rwm"], [], ["allow c 10:200 rwm"]),
        (["c 10:200 rwm"], [], ["c 10:200 w"], ["allow c 10:200 rm"]),
        (["c 10:200 rwm"], [], ["c 10:200"], ["deny a *:* rwm"]),
        (["c 10:* rw"], [], ["c 10:200 rwm"], ["allow c 10:* rw", "deny c 10:200 rwm"]),
        (["a"], [], ["b 8:* rwm"], ["allow a *:* rwm", "deny b 8:* rwm"]),
        (["c 10:200 r"], ["c 10:200 rw"], [], ["allow c 10:200 rw"]),
        (["b 10:200 rwm"], [], ["c 10:200 rwm"], ["allow b 10:200 rwm"]),
        (["c 10:200 rwm"], ["c 10:200 r"], ["c 10:200 rwm"], ["allow c 10:200 r"]),
    ],
)
def test_device_rules_are_added_and_removed(
    own: list[str], add: list[str], remove: list[str], result: list[str]
) -> None:
    from pyruntime.features.cgroups import device_changes

    found = device_changes.changed(
        [device_changes.parse(one, allow=True) for one in own],
        [device_changes.parse(one, allow=True) for one in add],
        [device_changes.parse(one, allow=False) for one in remove],
    )
    shown = [
        f"{'allow' if one['allow'] else 'deny'} {one.get('type', 'a')} "
        f"{one.get('major', '*')}:{one.get('minor', '*')} {one['access']}"
        for one in found
    ]
    assert shown == result


def test_merge_of_an_update() -> None:
    old = {"memory": {"limit": 5, "swap": 9}, "cpu": {"shares": 3}, "blockIO": {"weight": 10}}
    new = {"memory": {"limit": 7, "swap": 0}, "pids": {"limit": 0}, "cpu": {"cpus": "", "idle": 0}, "blockIO": {}}
    assert update.merge(old, new) == {
        "memory": {"limit": 7, "swap": 9},
        "cpu": {"shares": 3, "idle": 0},
        "blockIO": {"weight": 10},
        "pids": {"limit": 0},
    }
    assert old["memory"] == {"limit": 5, "swap": 9}


@pytest.mark.parametrize(
    ("file", "before", "now", "lines"),
    [
        ("memory.max", "max\n", "100\n", ["max"]),
        ("memory.max", "100\n", "100\n", []),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", "oom_kill_disable 1\nunder_oom 0\n", ["0"]),
        ("io.max", "8:0 rbps=5 wbps=max\n", "8:1 rbps=7 wbps=max\n", ["8:0 rbps=5 wbps=max", "8:1 rbps=max wbps=max"]),
        ("blkio.throttle.read_bps_device", "", "8:0 5\n", ["8:0 0"]),
        ("io.weight", "default 100\n", "default 5\n8:0 7\n", ["default 100", "8:0 default"]),
    ],
)
def test_restoring(file: str, before: str, now: str, lines: list[str]) -> None:
    assert update.restoring(file, before, now) == lines


def test_layout_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "30 20 0:30 / /my\\040cgroups/mem rw - cgroup cgroup rw,memory\n"
        "31 20 0:31 /docker/x /two rw - cgroup2 cgroup2 rw\n"
        "32 20 0:32 / /other rw - ext4 /dev/x rw,memory\n"
    )
    files = {"/proc/self/mountinfo": lines, "/two/cgroup.controllers": "cpu io\n"}
    for module in (layout, mountinfo):
        monkeypatch.setattr(module, "read_file", files.__getitem__)
    monkeypatch.setattr(layout.posix, "access", lambda path, mode: path != "/two/gone/cgroup.procs")
    found = layout._from_mountinfo([("memory", "/a"), ("unified", "/docker/x/y"), ("pids", "/")])
    assert [(one.name, one.mount_point, one.own) for one in found] == [
        ("memory", "/my cgroups/mem", "/a"),
        ("unified", "/two", "/y"),
    ]
