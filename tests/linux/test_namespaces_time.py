"""The time namespace: the clocks that a process of the container sees (time_namespaces(7)).

Source: runtime-spec config-linux.md, "Offset for Time Namespace".
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from support import proc
from support.config import map_ids, set_namespace
from support.refusal import create_refused

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/ns/time"), reason="the kernel has no time namespaces")
LACKS = pytest.mark.differs(runc="1.1.5 has no time namespaces", crun="1.8.1 loses its sync socket on this kernel")
DAY = 86400


def uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def offsets(pid: int) -> dict[str, list[int]]:
    lines = Path(f"/proc/{pid}/timens_offsets").read_text().splitlines()
    return {line.split()[0]: [int(word) for word in line.split()[1:]] for line in lines}


@LACKS
@pytest.mark.parametrize("days", [10, 365])
def test_boottime(container, days):
    """/proc/uptime is the boottime clock of who reads it."""
    box = container(sh="cut -d ' ' -f 1 /proc/uptime")
    set_namespace(box.config, "time")
    box.config["linux"]["timeOffsets"] = {"boottime": {"secs": days * DAY}}
    shown = float(box.run().stdout)
    assert abs(shown - uptime() - days * DAY) < 30


@LACKS
def test_both_clocks_with_nanoseconds(container):
    box = container(["/bin/sleep", "100"])
    set_namespace(box.config, "time")
    box.config["linux"]["timeOffsets"] = {
        "monotonic": {"secs": -1, "nanosecs": 250_000_000},
        "boottime": {"secs": 7, "nanosecs": 5},
    }
    box.create()
    assert offsets(box.pid) == {"monotonic": [-1, 250_000_000], "boottime": [7, 5]}
    assert box.namespace("time") != proc.namespace("self", "time")
    assert box.namespace("time") == box.namespace("time_for_children")
    box.start()
    assert offsets(box.pid) == {"monotonic": [-1, 250_000_000], "boottime": [7, 5]}


@LACKS
def test_without_offsets(container):
    box = container(["/bin/sleep", "100"])
    set_namespace(box.config, "time")
    box.create()
    assert box.namespace("time") != proc.namespace("self", "time")
    assert offsets(box.pid) == {"monotonic": [0, 0], "boottime": [0, 0]}


@LACKS
def test_with_a_user_namespace(container):
    box = container(sh="cut -d ' ' -f 1 /proc/uptime; cat /proc/self/uid_map")
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    set_namespace(box.config, "time")
    box.config["linux"]["timeOffsets"] = {"boottime": {"secs": 10 * DAY}}
    shown, *line = box.run().stdout.split()
    assert abs(float(shown) - uptime() - 10 * DAY) < 30
    assert line == ["0", "200000", "65536"]


@LACKS
def test_exec_is_in_it(container):
    box = container(["/bin/sleep", "100"])
    set_namespace(box.config, "time")
    box.config["linux"]["timeOffsets"] = {"boottime": {"secs": 10 * DAY}}
    box.create()
    box.start()
    result = box.runtime.run("exec", box.id, "/bin/cut", "-d", " ", "-f", "1", "/proc/uptime")
    assert abs(float(result.stdout) - uptime() - 10 * DAY) < 30


@LACKS
def test_joined_by_path(container):
    """Its clocks are as who made it set them."""
    command = ["unshare", "--time", "--boottime", str(5 * DAY), "--fork", "sh", "-c", "echo; exec sleep 1000"]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        pid = proc.children(holder.pid)[0]
        box = container(sh="cut -d ' ' -f 1 /proc/uptime; readlink /proc/self/ns/time")
        set_namespace(box.config, "time", f"/proc/{pid}/ns/time")
        shown, name = box.run().stdout.split()
        assert abs(float(shown) - uptime() - 5 * DAY) < 30
        assert name == proc.namespace(pid, "time")
    finally:
        for pid in proc.children(holder.pid):
            os.kill(pid, 9)
        holder.wait()
        holder.stdout.close()


def test_the_hosts_clocks_stay(container):
    before = offsets(os.getpid())
    box = container(["/bin/true"])
    set_namespace(box.config, "time")
    box.config["linux"]["timeOffsets"] = {"boottime": {"secs": 10 * DAY}}
    box.run(check=None)
    assert offsets(os.getpid()) == before


@pytest.mark.ours
@pytest.mark.parametrize(
    "given, words",
    [
        ({"realtime": {"secs": 1}}, ("/linux/timeOffsets/realtime", "not a clock of a time namespace")),
        ({"boottime": {"nanosecs": 10**9}}, ("/linux/timeOffsets/boottime/nanosecs", "less than a second")),
        ({"boottime": {"secs": -(10**9)}}, ("/linux/namespaces", "time namespace")),
    ],
)
def test_refused(container, given, words):
    box = container()
    set_namespace(box.config, "time")
    box.config["linux"]["timeOffsets"] = given
    create_refused(box, *words)


@pytest.mark.ours
def test_offsets_without_a_time_namespace_are_refused(container):
    box = container()
    box.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1}}
    create_refused(box, "/linux/timeOffsets", "no new time namespace")
