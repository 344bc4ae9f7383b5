"""Resource usage of a container from cgroup v1 or v2, in the format of runc's `events --stats`.

Values that the host does not account are omitted. Times are in nanoseconds, sizes in bytes.
"""

from __future__ import annotations

import posix

from pyruntime.cgroupfs.layout import UNIFIED, serving_hierarchy
from pyruntime.util import ranges
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TICK = 10**7  # cpuacct.stat counts in hundredths of a second
_NO_LIMIT = (1 << 64) - 1  # what runc gives for "max"


def read(cgroups: dict[str, str]) -> dict[str, Any]:
    """Return the statistics of the container with these cgroups: the `data` of runc's event of type "stats"."""
    found: dict[str, Any] = {
        "cpu": _cpu(cgroups),
        "cpuset": _cpuset(_place(cgroups, "cpuset")),
        "memory": _memory(cgroups),
        "pids": _pids(cgroups),
        "blkio": _blkio(cgroups),
        "hugetlb": _hugetlb(cgroups),
        "rdma": _rdma(_place(cgroups, "rdma")),
        "intel_rdt": {},
        "network_interfaces": None,
    }
    if not found["rdma"]:
        del found["rdma"]
    return found


def _place(cgroups: dict[str, str], controller: str) -> str:
    """Return the directory that a controller's files are in; one that has none for a controller without."""
    return cgroups.get(serving_hierarchy(cgroups, controller), "/nonexistent")


def _is_v2(cgroups: dict[str, str], controller: str) -> bool:
    return serving_hierarchy(cgroups, controller) == UNIFIED


def _cpu(cgroups: dict[str, str]) -> dict[str, object]:
    usage: dict[str, object] = {}
    throttling: dict[str, int] = {}
    directory = _place(cgroups, "cpu")
    if _is_v2(cgroups, "cpu"):
        stat = pairs(directory, "cpu.stat")
        usage = {
            "total": stat.get("usage_usec", 0) * 1000,
            "kernel": stat.get("system_usec", 0) * 1000,
            "user": stat.get("user_usec", 0) * 1000,
        }
        throttled = stat.get("throttled_usec", 0) * 1000
        found = {"usage": usage, "throttling": throttling}
        _add_pressure(found, directory, "cpu.pressure")
    else:
        stat = pairs(directory, "cpu.stat")
        throttled = stat.get("throttled_time", 0)
        accounts = _place(cgroups, "cpuacct")
        ticks = pairs(accounts, "cpuacct.stat")
        usage = {
            "total": _number(accounts, "cpuacct.usage"),
            "kernel": ticks.get("system", 0) * _TICK,
            "user": ticks.get("user", 0) * _TICK,
        }
        rows = [line.split() for line in contents(accounts, "cpuacct.usage_all").splitlines()[1:]]
        if rows:
            usage["percpu"] = [int(word) for word in contents(accounts, "cpuacct.usage_percpu").split()]
            usage["percpu_user"] = [int(row[1]) for row in rows]
            usage["percpu_kernel"] = [int(row[2]) for row in rows]
        found = {"usage": usage, "throttling": throttling}
    if stat:
        throttling["periods"] = stat.get("nr_periods", 0)
        throttling["throttledPeriods"] = stat.get("nr_throttled", 0)
        throttling["throttledTime"] = throttled
    return found


_CPUSET_FLAGS = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)


