"""Limits of linux.resources that are seen to act, and their values in the files of a v1 or hybrid host."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support import proc
from support.container import Container

TOP = Path("/sys/fs/cgroup")
MIB = 1 << 20
_CONTROLLERS = TOP / "unified/cgroup.controllers"
BESIDE = _CONTROLLERS.read_text().split() if _CONTROLLERS.exists() else []  # of the cgroup2 tree of a hybrid host

pytestmark = pytest.mark.skipif(
    not (TOP / "pids/cgroup.procs").exists(), reason="no v1 hierarchies on this host (v2: `make test-vm`)"
)


def needs(controller: str) -> pytest.MarkDecorator:
    """Skip where the host has no v1 hierarchy of this controller: newer kernels are built without some."""
    there = (TOP / controller / "cgroup.procs").exists()
    return pytest.mark.skipif(not there, reason=f"no v1 {controller} hierarchy on this host")


def cgroup(container: Container, hierarchy: str) -> Path:
    """The container's directory in a hierarchy, from its own config."""
    path = container.config["linux"]["cgroupsPath"]
    return TOP / hierarchy / path.lstrip("/")


def value(container: Container, hierarchy: str, file: str) -> str:
    return (cgroup(container, hierarchy) / file).read_text().strip()


def limited(make: Any, args: list[str], **resources: Any) -> Container:
    container: Container = make(args)
    container.config["linux"]["resources"] = resources
    return container


def test_every_hierarchy_has_the_containers_cgroup(container: Any) -> None:
    one = container(["sleep", "100"])
    one.create()
    places = dict(line.split(":", 2)[1:] for line in proc.read(one.pid, "cgroup").splitlines())
    assert set(places.values()) == {one.config["linux"]["cgroupsPath"]}
    one.delete("--force")
    assert not list(TOP.glob("*" + one.config["linux"]["cgroupsPath"]))


def test_relative_path_is_below_the_runtimes_own_cgroup(container: Any) -> None:
    one = container(["sleep", "100"])
    one.config["linux"]["cgroupsPath"] = one.config["linux"]["cgroupsPath"].lstrip("/")
    one.create()
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    for line in proc.read(one.pid, "cgroup").splitlines():
        _, names, path = line.split(":", 2)
        assert path == own[names].rstrip("/") + "/" + one.config["linux"]["cgroupsPath"]
    one.delete("--force")
    for _, names, path in (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()):
        directory = TOP / (names.removeprefix("name=") or "unified") / path.lstrip("/")
        parent = directory / os.path.dirname(one.config["linux"]["cgroupsPath"])
        if parent.exists():
            parent.rmdir()


@pytest.mark.differs(runc="cleans the path instead")
def test_parent_directory_in_the_path_is_refused(container: Any) -> None:
    one = container(["true"])
    one.config["linux"]["cgroupsPath"] = "/a/../../b"
    assert "cgroupsPath" in one.run(check=1).stderr


@pytest.mark.differs(runc="1.1 only warns")
def test_a_cgroup_that_holds_processes_is_refused_and_left_alone(container: Any) -> None:
    first = container(["sleep", "100"])
    first.create()
    second = container(["sleep", "100"])
    second.config["linux"]["cgroupsPath"] = first.config["linux"]["cgroupsPath"]
    result = second.create(check=1)
    assert "cgroup is not empty" in result.stderr
    assert first.status() == "created"
    assert str(first.pid) in value(first, "pids", "cgroup.procs")
    first.delete("--force")


@needs("freezer")
@pytest.mark.differs(runc="1.1 only warns", crun="waits for ever", sometimes=True)
def test_a_cgroup_that_is_frozen_is_refused_and_left_alone(container: Any) -> None:
    """In it init would never run."""
    one = container(["true"])
    folder = TOP / "freezer" / one.config["linux"]["cgroupsPath"].lstrip("/")
    folder.mkdir(parents=True)
    (folder / "freezer.state").write_text("FROZEN")
    result = one.create(check=1)
    assert "cgroup unexpectedly frozen" in result.stderr
    assert (folder / "freezer.state").read_text().strip() == "FROZEN"
    (folder / "freezer.state").write_text("THAWED")
    folder.rmdir()


