"""Resource usage as containerd's cgroup v1 or v2 metrics (proto/metrics_*.proto)."""

from __future__ import annotations

from pyruntime.cgroupfs import stats
from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.shim import wire
from pyruntime.shim.messages import MESSAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.shim.wire import Message

_BLKIO = {
    "ioServiceBytesRecursive": "io_service_bytes_recursive",
    "ioServicedRecursive": "io_serviced_recursive",
    "ioQueueRecursive": "io_queued_recursive",
    "ioServiceTimeRecursive": "io_service_time_recursive",
    "ioWaitTimeRecursive": "io_wait_time_recursive",
    "ioMergedRecursive": "io_merged_recursive",
    "ioTimeRecursive": "io_time_recursive",
    "sectorsRecursive": "sectors_recursive",
}


def read(cgroups: dict[str, str]) -> Message:
    """Return the metrics of a container with these cgroups, as a google.protobuf.Any."""
    found = stats.read(cgroups)
    if set(cgroups) == {UNIFIED}:
        return wire.any_of("io.containerd.cgroups.v2.Metrics", "MetricsV2", _v2(found, cgroups[UNIFIED]))
    return wire.any_of("io.containerd.cgroups.v1.Metrics", "MetricsV1", _v1(found, cgroups))


def _v1(found: Message, cgroups: dict[str, str]) -> Message:
    cpu, memory = found["cpu"], found["memory"]
    usage = cpu.get("usage", {})
    throttling = cpu.get("throttling", {})
    raw = memory.get("raw", {})
    values: Message = {
        "hugetlb": [{"pagesize": size, **entry} for size, entry in found["hugetlb"].items()],
        "pids": found["pids"],
        "cpu": {
            "usage": {
                "total": usage.get("total", 0),
                "kernel": usage.get("kernel", 0),
                "user": usage.get("user", 0),
                "per_cpu": usage.get("percpu", []),
            },
            "throttling": {
                "periods": throttling.get("periods", 0),
                "throttled_periods": throttling.get("throttledPeriods", 0),
                "throttled_time": throttling.get("throttledTime", 0),
            },
        },
        "memory": {
            **{name: raw.get(_in_file(name), 0) for number, name, _, _ in MESSAGES["MemoryV1"] if number <= 32},
            "usage": memory.get("usage", {}),
            "swap": memory.get("swap", {}),
            "kernel": memory.get("kernel", {}),
            "kernel_tcp": memory.get("kernelTCP", {}),
        },
        "blkio": {name: found["blkio"].get(key, []) for key, name in _BLKIO.items()},
        "rdma": _rdma(found),
    }
    if "memory" in cgroups:
        values["memory_oom_control"] = stats.pairs(cgroups["memory"], "memory.oom_control")
    return values


def _in_file(name: str) -> str:
    """Return the name of a field in memory.stat of cgroup v1."""
    if name == "hierarchical_swap_limit":
        return "hierarchical_memsw_limit"
    return name.replace("pg_pg_", "pgpg").replace("pg_maj_fault", "pgmajfault").replace("pg_fault", "pgfault")


def _v2(found: Message, directory: str) -> Message:
    memory = found["memory"]
    raw, usage, swap = memory.get("raw", {}), memory.get("usage", {}), memory.get("swap", {})
    io = []
    for line in stats.contents(directory, "io.stat").splitlines():
        device, *words = line.split()
        major, _, minor = device.partition(":")
        counts = dict(word.split("=", 1) for word in words if "=" in word)
        entry = {name: int(counts.get(name, 0)) for name in ("rbytes", "wbytes", "rios", "wios")}
        io.append({"major": int(major), "minor": int(minor), **entry})
    return {
        "pids": found["pids"],
        "cpu": stats.pairs(directory, "cpu.stat"),
        "memory": {
            **{name: raw.get(name, 0) for number, name, _, _ in MESSAGES["MemoryV2"] if number <= 31},
            "usage": usage.get("usage", 0),
            "usage_limit": usage.get("limit", 0),
            "max_usage": usage.get("max", 0),
            "swap_usage": _number(directory, "memory.swap.current"),
            "swap_limit": _number(directory, "memory.swap.max"),
            "swap_max_usage": swap.get("max", 0),
        },
        "rdma": _rdma(found),
        "io": {"usage": io},
        "hugetlb": [{"pagesize": size, "current": entry["usage"]} for size, entry in found["hugetlb"].items()],
        "memory_events": stats.pairs(directory, "memory.events"),
    }


def _number(directory: str, file: str) -> int:
    text = stats.contents(directory, file)
    return (1 << 64) - 1 if text == "max" else int(text or 0)


def _rdma(found: Message) -> Message:
    return {
        kind: [
            {
                "device": entry["device"],
                "hca_handles": entry.get("hcaHandles", 0),
                "hca_objects": entry.get("hcaObjects", 0),
            }
            for entry in entries
        ]
        for kind, entries in found.get("rdma", {}).items()
    }
