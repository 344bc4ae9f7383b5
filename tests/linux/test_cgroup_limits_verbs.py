"""The commands about cgroups: update, pause, resume, ps, events, and kill --all."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from support import config as configs
from support import proc
from support.container import Container

TOP = Path("/sys/fs/cgroup")
MIB = 1 << 20
COUNT = "while :; do printf . >> /count; done"

pytestmark = pytest.mark.skipif(
    not (TOP / "pids/cgroup.procs").exists(), reason="no v1 hierarchies on this host (v2: `make test-vm`)"
)


def needs(controller: str) -> pytest.MarkDecorator:
    """Skip where the host has no v1 hierarchy of this controller: newer kernels are built without some."""
    there = (TOP / controller / "cgroup.procs").exists()
    return pytest.mark.skipif(not there, reason=f"no v1 {controller} hierarchy on this host")


def value(container: Container, hierarchy: str, file: str) -> str:
    return (TOP / hierarchy / container.config["linux"]["cgroupsPath"].lstrip("/") / file).read_text().strip()


def started(make: Any, args: list[str] | None = None, **resources: Any) -> Container:
    one: Container = make(args or ["sleep", "100"])
    if resources:
        one.config["linux"]["resources"] = resources
    one.create()
    one.start()
    return one


def count(one: Container) -> int:
    path = one.rootfs / "count"
    proc.wait_until(path.exists, "the counter counts")
    return path.stat().st_size


def test_pause_stops_a_counter_and_resume_lets_it_go_on(container: Any) -> None:
    one = started(container, ["sh", "-c", COUNT])
    count(one)
    one.runtime.run("pause", one.id)
    assert one.status() == "paused"
    stopped = count(one)
    time.sleep(0.2)
    assert count(one) == stopped
    one.runtime.run("resume", one.id)
    assert one.status() == "running"
    proc.wait_until(lambda: count(one) != stopped, "the counter goes on")


def test_paused_container_dies_of_sigkill(container: Any) -> None:
    one = started(container, ["sh", "-c", COUNT])
    one.runtime.run("pause", one.id)
    one.kill("KILL")
    assert one.wait() == 137
    one.delete()


def test_paused_container_is_deleted_by_force(container: Any) -> None:
    one = started(container)
    one.runtime.run("pause", one.id)
    one.delete("--force")
    assert one.runtime.run("state", one.id, check=1)


@pytest.mark.differs(runc="runc 1.1 pauses again without a word", crun="crun pauses again without a word")
def test_pause_and_resume_in_the_wrong_state(container: Any) -> None:
    one = started(container)
    assert "not paused" in one.runtime.run("resume", one.id, check=1).stderr
    one.runtime.run("pause", one.id)
    assert "not running or created" in one.runtime.run("pause", one.id, check=1).stderr
    one.runtime.run("resume", one.id)


def test_ps(container: Any) -> None:
    one = started(container, ["sh", "-c", "sleep 100 & wait"])
    proc.wait_until(
        lambda: len(json.loads(one.runtime.run("ps", "--format", "json", one.id).stdout)) == 2, "both processes run"
    )
    pids = json.loads(one.runtime.run("ps", "--format=json", one.id).stdout)
    assert one.pid in pids
    header, *lines = one.runtime.run("ps", one.id).stdout.splitlines()
    assert "PID" in header
    assert {int(line.split()[1]) for line in lines} == set(pids)
    if one.runtime.kind != "crun":
        shown = one.runtime.run("ps", one.id, "-eo", "pid,comm").stdout.split()
        assert shown[:2] == ["PID", "COMMAND"]
        assert str(one.pid) in shown


def test_kill_all_reaches_what_outlives_init(container: Any) -> None:
    one = container(["sh", "-c", "sleep 1000 & exit 3"])
    configs.drop_namespace(one.config, "pid")
    one.create()
    one.start()
    assert one.wait() == 3
    left = [int(word) for word in value(one, "pids", "cgroup.procs").split()]
    assert left
    one.runtime.run("kill", "--all", one.id, "9", check=None)
    proc.wait_until(lambda: all(not os.path.exists(f"/proc/{pid}") or _is_zombie(pid) for pid in left), "it dies")
    for pid in left:
        _reap(pid)
    one.delete()


def test_delete_ends_what_outlives_init(container: Any) -> None:
    one = container(["sh", "-c", "sleep 1000 & sleep 1000 & exit 0"])
    configs.drop_namespace(one.config, "pid")
    one.create()
    one.start()
    one.wait()
    left = [int(word) for word in value(one, "pids", "cgroup.procs").split()]
    one.delete("--force")
    assert not (TOP / "pids" / one.config["linux"]["cgroupsPath"].lstrip("/")).exists()
    for pid in left:
        _reap(pid)


def _is_zombie(pid: int) -> bool:
    return proc.read(pid, "stat").rpartition(")")[2].split()[0] == "Z"


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


@needs("cpuset")
@needs("memory")
@pytest.mark.differs(crun="crun has no events")
def test_events_stats(container: Any) -> None:
    one = started(container, memory={"limit": 64 * MIB}, pids={"limit": 33})
    event = json.loads(one.runtime.run("events", "--stats", one.id).stdout)
    assert (event["type"], event["id"]) == ("stats", one.id)
    data = event["data"]
    assert data["memory"]["usage"]["limit"] == 64 * MIB
    assert data["memory"]["usage"]["usage"] > 0
    assert data["memory"]["raw"]["pgfault"] > 0
    assert data["pids"] == {"current": 1, "limit": 33}
    assert data["cpu"]["usage"]["total"] > 0
    assert len(data["cpu"]["usage"]["percpu"]) == os.cpu_count()
    assert data["cpuset"]["cpus"] == list(range(os.cpu_count() or 1))
    assert {"blkio", "hugetlb", "intel_rdt", "network_interfaces"} <= set(data)


@needs("memory")
@pytest.mark.differs(crun="crun has no events")
def test_events_tell_of_a_kill_for_want_of_memory(container: Any) -> None:
    hungry = "while [ ! -e /go ]; do sleep 0.05; done; dd if=/dev/zero of=/dev/shm/eaten bs=1M count=60; sleep 100"
    one = started(container, ["sh", "-c", hungry], memory={"limit": 32 * MIB, "swap": 32 * MIB})
    events = one.runtime.spawn("events", "--interval", "200ms", one.id)
    proc.wait_until(lambda: '"stats"' in events.stdout, "the first statistics")
    (one.rootfs / "go").touch()
    proc.wait_until(lambda: '"oom"' in events.stdout, "the event")
    one.kill("KILL")
    one.wait()
    assert events.wait().code == 0
    kinds = [json.loads(line)["type"] for line in events.stdout.splitlines()]
    assert set(kinds) == {"stats", "oom"}


@needs("memory")
@pytest.mark.ours
def test_events_tell_of_memory_pressure(container: Any) -> None:
    """Cached pages that must be taken back all the time are pressure, and no reason to kill."""
    busy = "while [ ! -e /go ]; do sleep 0.05; done; while :; do dd if=/dev/zero of=/file bs=1M count=100; done 2>&-"
    one = started(container, ["sh", "-c", busy], memory={"limit": 16 * MIB})
    events = one.runtime.spawn("events", "--interval", "200ms", "--pressure", "low", one.id)
    proc.wait_until(lambda: '"stats"' in events.stdout, "the first statistics")
    assert '"pressure"' not in events.stdout
    (one.rootfs / "go").touch()
    proc.wait_until(lambda: '"pressure"' in events.stdout, "the event")
    one.kill("KILL")
    one.wait()
    assert events.wait().code == 0
    found = [json.loads(line) for line in events.stdout.splitlines()]
    assert {"type": "pressure", "id": one.id, "data": {"level": "low"}} in found
    result = one.runtime.run("events", "--pressure", "odd", one.id, check=1)
    assert "low, medium, critical" in result.stderr


@needs("cpu")
@needs("cpuset")
@needs("memory")
def test_update_by_flags(container: Any) -> None:
    one = started(container, memory={"limit": 64 * MIB, "swap": 64 * MIB}, cpu={"quota": 50000, "period": 100000})
    flags = ["--memory", "96M", "--memory-swap", "128M", "--memory-reservation", "32M", "--pids-limit", "20"]
    flags += ["--cpu-quota", "30000", "--cpu-period", "60000", "--cpu-share", "512"]
    flags += ["--cpuset-cpus", "0", "--cpuset-mems", "0"]
    one.runtime.run("update", *flags, one.id)
    assert value(one, "memory", "memory.limit_in_bytes") == str(96 * MIB)
    assert value(one, "memory", "memory.memsw.limit_in_bytes") == str(128 * MIB)
    assert value(one, "memory", "memory.soft_limit_in_bytes") == str(32 * MIB)
    assert value(one, "pids", "pids.max") == "20"
    assert value(one, "cpu", "cpu.cfs_quota_us") == "30000"
    assert value(one, "cpu", "cpu.cfs_period_us") == "60000"
    assert value(one, "cpu", "cpu.shares") == "512"
    assert value(one, "cpuset", "cpuset.cpus") == "0"
    one.runtime.run("update", "--memory", "32M", "--memory-swap", "48M", "--pids-limit", "-1", one.id)
    assert value(one, "memory", "memory.limit_in_bytes") == str(32 * MIB)
    assert value(one, "memory", "memory.memsw.limit_in_bytes") == str(48 * MIB)
    assert value(one, "pids", "pids.max") == "max"
    assert value(one, "cpu", "cpu.cfs_quota_us") == "30000"


@needs("memory")
@pytest.mark.parametrize("how", ["flag", "resources"])
@pytest.mark.differs(crun="crun 1.8.1 leaves the swap limit", sometimes=True)
def test_no_memory_limit_is_no_swap_limit_either(container: Any, how: str) -> None:
    one = started(container, memory={"limit": 64 * MIB, "swap": 96 * MIB})
    if how == "flag":
        one.runtime.run("update", "--memory", "-1", one.id)
    else:
        text = json.dumps({"memory": {"limit": -1, "swap": 0}})
        one.runtime.run("update", "--resources", "-", one.id, stdin=text)
    for file in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        assert int(value(one, "memory", file)) > 1 << 60, file


@needs("cpuset")
@needs("memory")
def test_update_from_standard_input_as_containerd_sends_it(container: Any) -> None:
    one = started(container, memory={"limit": 64 * MIB})
    sent = {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 48 * MIB, "reservation": 0, "swap": 0},
        "cpu": {"shares": 0, "quota": 20000, "period": 100000, "cpus": "", "mems": ""},
        "blockIO": {"weight": 0},
    }
    one.runtime.run("update", "--resources", "-", one.id, stdin=json.dumps(sent))
    assert value(one, "memory", "memory.limit_in_bytes") == str(48 * MIB)
    assert value(one, "cpu", "cpu.cfs_quota_us") == "20000"
    assert value(one, "cpu", "cpu.shares") == "1024"
    assert one.status() == "running"


@needs("cpu")
@needs("cpuset")
@needs("memory")
@pytest.mark.differs(runc="leaves what it could set", crun="leaves what it could set", sometimes=True)
def test_failed_update_leaves_the_old_limits(container: Any) -> None:
    one = started(container, memory={"limit": 64 * MIB}, cpu={"shares": 700}, pids={"limit": 30})
    sent = {"memory": {"limit": 32 * MIB}, "pids": {"limit": 7}, "cpu": {"shares": 300, "cpus": "4095"}}
    result = one.runtime.run("update", "--resources=-", one.id, stdin=json.dumps(sent), check=1)
    assert "cpus" in result.stderr
    sent = {"cpu": {"shares": 300}, "memory": {"limit": 32 * MIB}, "pids": {"limit": 1 << 40}}
    one.runtime.run("update", "--resources=-", one.id, stdin=json.dumps(sent), check=1)
    assert value(one, "memory", "memory.limit_in_bytes") == str(64 * MIB)
    assert value(one, "cpu", "cpu.shares") == "700"
    assert value(one, "pids", "pids.max") == "30"


@pytest.mark.ours
def test_update_of_device_rules(container: Any) -> None:
    one = started(container)
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}]
    one.runtime.run("update", "--resources", "-", one.id, stdin=json.dumps({"devices": rules}))
    assert "c 10:229 r" in value(one, "devices", "devices.list").splitlines()
    one.runtime.run("update", "--resources", "-", one.id, stdin=json.dumps({"devices": rules[:1]}))
    assert "c 10:229 r" not in value(one, "devices", "devices.list").splitlines()
    assert one.status() == "running"


@needs("memory")
@pytest.mark.ours
def test_bad_updates(container: Any) -> None:
    one = started(container)
    for args, stdin, words in (
        (["--memory", "much"], None, "--memory"),
        (["--cpu-quota", "x"], None, "--cpu-quota"),
        (["--resources", "-"], "{", "standard input"),
        (["--resources", "-"], '{"memory": {"limit": "1"}}', "/memory/limit"),
        (["--resources", "/nonexistent"], None, "/nonexistent"),
    ):
        result = one.runtime.run("update", *args, one.id, stdin=stdin, check=1)
        assert words in result.stderr, result
    one.kill("KILL")
    one.wait()
    assert "not running" in one.runtime.run("update", "--pids-limit", "5", one.id, check=1).stderr