@needs("cpu")
def test_cpu_quota_makes_a_loop_slow(container: Any) -> None:
    one = limited(container, ["sh", "-c", "while :; do :; done"], cpu={"quota": 10000, "period": 100000})
    one.create()
    one.start()

    def statistics() -> dict[str, str]:
        return dict(line.split() for line in value(one, "cpu", "cpu.stat").splitlines())

    def used() -> float:
        return int(value(one, "cpuacct", "cpuacct.usage")) / 1e9

    proc.wait_until(lambda: int(statistics()["nr_throttled"]) > 2, "the loop is throttled")
    before, begin = used(), time.monotonic()
    time.sleep(1)
    # A tenth of one CPU; a busy machine gives less.
    assert used() - before < 0.2 * (time.monotonic() - begin)


@needs("memory")
def test_memory_limit_kills_what_takes_more(container: Any) -> None:
    eat = ["sh", "-c", "dd if=/dev/zero of=/dev/shm/eaten bs=1M count=60; echo survived"]
    one = limited(container, eat, memory={"limit": 32 * MIB, "swap": 32 * MIB})
    result = one.run(check=None)
    assert "Killed" in result.stderr or result.code == 137, result


@needs("memory")
@pytest.mark.ours
def test_memory_limit_that_init_cannot_live_in_is_named(container: Any) -> None:
    # What init uses differs between Pythons: from a limit that is certainly too low to the first that it is enough for.
    refused = []
    for limit in (16 << 10, *range(128 << 10, 2 * MIB, 16 << 10)):
        one = limited(container, ["true"], memory={"limit": limit, "swap": limit})
        result = one.run(check=None)
        assert not cgroup(one, "memory").exists()
        if result.code in (0, 128 + 9):  # enough for init, if not for what it became
            break
        assert result.code == 1, str(result)
        assert "/linux/resources/memory" in result.stderr
        named = f"OOM-killed: memory limit {limit >> 10} KiB" in result.stderr
        assert named or "the container uses" in result.stderr
        refused.append(limit)
    assert refused[:1] == [16 << 10] and limit < 2 * MIB - (16 << 10)


