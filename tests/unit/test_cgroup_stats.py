"""Statistics from the files of v1 and v2, as kernels write them, in the shape of runc's events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyruntime.cgroupfs import stats
from pyruntime.cli import events
from pyruntime.errors import UsageError

NO_LIMIT = 2**64 - 1

V2 = {
    "cpu.stat": "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 9\nnr_throttled 4\nthrottled_usec 77\n"
    "nr_bursts 0\nburst_usec 0\n",
    "cpu.pressure": "some avg10=1.50 avg60=0.20 avg300=0.00 total=123\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
    "cpuset.cpus.effective": "0-2,7\n",
    "cpuset.cpus": "\n",
    "cpuset.mems": "0\n",
    "memory.current": "4096\n",
    "memory.peak": "8192\n",
    "memory.max": "65536\n",
    "memory.stat": "anon 100\nfile 300\npgfault 12\n",
    "memory.events": "low 0\nhigh 0\nmax 5\noom 1\noom_kill 1\n",
    "memory.swap.current": "10\n",
    "memory.swap.max": "20\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": "8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:0 \n",
    "hugetlb.2MB.current": "2097152\n",
    "hugetlb.2MB.rsvd.current": "0\n",
    "hugetlb.2MB.events": "max 6\n",
    "rdma.current": "mlx4_0 hca_handle=2 hca_object=max\n",
    "rdma.max": "mlx4_0 hca_handle=max hca_object=5\n",
}
V1 = {
    "cpu,cpuacct": {
        "cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 77\n",
        "cpuacct.usage": "1234567\n",
        "cpuacct.usage_percpu": "1000000 234567\n",
        "cpuacct.usage_all": "cpu user system\n0 7 8\n1 5 6\n",
        "cpuacct.stat": "user 3\nsystem 2\n",
    },
    "cpuset": {
        "cpuset.cpus": "1\n",
        "cpuset.mems": "0\n",
        "cpuset.cpu_exclusive": "0\n",
        "cpuset.memory_pressure": "4\n",
    },
    "memory": {
        "memory.stat": "cache 300\nrss 100\nhierarchical_memory_limit 65536\n",
        "memory.usage_in_bytes": "4096\n",
        "memory.max_usage_in_bytes": "8192\n",
        "memory.limit_in_bytes": "65536\n",
        "memory.failcnt": "5\n",
        "memory.memsw.usage_in_bytes": "4106\n",
        "memory.memsw.max_usage_in_bytes": "8202\n",
        "memory.memsw.limit_in_bytes": "65556\n",
        "memory.memsw.failcnt": "0\n",
        "memory.kmem.usage_in_bytes": "11\n",
        "memory.kmem.tcp.usage_in_bytes": "12\n",
    },
    "pids": {"pids.current": "3\n", "pids.max": "33\n"},
    "blkio": {
        "blkio.bfq.io_serviced_recursive": "",
        "blkio.throttle.io_serviced_recursive": "8:16 Read 1\n8:16 Write 2\nTotal 3\n",
        "blkio.throttle.io_service_bytes_recursive": "8:16 Read 10\n8:16 Write 20\nTotal 30\n",
        "blkio.time_recursive": "8:16 99\n",
    },
    "hugetlb": {
        "hugetlb.2MB.usage_in_bytes": "2097152\n",
        "hugetlb.2MB.max_usage_in_bytes": "4194304\n",
        "hugetlb.2MB.failcnt": "6\n",
        "hugetlb.2MB.rsvd.usage_in_bytes": "0\n",
    },
}


def write(folder: Path, files: dict[str, str]) -> str:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return str(folder)


@pytest.fixture
def v1(tmp_path: Path) -> dict[str, Any]:
    return stats.read({name: write(tmp_path / name, files) for name, files in V1.items()})


@pytest.fixture
def v2(tmp_path: Path) -> dict[str, Any]:
    return stats.read({"unified": write(tmp_path / "unified", V2)})


def test_cpu_of_v2(v2: dict[str, Any]) -> None:
    """In nanoseconds, as v1 has them."""
    assert v2["cpu"] == {
        "usage": {"total": 1_500_000, "kernel": 500_000, "user": 1_000_000},
        "throttling": {"periods": 9, "throttledPeriods": 4, "throttledTime": 77_000},
        "psi": {
            "some": {"avg10": 1.5, "avg60": 0.2, "avg300": 0.0, "total": 123},
            "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 7},
        },
    }


def test_memory_of_v2(v2: dict[str, Any]) -> None:
    """Swap is counted with memory, as v1 does."""
    memory = v2["memory"]
    assert memory["usage"] == {"limit": 65536, "usage": 4096, "max": 8192, "failcnt": 5}
    assert memory["swap"] == {"limit": 65556, "usage": 4106}
    assert memory["cache"] == 300
    assert memory["raw"] == {"anon": 100, "file": 300, "pgfault": 12}
    assert "psi" not in memory


def test_no_limit_is_the_highest_number(tmp_path: Path) -> None:
    files = {**V2, "memory.max": "max\n"}
    memory = stats.read({"unified": write(tmp_path / "unified", files)})["memory"]
    assert memory["usage"]["limit"] == NO_LIMIT
    assert memory["swap"]["limit"] == NO_LIMIT


def test_the_rest_of_v2(v2: dict[str, Any]) -> None:
    assert v2["cpuset"] == {"cpus": [0, 1, 2, 7], "mems": [0]}
    assert v2["pids"] == {"current": 3}
    assert v2["hugetlb"] == {"2MB": {"usage": 2097152, "failcnt": 6}}
    disk = {"major": 8, "minor": 16}
    assert v2["blkio"]["ioServiceBytesRecursive"] == [
        {**disk, "op": "Read", "value": 10},
        {**disk, "op": "Write", "value": 20},
        {**disk, "op": "Discard", "value": 0},
    ]
    assert [one["value"] for one in v2["blkio"]["ioServicedRecursive"]] == [1, 2, 0]
    assert v2["rdma"] == {
        "current": [{"device": "mlx4_0", "hcaHandles": 2, "hcaObjects": 2**32 - 1}],
        "limit": [{"device": "mlx4_0", "hcaHandles": 2**32 - 1, "hcaObjects": 5}],
    }


def test_cpu_of_v1(v1: dict[str, Any]) -> None:
    assert v1["cpu"] == {
        "usage": {
            "total": 1234567,
            "kernel": 20_000_000,
            "user": 30_000_000,
            "percpu": [1000000, 234567],
            "percpu_user": [7, 5],
            "percpu_kernel": [8, 6],
        },
        "throttling": {"periods": 9, "throttledPeriods": 4, "throttledTime": 77},
    }


def test_memory_of_v1(v1: dict[str, Any]) -> None:
    memory = v1["memory"]
    assert memory["usage"] == {"limit": 65536, "usage": 4096, "max": 8192, "failcnt": 5}
    assert memory["swap"] == {"limit": 65556, "usage": 4106, "max": 8202, "failcnt": 0}
    assert (memory["kernel"], memory["kernelTCP"]) == ({"usage": 11}, {"usage": 12})
    assert memory["cache"] == 300
    assert memory["raw"]["hierarchical_memory_limit"] == 65536


def test_the_rest_of_v1(v1: dict[str, Any]) -> None:
    assert v1["cpuset"] == {"cpus": [1], "mems": [0], "cpu_exclusive": 0, "memory_pressure": 4}
    assert v1["pids"] == {"current": 3, "limit": 33}
    assert v1["hugetlb"] == {"2MB": {"usage": 2097152, "max": 4194304, "failcnt": 6}}
    disk = {"major": 8, "minor": 16}
    assert v1["blkio"] == {
        "ioServiceBytesRecursive": [{**disk, "op": "Read", "value": 10}, {**disk, "op": "Write", "value": 20}],
        "ioServicedRecursive": [{**disk, "op": "Read", "value": 1}, {**disk, "op": "Write", "value": 2}],
        "ioTimeRecursive": [{**disk, "op": "", "value": 99}],
    }
    assert "rdma" not in v1


@pytest.mark.parametrize("cgroups", [{}, {"unified": "/nonexistent"}, {"memory": "/nonexistent"}])
def test_a_container_without_cgroups_has_the_members_all_the_same(cgroups: dict[str, str]) -> None:
    found = stats.read(cgroups)
    assert set(found) >= {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"}
    assert (found["memory"], found["pids"], found["blkio"], found["hugetlb"]) == ({}, {}, {}, {})


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5.0), ("500ms", 0.5), ("1m30s", 90.0), ("1.5h", 5400.0), ("", 0.0)]
)
def test_interval(text: str, seconds: float) -> None:
    assert events.seconds(text) == seconds


@pytest.mark.parametrize("text", ["5", "s", "5 s", "1d", "-"])
def test_no_interval(text: str) -> None:
    with pytest.raises(UsageError):
        events.seconds(text)
