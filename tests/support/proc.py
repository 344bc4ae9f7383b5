"""Read /proc, of this process or of another one, from outside any container."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

# How much slower than usual this machine is; every time-out is multiplied by it. An emulated one sets 15.
SLOW = float(os.environ.get("PYRUNTIME_TEST_SLOW") or 1)


@dataclass(frozen=True)
class Mount:
    """One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)); `optional` holds `shared:N`, `master:N` and
    the like."""

    root: str
    target: str
    options: frozenset[str]
    optional: tuple[str, ...]
    fstype: str
    source: str
    super_options: frozenset[str]


def parse_mountinfo(text: str) -> list[Mount]:
    """All mounts of a mountinfo text, in order."""
    mounts = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        root, target = (word.replace("\\040", " ") for word in fields[3:5])
        options, super_options = frozenset(fields[5].split(",")), frozenset(tail[2].split(","))
        mounts.append(Mount(root, target, options, tuple(fields[6:]), tail[0], tail[1], super_options))
    return mounts


def mount_at(mounts: list[Mount], target: str) -> Mount:
    """The topmost mount at a target; fails when there is none."""
    found = [mount for mount in mounts if mount.target == target]
    assert found, f"nothing is mounted at {target}: {[mount.target for mount in mounts]}"
    return found[-1]


def parse_status(text: str) -> dict[str, str]:
    """/proc/PID/status as a dict of field name to its value with the white space around it removed."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def read(pid: int | str, name: str) -> str:
    """The text of /proc/PID/NAME."""
    with open(f"/proc/{pid}/{name}") as file:
        return file.read()


def process_state(pid: int) -> str:
    """R, S, Z … as the kernel tells it, or "" when there is no such process."""
    try:
        return read(pid, "stat").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def parent(pid: int) -> int:
    """The pid of a process's parent."""
    return int(read(pid, "stat").rpartition(")")[2].split()[1])


def children(pid: int | None = None) -> list[int]:
    """The processes whose parent is `pid` (this process when it is absent), zombies included."""
    wanted = os.getpid() if pid is None else pid
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if parent(int(name)) == wanted:
                    found.append(int(name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def namespace(pid: int | str, kind: str) -> str:
    """The name of a namespace of a process, such as `net:[4026531840]`; `kind` is a name in /proc/PID/ns."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def cgroups(text: str) -> dict[str, str]:
    """/proc/PID/cgroup as a dict of controllers ("" is cgroup2) to the path."""
    return {line.split(":", 2)[1]: line.split(":", 2)[2] for line in text.splitlines()}


def wait_until(condition, what: str, timeout: float = 10.0):
    """Poll until `condition()` is true and return its value; fail with `what` after `timeout` seconds (times SLOW)."""
    timeout *= SLOW
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.01)