@needs("memory")
@pytest.mark.ours
def test_start_names_the_memory_limit_that_the_waiting_init_died_of(container: Any) -> None:
    one = limited(container, ["true"], memory={"limit": 8 * MIB, "swap": 8 * MIB})
    one.config["process"]["oomScoreAdj"] = 1000
    one.create()
    words = "dd if=/dev/zero bs=3M count=1 | sleep 100"  # its buffer is full, and its pipe
    # Several take it, none of them as much as what 1000 stands for: the whole limit.
    eat = f"echo $$ >{cgroup(one, 'memory')}/cgroup.procs; for i in 1 2 3 4; do {words} & done; wait"
    with subprocess.Popen(["sh", "-c", eat], stderr=subprocess.DEVNULL) as eaters:
        proc.wait_until(lambda: one.state()["status"] == "stopped", "init is dead")
        for pid in (cgroup(one, "memory") / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        eaters.wait()
    result = one.start(check=1)
    assert "OOM-killed: memory limit 8 MiB too low" in result.stderr
    assert "/linux/resources/memory/limit" in result.stderr


@needs("memory")
def test_memory_values(container: Any) -> None:
    one = limited(
        container,
        ["sleep", "100"],
        memory={
            "limit": 64 * MIB,
            "swap": 96 * MIB,
            "reservation": 32 * MIB,
            "swappiness": 10,
            "kernelTCP": 16 * MIB,
            "disableOOMKiller": True,
        },
    )
    one.create()
    assert value(one, "memory", "memory.limit_in_bytes") == str(64 * MIB)
    assert value(one, "memory", "memory.memsw.limit_in_bytes") == str(96 * MIB)
    assert value(one, "memory", "memory.soft_limit_in_bytes") == str(32 * MIB)
    assert value(one, "memory", "memory.swappiness") == "10"
    assert "oom_kill_disable 1" in value(one, "memory", "memory.oom_control")
    if one.runtime.is_ours:  # runc leaves kernelTCP out
        assert value(one, "memory", "memory.kmem.tcp.limit_in_bytes") == str(16 * MIB)


def test_pids_limit_stops_a_fork_bomb(container: Any) -> None:
    bomb = ["sh", "-c", "for i in $(seq 50); do sleep 20 & done; echo alive"]
    one = limited(container, bomb, pids={"limit": 10})
    result = one.run(check=None)
    assert "alive" not in result.stdout
    assert "can't fork" in result.stderr


@pytest.mark.parametrize(("limit", "expected"), [(-1, "max"), (-5, "max"), (0, "1")])
@pytest.mark.differs(runc="runc 1.1 leaves it out", crun="crun 1.8.1 writes 0", sometimes=True)
def test_pids_limits_below_one(container: Any, limit: int, expected: str) -> None:
    """0 is 1, as systemd has it: runc 1.5."""
    one = limited(container, ["sleep", "100"], pids={"limit": limit})
    one.create()
    assert value(one, "pids", "pids.max") == expected


@needs("cpuset")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one CPU only: a cpuset could not be seen")
def test_cpuset_is_what_nproc_sees(container: Any) -> None:
    assert limited(container, ["nproc"], cpu={"cpus": "1", "mems": "0"}).run().stdout.strip() == "1"
    assert limited(container, ["nproc"]).run().stdout.strip() == str(os.cpu_count())


@needs("cpu")
def test_cpu_values(container: Any) -> None:
    one = limited(container, ["sleep", "100"], cpu={"shares": 512, "quota": 50000, "period": 200000})
    one.create()
    assert value(one, "cpu", "cpu.shares") == "512"
    assert value(one, "cpu", "cpu.cfs_quota_us") == "50000"
    assert value(one, "cpu", "cpu.cfs_period_us") == "200000"


@needs("cpu")
@pytest.mark.differs(runc="burst and idle came later", crun="sets idle after shares")
def test_cpu_burst_and_idle(container: Any) -> None:
    one = limited(container, ["sleep", "100"], cpu={"quota": 50000, "period": 100000, "burst": 20000, "idle": 1})
    one.create()
    assert value(one, "cpu", "cpu.cfs_burst_us") == "20000"
    assert value(one, "cpu", "cpu.idle") == "1"


@needs("hugetlb")
def test_huge_pages(container: Any) -> None:
    one = limited(container, ["sleep", "100"], hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}])
    one.create()
    assert value(one, "hugetlb", "hugetlb.2MB.limit_in_bytes") == str(4 * MIB)
    if one.runtime.is_ours:
        assert value(one, "hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes") == str(4 * MIB)


