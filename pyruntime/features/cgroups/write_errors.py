"""Why the kernel refuses a limit: the error of a write to a file of a cgroup, in words. Loaded for errors only."""

from __future__ import annotations

from pyruntime.errors import KernelError, StepError, errno_name, strerror
from pyruntime.kernel.constants import EBUSY, EINVAL, ENODEV, ENOENT, ENXIO, ERANGE
from pyruntime.util.fileio import read_file


def explain(directory: str, file: str, value: str, error: KernelError) -> StepError:
    """Return the error to show for `file = value` that failed."""
    why, hint = _reason(directory, file, value, error.errno or 0)
    reason = f"{strerror(error.errno)} ({errno_name(error.errno)})"
    return StepError(
        f"write {value} to {directory}/{file}: {reason}",
        why=why,
        hint=hint,
        syscall=error.call(),
        errno=errno_name(error.errno),
    )


def _reason(directory: str, file: str, value: str, number: int) -> tuple[str | None, str | None]:
    if number == ENOENT:
        return _missing(directory, file)
    family = file.partition(".")[0]
    if family == "memory":
        return _memory(directory, file, value, number)
    if family == "cpuset":
        above = _read(directory.rpartition("/")[0], file) or _read(directory.rpartition("/")[0], f"{file}.effective")
        if number == EBUSY:
            return "its processes, or a cgroup below, would be left without", None
        return f"the cgroup above has {above or 'none'}", "give a part of that"
    if family == "cpu":
        return _cpu(directory, file, number)
    if family in ("blkio", "io"):
        if number in (ENODEV, ENXIO):
            return "no such block device, or it is a partition", "give the major:minor of a whole disk"
        if number in (EINVAL, ERANGE):
            return "the kernel takes weights of 10 to 1000 (BFQ: 1 to 1000), and rates from 1 on", None
    if family == "devices":
        return "the cgroup above does not have that device", "allow it there, or leave out the rule"
    if family == "pids" and number == EINVAL:
        return "the kernel's highest is 4194304", "give -1 for no limit"
    if family == "net_prio" and number == ENODEV:
        return "the runtime's network namespace has no such interface", None
    if family == "rdma" and number in (ENODEV, EINVAL):
        return "no such RDMA device, or the number is too high", None
    return None, None


def _missing(directory: str, file: str) -> tuple[str | None, str | None]:
    if file.startswith(("memory.memsw", "memory.swap")):
        return "swap is not counted on this host", "boot with swapaccount=1, or leave out the swap limit"
    if file.startswith("hugetlb."):
        return "this host has no huge pages of that size", "see /sys/kernel/mm/hugepages"
    if "leaf_weight" in file:
        return "it went with the CFQ scheduler in Linux 5.0", "leave out leafWeight"
    if ".bfq." in file or "weight" in file:
        return "this kernel has no I/O weights: neither BFQ nor iocost are there", "leave out the weight"
    if file in ("cpu.idle", "cpu.cfs_burst_us", "cpu.max.burst"):
        return "it came with Linux 5.15 (idle) and 5.14 (burst)", "leave it out on an older kernel"
    if file.startswith("cpu.rt_"):
        return "the kernel was built without CONFIG_RT_GROUP_SCHED", "leave out the real-time limits"
    return "this kernel has no such file in this cgroup", None


def _memory(directory: str, file: str, value: str, number: int) -> tuple[str | None, str | None]:
    if number == EBUSY:
        used = _read(directory, "memory.usage_in_bytes")
        peak = "memory.memsw.usage_in_bytes" if "memsw" in file else ""
        if peak:
            used = _read(directory, peak) or used
        return f"the container uses {used} bytes, and no more can be reclaimed", "give a higher limit"
    if number == EINVAL and file in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        memory = _read(directory, "memory.limit_in_bytes")
        swap = _read(directory, "memory.memsw.limit_in_bytes")
        return (
            f"the limit of memory ({memory} now) may not be above that of memory and swap ({swap} now)",
            "give both",
        )
    if file == "memory.oom_control":
        return "the root cgroup, or one with children without memory.use_hierarchy", None
    return None, None


def _cpu(directory: str, file: str, number: int) -> tuple[str | None, str | None]:
    if number != EINVAL:
        return None, None
    above = directory.rpartition("/")[0]
    if file in ("cpu.cfs_quota_us", "cpu.max", "cpu.cfs_period_us"):
        quota = _read(above, "cpu.max") or f"{_read(above, 'cpu.cfs_quota_us')} of {_read(above, 'cpu.cfs_period_us')}"
        return (
            f"a quota is 1000 us or more, a period 1000 to 1000000 us, and the part of a CPU may not be more than "
            f"that of the cgroup above ({quota})",
            None,
        )
    if file in ("cpu.cfs_burst_us", "cpu.max.burst"):
        return "a burst needs a quota, and may not be above it", None
    if file.startswith("cpu.rt_"):
        runtime = _read(above, "cpu.rt_runtime_us")
        return f"the cgroup above has a runtime of {runtime} us to give", "give that one a cpu.rt_runtime_us first"
    if file == "cpu.shares" or file == "cpu.weight":
        return "an idle cgroup has no weight", "set cpu.idle to 0"
    return None, None


def _read(directory: str, file: str) -> str:
    try:
        return read_file(f"{directory}/{file}").strip()
    except OSError:
        return ""
