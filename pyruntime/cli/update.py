"""update: change the resource limits of a container."""

from __future__ import annotations

import posix

from pyruntime.cli.flags import Flag, number
from pyruntime.cli.main import one_id
from pyruntime.commands import update
from pyruntime.errors import UsageError
from pyruntime.spec import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings
    from pyruntime.spec.sections import Process, Resources, Rlimit

USAGE = "ID"
FLAGS = (
    Flag("resources", "read a linux.resources object from FILE, - for standard input", short="r", value="FILE"),
    Flag("blkio-weight", "weight of block I/O, 10 to 1000", value="N"),
    Flag("cpu-period", "CFS period in microseconds", value="N"),
    Flag("cpu-quota", "CPU time in a period, in microseconds; -1 for no limit", value="N"),
    Flag("cpu-burst", "unused CPU time that may accumulate, in microseconds", value="N"),
    Flag("cpu-share", "CPU weight, relative to other containers", value="N"),
    Flag("cpu-rt-period", "real-time period in microseconds", value="N"),
    Flag("cpu-rt-runtime", "real-time CPU time in a period, in microseconds", value="N"),
    Flag("cpuset-cpus", "CPUs to use, such as 0-2,7", value="LIST"),
    Flag("cpuset-mems", "memory nodes to use", value="LIST"),
    Flag("cpu-idle", "1: run only when the CPU is idle; 0: normal", value="N"),
    Flag("kernel-memory", "accepted for compatibility, ignored: Linux has no such limit any more", value="BYTES"),
    Flag("kernel-memory-tcp", "accepted for compatibility, ignored", value="BYTES"),
    Flag("memory", "memory limit, such as 512M; -1 for none", value="BYTES"),
    Flag("memory-reservation", "memory that is not reclaimed, such as 256M", value="BYTES"),
    Flag("memory-swap", "limit of memory and swap together; -1 for none", value="BYTES"),
    Flag("pids-limit", "maximum number of tasks; -1 for no limit", value="N"),
    Flag("device-add", "allow devices, such as 'c 10:200 rwm'", value="RULE", many=True),
    Flag("device-remove", "deny devices, such as 'c 10:200 rwm'", value="RULE", many=True),
    Flag("mask", "mask a path of the container", value="PATH", many=True),
    Flag("readonly-path", "make a path of the container read-only", value="PATH", many=True),
    Flag("rlimit", "limit of all processes, as NOFILE=1024:4096 (soft:hard)", value="LIMIT", many=True),
    Flag("oom-score-adj", "adjustment of the OOM score of all processes, -1000 to 1000", value="N"),
    Flag("io-priority", "I/O priority, as best-effort:4, realtime:0 or idle", value="PRIORITY"),
    Flag("scheduler", "scheduling policy, as SCHED_BATCH, SCHED_OTHER:NICE or SCHED_FIFO:PRIORITY", value="POLICY"),
    Flag("cpu-affinity", "CPUs that all processes run on, as 0-2,7", value="LIST"),
    Flag("l3-cache-schema", "Intel RDT: shares of the L3 cache", value="SCHEMA"),
    Flag("mem-bw-schema", "Intel RDT: shares of memory bandwidth", value="SCHEMA"),
)

INFINITY = 2**64 - 1
_IO_CLASSES = {"realtime": "IOPRIO_CLASS_RT", "best-effort": "IOPRIO_CLASS_BE", "idle": "IOPRIO_CLASS_IDLE"}
_NUMBERS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "pids-limit": ("pids", "limit"),
}
_TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
_SIZES = {
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
}
_MULTIPLES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Change the limits; what is not given stays."""
    id = one_id(words, "update")
    resources, origin = _resources(values)
    update.update(
        settings,
        id,
        resources,
        origin=origin,
        l3_cache_schema=values["l3-cache-schema"],
        mem_bw_schema=values["mem-bw-schema"],
        device_add=values["device-add"],
        device_remove=values["device-remove"],
        process=_process(values),
        readonly_paths=values["readonly-path"],
        masked_paths=values["mask"],
    )
    return 0


def _resources(values: Values) -> tuple[Resources, str]:
    """Return what to change, as of linux.resources, and how to call it in messages."""
    path = values["resources"]
    if path:
        if path == "-":
            return _of(load.parse_object(_read_all(0), "standard input")), "standard input"
        return _of(load.load_given(path)), path
    found: Any = {}
    for flag, (member, name) in (*_NUMBERS.items(), *_TEXTS.items(), *_SIZES.items()):
        if values[flag] != "":
            text = values[flag]
            value = size(text, flag) if flag in _SIZES else number(text, flag) if flag in _NUMBERS else text
            found.setdefault(member, {})[name] = value
    return found, "the command line"


def _process(values: Values) -> Process:
    """Return the attributes of processes to change, as of `process` in config.json. Raises UsageError."""
    found: Process = {}
    if values["rlimit"]:
        found["rlimits"] = [_rlimit(text) for text in values["rlimit"]]
    if values["oom-score-adj"]:
        found["oomScoreAdj"] = number(values["oom-score-adj"], "oom-score-adj")
    if values["io-priority"]:
        name, _, level = values["io-priority"].partition(":")
        if name not in _IO_CLASSES:
            raise UsageError(f"--io-priority: unknown class {name!r}", hint=f"known: {', '.join(_IO_CLASSES)}")
        found["ioPriority"] = {"class": _IO_CLASSES[name], "priority": number(level, "io-priority")}
    if values["scheduler"]:
        policy, _, value = values["scheduler"].partition(":")
        found["scheduler"] = {"policy": policy}
        if value:
            real_time = policy in ("SCHED_FIFO", "SCHED_RR")
            found["scheduler"]["priority" if real_time else "nice"] = number(value, "scheduler")
    if values["cpu-affinity"]:
        found["execCPUAffinity"] = {"initial": values["cpu-affinity"], "final": values["cpu-affinity"]}
    return found


def _rlimit(text: str) -> Rlimit:
    name, equals, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    if not equals or not soft:
        raise UsageError(f"--rlimit: {text!r} is not a limit", hint="write it as NOFILE=1024:4096")
    kind = "RLIMIT_" + name.upper().removeprefix("RLIMIT_")
    return {"type": kind, "soft": _limit(soft), "hard": _limit(hard or soft)}


def _limit(text: str) -> int:
    return INFINITY if text in ("unlimited", "-1") else number(text, "rlimit")


def _of(given: Any) -> Resources:
    """Return the resources of a file; one in the shape of config.json is taken as well, as crun does."""
    linux = given.get("linux")
    if isinstance(linux, dict) and isinstance(linux.get("resources"), dict):
        given = linux["resources"]
    resources: Resources = given
    return resources


def _read_all(fd: int) -> bytes:
    data = b""
    while chunk := posix.read(fd, 65536):
        data += chunk
    return data


def size(text: str, flag: str) -> int:
    """Return a size as people write it: 1048576, 512k, 1.5g, 2GiB, -1 (multiples of 1024). Raises UsageError."""
    word = text.strip().lower()
    if word == "-1":
        return -1
    digits = word.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = word[len(digits) :].strip().removesuffix("b").removesuffix("i")
    try:
        value = float(digits) if "." in digits else int(digits)
        if value < 0:
            raise ValueError
        return int(value * _MULTIPLES[unit])
    except (ValueError, KeyError, OverflowError):  # 1e400.0 is infinite
        raise UsageError(f"--{flag}: {text!r} is not a size", hint="write it as 512M, or -1 for none") from None
