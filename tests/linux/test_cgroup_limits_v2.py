"""Limits and commands on a pure cgroup v2 host: values in its files, and limits that are seen to act."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from support import config as configs
from support import proc
from support.container import Container

TOP = Path("/sys/fs/cgroup")
MIB = 1 << 20
SLOW = 60.0  # seconds: the test VM is 10 to 20 times slower

pytestmark = pytest.mark.skipif(
    not (TOP / "cgroup.controllers").exists(), reason="this host is not pure cgroup v2 (`make test-vm` has one)"
)


def cgroup(one: Container) -> Path:
    return TOP / one.config["linux"]["cgroupsPath"].lstrip("/")


def value(one: Container, file: str) -> str:
    return (cgroup(one) / file).read_text().strip()


def created(make: Any, args: list[str] | None = None, **resources: Any) -> Container:
    one: Container = make(args or ["sleep", "1000"])
    one.config["linux"]["resources"] = resources
    one.create()
    return one


def test_init_is_born_into_its_cgroup(container: Any) -> None:
    one = created(container)
    assert proc.read(one.pid, "cgroup").strip() == "0::" + one.config["linux"]["cgroupsPath"]
    assert {"cpu", "memory", "pids"} <= set(value(one, "cgroup.controllers").split())
    one.delete("--force")
    assert not cgroup(one).exists()


def test_values(container: Any) -> None:
    one = created(
        container,
        memory={"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB},
        cpu={"shares": 2048, "quota": 50000, "period": 200000, "burst": 10000, "cpus": "0", "mems": "0"},
        pids={"limit": 50},
        hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}],
        unified={"memory.high": str(48 * MIB)},
    )
    assert value(one, "memory.max") == str(64 * MIB)
    assert value(one, "memory.swap.max") == str(32 * MIB)
    assert value(one, "memory.low") == str(32 * MIB)
    assert value(one, "memory.high") == str(48 * MIB)
    assert value(one, "cpu.weight") == "174"
    assert value(one, "cpu.max") == "50000 200000"
    assert value(one, "cpu.max.burst") == "10000"
    assert value(one, "cpuset.cpus") == "0"
    assert value(one, "cpuset.mems") == "0"
    assert value(one, "pids.max") == "50"
    assert value(one, "hugetlb.2MB.max") == str(4 * MIB)
    assert value(one, "hugetlb.2MB.rsvd.max") == str(4 * MIB)


def test_no_limit(container: Any) -> None:
    one = created(container, memory={"limit": -1, "swap": -1}, cpu={"quota": -1}, pids={"limit": -1})
    assert value(one, "memory.max") == "max"
    assert value(one, "memory.swap.max") == "max"
    assert value(one, "cpu.max").split()[0] == "max"
    assert value(one, "pids.max") == "max"


def test_no_memory_limit_is_no_swap_limit_either(container: Any) -> None:
    one = created(container, memory={"limit": 64 * MIB, "swap": 96 * MIB}, pids={"limit": 0})
    assert value(one, "pids.max") == "1"
    one.runtime.run("update", "--memory", "-1", one.id, timeout=SLOW)
    assert (value(one, "memory.max"), value(one, "memory.swap.max")) == ("max", "max")


def test_idle(container: Any) -> None:
    one = created(container, cpu={"idle": 1, "shares": 512})
    assert value(one, "cpu.idle") == "1"


def block_device() -> str:
    """A whole disk of this host as MAJOR:MINOR, "" for none."""
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "ram", "zram")):
            return Path(f"/sys/block/{name}/dev").read_text().strip()
    return ""


def test_io(container: Any) -> None:
    device = block_device()
    if not device:
        pytest.skip("no block device on this host")
    major, minor = (int(number) for number in device.split(":"))
    place = {"major": major, "minor": minor}
    one = created(
        container,
        blockIO={
            "throttleReadBpsDevice": [{**place, "rate": MIB}],
            "throttleWriteBpsDevice": [{**place, "rate": 2 * MIB}],
            "throttleReadIOPSDevice": [{**place, "rate": 100}],
            "throttleWriteIOPSDevice": [{**place, "rate": 200}],
        },
    )
    assert value(one, "io.max") == f"{device} rbps={MIB} wbps={2 * MIB} riops=100 wiops=200"


def test_cpu_quota_makes_a_loop_slow(container: Any) -> None:
    one = created(container, ["sh", "-c", "while :; do :; done"], cpu={"quota": 10000, "period": 100000})
    one.start()

    def statistics() -> dict[str, str]:
        return dict(line.split() for line in value(one, "cpu.stat").splitlines())

    def used() -> float:
        return int(statistics()["usage_usec"]) / 1e6

    proc.wait_until(lambda: int(statistics()["nr_throttled"]) > 2, "the loop is throttled")
    before, begin = used(), time.monotonic()
    time.sleep(1)
    # A tenth of one CPU; a busy machine gives less.
    assert used() - before < 0.2 * (time.monotonic() - begin)


def test_memory_limit_kills_and_is_told(container: Any) -> None:
    eat = ["sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done; dd if=/dev/zero of=/dev/shm/x bs=1M count=60; sleep 99"]
    one = created(container, eat, memory={"limit": 24 * MIB, "swap": 24 * MIB})
    one.start()
    events = one.runtime.spawn("events", "--interval", "1s", one.id)
    proc.wait_until(lambda: '"stats"' in events.stdout, "the first statistics", SLOW)
    (one.rootfs / "go").touch()
    proc.wait_until(lambda: '"oom"' in events.stdout, "the event", SLOW)
    one.kill("KILL")
    one.wait(SLOW)
    assert events.wait(SLOW).code == 0


def test_pids_limit_stops_a_fork_bomb(container: Any) -> None:
    one = container(["sh", "-c", "for i in $(seq 50); do sleep 20 & done; echo alive"])
    one.config["linux"]["resources"] = {"pids": {"limit": 10}}
    result = one.run(check=None, timeout=SLOW)
    assert "alive" not in result.stdout
    assert "can't fork" in result.stderr


def test_cpuset_is_what_nproc_sees(container: Any) -> None:
    one = container(["nproc"])
    one.config["linux"]["resources"] = {"cpu": {"cpus": "0"}}
    assert one.run(timeout=SLOW).stdout.strip() == "1"


def test_device_is_denied_or_allowed_by_the_program(container: Any) -> None:
    script = "mknod -m 666 /tmp/fuse c 10 229 && (: </tmp/fuse) && echo opened; (: >/dev/null) && echo null"
    for allow in (False, True):
        rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
        if allow:
            rules.append({"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"})
        one = container(["sh", "-c", script])
        one.config["linux"]["resources"] = {"devices": rules}
        for kind in ("bounding", "effective", "permitted"):
            one.process["capabilities"][kind] = ["CAP_MKNOD"]
        result = one.run(timeout=SLOW)
        # Without its driver the node cannot be opened either way; a refusal has another error.
        assert ("Operation not permitted" in result.stderr) == (not allow), result
        assert "null" in result.stdout


def test_update_replaces_limits_and_device_rules(container: Any) -> None:
    one = created(container, memory={"limit": 64 * MIB, "swap": 96 * MIB}, cpu={"quota": 50000, "period": 100000})
    one.start()
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}]
    sent = {"memory": {"limit": 48 * MIB}, "cpu": {"quota": 20000}, "devices": rules, "pids": {"limit": 9}}
    one.runtime.run("update", "--resources", "-", one.id, stdin=json.dumps(sent), timeout=SLOW)
    assert value(one, "memory.max") == str(48 * MIB)
    assert value(one, "memory.swap.max") == str(48 * MIB)
    assert value(one, "cpu.max") == "20000 100000"
    assert value(one, "pids.max") == "9"
    one.runtime.run("update", "--pids-limit", "7", "--cpuset-cpus", "999", one.id, check=1, timeout=SLOW)
    assert value(one, "pids.max") == "9"
    result = one.runtime.run(
        "update",
        "--resources",
        "-",
        one.id,
        stdin=json.dumps({"memory": {"limit": 4096, "checkBeforeUpdate": True}}),
        check=1,
        timeout=SLOW,
    )
    assert "rejecting memory limit" in result.stderr
    assert one.status() == "running"


def test_pause_and_resume(container: Any) -> None:
    one = created(container, ["sh", "-c", "while :; do printf . >> /count; done"])
    one.start()
    count = one.rootfs / "count"
    proc.wait_until(count.exists, "the counter counts", SLOW)
    one.runtime.run("pause", one.id, timeout=SLOW)
    assert one.status() == "paused"
    stopped = count.stat().st_size
    time.sleep(0.5)
    assert count.stat().st_size == stopped
    one.runtime.run("resume", one.id, timeout=SLOW)
    proc.wait_until(lambda: count.stat().st_size > stopped, "the counter goes on", SLOW)
    one.runtime.run("pause", one.id, timeout=SLOW)
    one.kill("KILL")
    assert one.wait(SLOW) == 137


def test_ps_and_stats(container: Any) -> None:
    one = created(container, pids={"limit": 20}, memory={"limit": 64 * MIB})
    one.start()
    assert json.loads(one.runtime.run("ps", "-f", "json", one.id, timeout=SLOW).stdout) == [one.pid]
    data = json.loads(one.runtime.run("events", "--stats", one.id, timeout=SLOW).stdout)["data"]
    assert data["pids"] == {"current": 1, "limit": 20}
    assert data["memory"]["usage"]["limit"] == 64 * MIB
    assert data["cpu"]["usage"]["total"] > 0
    assert data["cpuset"]["cpus"]


def test_container_sees_its_own_cgroup(container: Any) -> None:
    for own in (False, True):
        one: Container = container(["sleep", "1000"])
        if own:
            configs.set_namespace(one.config, "cgroup")
        configs.add_mount(one.config, "/sys/fs/cgroup", "cgroup", "cgroup", ["ro"])
        one.create()
        one.start()
        directory = one.root / "sys/fs/cgroup"
        assert str(one.pid) in (directory / "cgroup.procs").read_text().split()
        mount = next(mount for mount in one.mounts() if mount.target == "/sys/fs/cgroup")
        assert mount.fstype == "cgroup2"
        assert {"ro", "nosuid", "noexec", "nodev"} <= set(mount.options)


def test_a_cgroup_above_that_holds_processes_is_named(container: Any) -> None:
    outer = created(container)
    inner = container(["true"])
    inner.config["linux"]["cgroupsPath"] = outer.config["linux"]["cgroupsPath"] + "/inner"
    inner.config["linux"]["resources"] = {"pids": {"limit": 5}}
    result = inner.run(check=1, timeout=SLOW)
    assert "holds processes" in result.stderr
    assert str(outer.pid) in result.stderr
    assert not cgroup(inner).exists()
    assert outer.status() == "created"


def test_a_cgroup_in_use_is_refused(container: Any) -> None:
    outer = created(container)
    other = container(["true"])
    other.config["linux"]["cgroupsPath"] = outer.config["linux"]["cgroupsPath"]
    assert "cgroup is not empty" in other.run(check=1, timeout=SLOW).stderr
    assert outer.status() == "created"


def test_v1_only_fields_are_warned_of(container: Any) -> None:
    one = container(["true"])
    place = {"major": 8, "minor": 0}
    one.config["linux"]["resources"] = {
        "memory": {"swappiness": 0, "disableOOMKiller": True, "kernelTCP": MIB, "kernel": MIB, "useHierarchy": True},
        "cpu": {"realtimeRuntime": 1000, "realtimePeriod": 1000000},
        "blockIO": {"leafWeight": 100, "weightDevice": [{**place, "leafWeight": 100}]},
    }
    said = one.run(timeout=SLOW).stderr
    fields = ["memory/swappiness", "memory/disableOOMKiller", "memory/kernelTCP", "memory/kernel"]
    fields += ["cpu/realtimeRuntime", "cpu/realtimePeriod", "blockIO/leafWeight", "blockIO/weightDevice/0"]
    for field in fields:
        assert re.search(rf"/linux/resources/{field}\S* is ignored", said), (field, said)
    assert "useHierarchy" not in said  # it is always so


@pytest.mark.parametrize("field", ["weight", "weightDevice/0/weight"])
def test_weight_is_in_force_or_refused(container: Any, field: str) -> None:
    """Which file there is depends on the kernel (io.weight: CONFIG_BLK_CGROUP_IOCOST) and its modules (BFQ)."""
    device = block_device()
    if not device:
        pytest.skip("no block device on this host")
    major, minor = (int(number) for number in device.split(":"))
    place = {"major": major, "minor": minor, "weight": 505}
    one = container(["sleep", "1000"])
    one.config["linux"]["resources"] = {"blockIO": {"weight": 505} if field == "weight" else {"weightDevice": [place]}}
    result = one.create(check=None)
    if result.code:
        assert f"/linux/resources/blockIO/{field}" in result.stderr
        assert not cgroup(one).exists()
        return
    files = {"io.bfq.weight": "505", "io.weight": "5000"}
    written = [(cgroup(one) / file).read_text() for file in files if (cgroup(one) / file).exists()]
    whom = "default" if field == "weight" else device
    assert any(f"{whom} {number}" in text for text in written for number in files.values()), written


@pytest.mark.parametrize(
    "resources, pointer",
    [
        ({"network": {"classID": 1048577}}, "/linux/resources/network"),
        ({"network": {"priorities": [{"name": "lo", "priority": 5}]}}, "/linux/resources/network"),
        ({"rdma": {"nosuch0": {"hcaHandles": 3}}}, "/linux/resources/rdma"),
        ({"unified": {"nosuch.max": "5"}}, "/linux/resources/unified/nosuch.max"),
        ({"hugepageLimits": [{"pageSize": "3MB", "limit": 3 * MIB}]}, "/linux/resources/hugepageLimits/0"),
    ],
    ids=["classID", "priorities", "rdma", "unified", "hugepages"],
)
def test_what_is_not_there_is_refused(container: Any, resources: dict[str, Any], pointer: str) -> None:
    one = container(["true"])
    one.config["linux"]["resources"] = resources
    assert pointer in one.run(check=1, timeout=SLOW).stderr
    assert not cgroup(one).exists()


@pytest.mark.skipif(not os.path.exists("/proc/pressure/memory"), reason="this kernel does not count pressure")
def test_memory_pressure_is_told(container: Any) -> None:
    busy = "while [ ! -e /go ]; do sleep 0.1; done; while :; do dd if=/dev/zero of=/file bs=1M count=60; done 2>&-"
    one = created(container, ["sh", "-c", busy], memory={"limit": 12 * MIB})
    one.start()
    events = one.runtime.spawn("events", "--interval", "1s", "--pressure", "low", one.id)
    proc.wait_until(lambda: '"stats"' in events.stdout, "the first statistics", SLOW)
    (one.rootfs / "go").touch()
    proc.wait_until(lambda: '"pressure"' in events.stdout, "the event", SLOW)
    one.kill("KILL")
    one.wait(SLOW)
    assert events.wait(SLOW).code == 0


@pytest.mark.parametrize("words", [("kill", "--all"), ("delete", "--force")], ids=" ".join)
def test_what_outlives_init_dies(container: Any, words: tuple[str, ...]) -> None:
    one: Container = container(["sh", "-c", "sleep 1000 & sleep 1000 & exit 3"])
    configs.drop_namespace(one.config, "pid")
    one.create()
    one.start()
    assert one.wait(SLOW) == 3
    left = [int(word) for word in value(one, "cgroup.procs").split()]
    assert left
    one.runtime.run(*words, one.id, *(["KILL"] if words[0] == "kill" else []), timeout=SLOW)
    for pid in left:
        proc.wait_until(lambda pid=pid: proc.process_state(pid) in ("", "Z"), "it dies", SLOW)
        os.waitpid(pid, 0)
    one.delete("--force", timeout=SLOW)
    assert not cgroup(one).exists()


def test_failed_update_leaves_the_old_limits(container: Any) -> None:
    one = created(container, memory={"limit": 64 * MIB}, pids={"limit": 30}, cpu={"shares": 700})
    before = [value(one, file) for file in ("memory.max", "pids.max", "cpu.weight")]
    sent = {"memory": {"limit": 32 * MIB}, "pids": {"limit": 7}, "cpu": {"shares": 300, "cpus": "4095"}}
    result = one.runtime.run("update", "--resources=-", one.id, stdin=json.dumps(sent), check=1, timeout=SLOW)
    assert "cpus" in result.stderr
    assert [value(one, file) for file in ("memory.max", "pids.max", "cpu.weight")] == before


@pytest.mark.skipif(not (Path("/sys/kernel/mm/hugepages/hugepages-2048kB")).exists(), reason="no huge pages of 2 MiB")
def test_huge_pages(container: Any) -> None:
    one = created(container, hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}])
    assert value(one, "hugetlb.2MB.max") == str(4 * MIB)
    data = json.loads(one.runtime.run("events", "--stats", one.id, timeout=SLOW).stdout)["data"]
    assert data["hugetlb"]["2MB"] == {"usage": 0, "failcnt": 0}


def test_device_programs_of_others_stay(container: Any) -> None:
    """An update takes the place of our own program only."""
    from pyruntime.features.cgroups import device_program
    from pyruntime.kernel import bpf

    one = created(container)
    directory = os.open(cgroup(one), os.O_RDONLY)
    program = bpf.load_device_program(device_program.assemble(["allow a"]), "somebody_elses")
    try:
        bpf.attach_device_program(directory, program, None)
        for rules in ([{"allow": False, "access": "rwm"}], [{"allow": True, "access": "r"}]):
            one.runtime.run("update", "--resources", "-", one.id, stdin=json.dumps({"devices": rules}), timeout=SLOW)
            for name in ("somebody_elses", "pyruntime_dev"):
                found = bpf.find_device_program(directory, name)
                assert found is not None, name
                os.close(found)
    finally:
        os.close(program)
        os.close(directory)