def _cpuset(directory: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in ("cpus", "mems"):
        text = contents(directory, f"cpuset.{name}") or contents(directory, f"cpuset.{name}.effective")
        if text:
            found[name] = ranges.parse(text)
    for name in _CPUSET_FLAGS:
        text = contents(directory, f"cpuset.{name}")
        if text:
            found[name] = int(text)
    return found


def _memory(cgroups: dict[str, str]) -> dict[str, object]:
    directory = _place(cgroups, "memory")
    raw = pairs(directory, "memory.stat")
    if not raw:
        return {}
    if _is_v2(cgroups, "memory"):
        events = pairs(directory, "memory.events")
        usage = _v2_usage(directory, "memory")
        usage["failcnt"] = events.get("max", 0)
        swap = _v2_usage(directory, "memory.swap")
        # As v1 counts it: memory and swap together.
        if "usage" in swap:
            swap["usage"] += usage.get("usage", 0)
            if swap["limit"] != _NO_LIMIT and usage.get("limit", _NO_LIMIT) != _NO_LIMIT:
                swap["limit"] += usage["limit"]
            else:
                swap["limit"] = _NO_LIMIT
        found = {"cache": raw.get("file", 0), "usage": usage, "swap": swap, "raw": raw}
        _add_pressure(found, directory, "memory.pressure")
        return found
    found = {"usage": _v1_usage(directory, "memory"), "raw": raw}
    if raw.get("cache"):
        found["cache"] = raw["cache"]
    for key, prefix in (("swap", "memory.memsw"), ("kernel", "memory.kmem"), ("kernelTCP", "memory.kmem.tcp")):
        usage = _v1_usage(directory, prefix)
        if usage:
            found[key] = usage
    return found


def _v1_usage(directory: str, prefix: str) -> dict[str, int]:
    names = (
        ("limit", "limit_in_bytes"),
        ("usage", "usage_in_bytes"),
        ("max", "max_usage_in_bytes"),
        ("failcnt", "failcnt"),
    )
    return {key: int(text) for key, file in names if (text := contents(directory, f"{prefix}.{file}"))}


def _v2_usage(directory: str, prefix: str) -> dict[str, int]:
    names = (("limit", "max"), ("usage", "current"), ("max", "peak"))
    return {key: _or_no_limit(text) for key, file in names if (text := contents(directory, f"{prefix}.{file}"))}


def _pids(cgroups: dict[str, str]) -> dict[str, int]:
    directory = _place(cgroups, "pids")
    found = {}
    if text := contents(directory, "pids.current"):
        found["current"] = int(text)
    limit = contents(directory, "pids.max")
    if limit and limit != "max":
        found["limit"] = int(limit)
    return found


# runc's name -> files of v1, the first that has anything
_BLKIO = (
    ("ioServiceBytesRecursive", ("blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive")),
    ("ioServicedRecursive", ("blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive")),
    ("ioQueueRecursive", ("blkio.io_queued_recursive",)),
    ("ioServiceTimeRecursive", ("blkio.io_service_time_recursive",)),
    ("ioWaitTimeRecursive", ("blkio.io_wait_time_recursive",)),
    ("ioMergedRecursive", ("blkio.io_merged_recursive",)),
    ("ioTimeRecursive", ("blkio.time_recursive",)),
    ("sectorsRecursive", ("blkio.sectors_recursive",)),
)


def _blkio(cgroups: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if _is_v2(cgroups, "blkio"):
        directory = cgroups[UNIFIED]
        for line in contents(directory, "io.stat").splitlines():
            device, *words = line.split()
            major, _, minor = device.partition(":")
            values = dict(word.split("=", 1) for word in words if "=" in word)
            for name, keys in (
                ("ioServiceBytesRecursive", (("Read", "rbytes"), ("Write", "wbytes"), ("Discard", "dbytes"))),
                ("ioServicedRecursive", (("Read", "rios"), ("Write", "wios"), ("Discard", "dios"))),
            ):
                for op, key in keys:
                    if key in values:
                        entry = {"major": int(major), "minor": int(minor), "op": op, "value": int(values[key])}
                        found.setdefault(name, []).append(entry)
        _add_pressure(found, directory, "io.pressure")
        return found
    directory = _place(cgroups, "blkio")
    for name, files in _BLKIO:
        for file in files:
            entries = [one for line in contents(directory, file).splitlines() if (one := _blkio_entry(line))]
            if entries:
                found[name] = entries
                break
    return found


def _blkio_entry(line: str) -> dict[str, object] | None:
    """Return `8:0 Read 4096`, or `8:0 17`; a line with a sum of all devices is none."""
    words = line.split()
    major, colon, minor = words[0].partition(":")
    if not colon:
        return None
    op = words[1] if len(words) == 3 else ""
    return {"major": int(major), "minor": int(minor), "op": op, "value": int(words[-1])}


def _hugetlb(cgroups: dict[str, str]) -> dict[str, object]:
    directory = _place(cgroups, "hugetlb")
    v2 = _is_v2(cgroups, "hugetlb")
    found: dict[str, object] = {}
    try:
        names = posix.listdir(directory)
    except OSError:
        return {}
    ending = ".current" if v2 else ".usage_in_bytes"
    for name in sorted(names):
        size = name.removeprefix("hugetlb.").removesuffix(ending)
        if name != f"hugetlb.{size}{ending}" or "." in size:
            continue
        entry = {"usage": _number(directory, name)}
        if v2:
            entry["failcnt"] = pairs(directory, f"hugetlb.{size}.events").get("max", 0)
        else:
            entry["max"] = _number(directory, f"hugetlb.{size}.max_usage_in_bytes")
            entry["failcnt"] = _number(directory, f"hugetlb.{size}.failcnt")
        found[size] = entry
    return found


def _rdma(directory: str) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for key, file in (("current", "rdma.current"), ("limit", "rdma.max")):
        for line in contents(directory, file).splitlines():
            device, *words = line.split()
            values = dict(word.split("=", 1) for word in words)
            entry: dict[str, object] = {"device": device}
            for name, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
                if word in values:
                    entry[name] = (1 << 32) - 1 if values[word] == "max" else int(values[word])
            found.setdefault(key, []).append(entry)
    return found


def _add_pressure(found: dict[str, object], directory: str, file: str) -> None:
    """Pressure stall information, where the kernel has it (Documentation/accounting/psi.rst)."""
    lines = {}
    for line in contents(directory, file).splitlines():
        kind, *words = line.split()
        values = dict(word.split("=", 1) for word in words)
        lines[kind] = {key: int(value) if key == "total" else float(value) for key, value in values.items()}
    if lines:
        found["psi"] = lines


def contents(directory: str, file: str) -> str:
    """Return a file's text, "" for one that is not there or has nothing to say (EOPNOTSUPP: pressure, switched off)."""
    try:
        return read_file(f"{directory}/{file}").strip()
    except OSError:
        return ""


def _number(directory: str, file: str) -> int:
    return int(contents(directory, file) or 0)


def _or_no_limit(text: str) -> int:
    return _NO_LIMIT if text == "max" else int(text)


def pairs(directory: str, file: str) -> dict[str, int]:
    """Return a file of lines `name number`."""
    found = {}
    for line in contents(directory, file).splitlines():
        name, _, number = line.partition(" ")
        if number.isdigit():
            found[name] = int(number)
    return found