@pytest.mark.skipif("hugetlb" not in BESIDE, reason="no cgroup2 tree with hugetlb beside v1 on this host")
@pytest.mark.ours
@pytest.mark.parametrize(
    "resources",
    [{"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}, {"unified": {"hugetlb.2MB.max": str(4 * MIB)}}],
    ids=lambda resources: next(iter(resources)),
)
def test_what_a_hybrid_host_has_in_its_cgroup2_tree_only(container: Any, resources: dict[str, Any]) -> None:
    one = limited(container, ["sleep", "100"], **resources)
    one.create()
    assert value(one, "unified", "hugetlb.2MB.max") == str(4 * MIB)


@needs("net_cls")
def test_network_marks(container: Any) -> None:
    network = {"classID": 1048577, "priorities": [{"name": "lo", "priority": 5}]}
    one = limited(container, ["sleep", "100"], network=network)
    one.create()
    assert value(one, "net_cls", "net_cls.classid") == "1048577"
    assert "lo 5" in value(one, "net_prio", "net_prio.ifpriomap").splitlines()


@needs("rdma")
@pytest.mark.ours
def test_an_rdma_device_that_is_not_there_is_named(container: Any) -> None:
    one = limited(container, ["true"], rdma={"nosuch0": {"hcaHandles": 3}})
    assert "/linux/resources/rdma/nosuch0" in one.run(check=1).stderr


def test_throttled_reads_take_their_time(container: Any) -> None:
    one = container(sh="dd if=/data of=/dev/null bs=64k iflag=direct && cat /proc/uptime")
    data = one.rootfs / "data"
    device = os.stat(one.rootfs).st_dev
    if os.major(device) == 0 or not Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/queue").exists():
        pytest.skip("the bundles are not on a whole disk, whose reads could be throttled")
    data.write_bytes(os.urandom(3 * MIB))
    os.sync()
    place = {"major": os.major(device), "minor": os.minor(device), "rate": MIB}
    one.config["linux"]["resources"] = {"blockIO": {"throttleReadBpsDevice": [place]}}
    one.create()
    number = f"{os.major(device)}:{os.minor(device)}"
    assert value(one, "blkio", "blkio.throttle.read_bps_device") == f"{number} {MIB}"
    begin = time.monotonic()
    one.start()
    counted = 0

    def read() -> int:
        for line in value(one, "blkio", "blkio.throttle.io_service_bytes").splitlines():
            if line.startswith(f"{number} Read"):
                return int(line.split()[2])
        return 0

    while (spent := time.monotonic() - begin) < 1:
        counted = max(counted, read())
        # What is let through at once at the start, and a slice of time, are in the limit's own tolerance.
        assert counted <= MIB * (spent + 0.5)
        time.sleep(0.05)
    assert counted > 0
    assert one.wait() == 0
    assert time.monotonic() - begin > 2


def test_device_is_denied_or_allowed(container: Any) -> None:
    script = "mknod -m 666 /tmp/fuse c 10 229 && (: </tmp/fuse) && echo opened; echo end"
    for allow in (False, True):
        rules = [{"allow": False, "access": "rwm"}]
        if allow:
            rules.append({"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"})
        one = limited(container, ["sh", "-c", script], devices=rules)
        for kind in ("bounding", "effective", "permitted"):
            one.process["capabilities"][kind] = ["CAP_MKNOD"]
        result = one.run()
        assert ("opened" in result.stdout) == allow, result
        assert "end" in result.stdout


def test_device_rules_stand_in_the_order_of_the_config(container: Any) -> None:
    one = limited(
        container,
        ["sleep", "100"],
        devices=[
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
            {"allow": True, "type": "b", "major": 8, "minor": 20, "access": "rw"},
        ],
    )
    one.create()
    lines = value(one, "devices", "devices.list").splitlines()
    assert set(lines) >= {"c 10:229 rwm", "b 8:20 rw", "c 1:3 rwm"}
    if one.runtime.is_ours:
        assert lines[:2] == ["c 10:229 rwm", "b 8:20 rw"]


@needs("cpuset")
@needs("memory")
def test_impossible_limits_name_the_field_and_leave_nothing(container: Any) -> None:
    for resources, pointer in (
        ({"cpu": {"cpus": "4095"}}, "/linux/resources/cpu/cpus"),
        ({"cpu": {"quota": 10}}, "/linux/resources/cpu"),
        ({"memory": {"limit": 64 * MIB, "swap": MIB}}, "/linux/resources/memory/swap"),
    ):
        one = limited(container, ["true"], **resources)
        result = one.run(check=1)
        if one.runtime.is_ours:
            assert pointer in result.stderr
        assert not cgroup(one, "cpu").exists()


@pytest.mark.ours
def test_network_marks_need_their_controllers(container: Any) -> None:
    if (TOP / "net_cls").exists():
        pytest.skip("this host has net_cls")
    one = limited(container, ["true"], network={"classID": 1048577})
    result = one.run(check=1)
    assert "/linux/resources/network" in result.stderr
    assert "net_cls" in result.stderr
