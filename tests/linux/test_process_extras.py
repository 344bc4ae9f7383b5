"""Scheduling, I/O priority, memory policy, affinity, limits, personality, and the labels of security modules.

Source: runtime-spec config.md, "POSIX process", "Linux Process"; config-linux.md, "Personality", "Memory policy",
"IntelRdt".
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import config, kernel, proc, refusal

NUMA = Path("/proc/self/numa_maps").exists()
RESCTRL = "resctrl" in Path("/proc/filesystems").read_text()
SELINUX = "selinuxfs" in Path("/proc/filesystems").read_text()
_APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
APPARMOR = _APPARMOR.exists() and _APPARMOR.read_text().strip() == "Y"
SYS_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}
SYS_RESOURCE = 24


def running(made) -> int:
    """Create and start a container that sleeps; its pid once the program runs."""
    made.create()
    made.start()
    proc.wait_until(lambda: "sleep" in made.proc("cmdline"), "the process runs")
    return made.pid


@pytest.fixture
def sleeper(container):
    return container(["/bin/sleep", "100"])


@pytest.mark.parametrize(
    ("given", "policy", "nice", "priority"),
    [
        ({"policy": "SCHED_OTHER", "nice": 5}, os.SCHED_OTHER, 5, 0),
        ({"policy": "SCHED_BATCH", "nice": -3}, os.SCHED_BATCH, -3, 0),
        # A policy without nice values leaves the one that was inherited.
        ({"policy": "SCHED_IDLE"}, os.SCHED_IDLE, None, 0),
        ({"policy": "SCHED_FIFO", "priority": 7}, os.SCHED_FIFO, None, 7),
        ({"policy": "SCHED_RR", "priority": 9}, os.SCHED_RR, None, 9),
    ],
)
@pytest.mark.differs(runc="1.1 ignores it", crun="1.8 ignores it")
def test_scheduler(sleeper, given: dict, policy: int, nice: int | None, priority: int) -> None:
    sleeper.process["scheduler"] = given
    if priority:
        # On cgroup v1 a new group has no real time to give (CONFIG_RT_GROUP_SCHED); its parent's group has
        # none either, so this one is at the top.
        sleeper.config["linux"]["cgroupsPath"] = f"/{sleeper.id}"
        sleeper.config["linux"]["resources"] = {"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 1000000}}
    pid = running(sleeper)
    assert os.sched_getscheduler(pid) == policy
    assert os.getpriority(os.PRIO_PROCESS, pid) == (os.getpriority(os.PRIO_PROCESS, 0) if nice is None else nice)
    assert os.sched_getparam(pid).sched_priority == priority


@pytest.mark.differs(runc="1.1 ignores it", crun="1.8 ignores it")
def test_scheduler_with_a_deadline(sleeper) -> None:
    sleeper.process["scheduler"] = {
        "policy": "SCHED_DEADLINE",
        "runtime": 1_000_000,
        "deadline": 10_000_000,
        "period": 10_000_000,
    }
    assert os.sched_getscheduler(running(sleeper)) == 6


@pytest.mark.differs(runc="1.1 ignores it", crun="1.8 ignores it")
def test_scheduler_reset_on_fork(container) -> None:
    made = container(sh="sleep 100 & wait")
    made.process["scheduler"] = {"policy": "SCHED_OTHER", "nice": -5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    made.create()
    made.start()
    pid = made.pid
    proc.wait_until(lambda: proc.children(pid), "it has forked")
    (child,) = proc.children(pid)
    # sched(7): real-time policies and negative nice values are not inherited.
    assert os.sched_getscheduler(pid) & os.SCHED_RESET_ON_FORK
    assert [os.getpriority(os.PRIO_PROCESS, one) for one in (pid, child)] == [-5, 0]


@pytest.mark.ours
@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        ({"policy": "SCHED_BATCH", "priority": 3}, "/process/scheduler/priority", "SCHED_FIFO"),
        ({"policy": "SCHED_OTHER", "runtime": 3}, "/process/scheduler/runtime", "SCHED_DEADLINE"),
        ({"policy": "SCHED_OTHER", "nice": 20}, "/process/scheduler/nice", "-20 to 19"),
        ({"policy": "SCHED_FIFO"}, "/process/scheduler", "priority must be 1 to 99"),
        ({"policy": "SCHED_ISO"}, "/process/scheduler", "no such policy"),
    ],
)
def test_scheduler_refused(sleeper, given: dict, place: str, words: str) -> None:
    sleeper.process["scheduler"] = given
    refusal.create_refused(sleeper, place, words)


@pytest.mark.skipif(platform.machine() not in SYS_IOPRIO_GET, reason="the number of ioprio_get is not known here")
@pytest.mark.parametrize(("name", "number"), [("RT", 1), ("BE", 2), ("IDLE", 3)])
@pytest.mark.differs(runc="1.1 ignores it", crun="1.8 ignores it")
def test_io_priority(sleeper, name: str, number: int) -> None:
    sleeper.process["ioPriority"] = {"class": f"IOPRIO_CLASS_{name}", "priority": 0 if name == "IDLE" else 6}
    pid = running(sleeper)
    value = ctypes.CDLL(None).syscall(SYS_IOPRIO_GET[platform.machine()], 1, pid)
    assert value >> 13 == number
    if name != "IDLE":
        assert value & 0x1FFF == 6


@pytest.mark.skipif(not NUMA, reason="this kernel has no NUMA")
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0-0", "flags": ["MPOL_F_STATIC_NODES"]}, "interleave=static:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        ({"mode": "MPOL_LOCAL"}, "local"),
        ({"mode": "MPOL_DEFAULT"}, "default"),
    ],
)
@pytest.mark.differs(runc="1.1 ignores it", crun="1.8 ignores it", sometimes=True)
def test_memory_policy(sleeper, given: dict, shown: str) -> None:
    sleeper.config["linux"]["memoryPolicy"] = given
    running(sleeper)
    assert {line.split()[1] for line in sleeper.proc("numa_maps").splitlines()} == {shown}


@pytest.mark.ours
@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        ({"mode": "MPOL_BIND"}, "/linux/memoryPolicy", "needs nodes"),
        ({"mode": "MPOL_LOCAL", "nodes": "0"}, "/linux/memoryPolicy/nodes", "takes no nodes"),
        ({"mode": "MPOL_BIND", "nodes": "1000"}, "/linux/memoryPolicy", "none of the nodes"),
        ({"mode": "MPOL_BIND", "nodes": "3-1"}, "/linux/memoryPolicy/nodes", "range"),
    ],
)
def test_memory_policy_refused(sleeper, given: dict, place: str, words: str) -> None:
    sleeper.config["linux"]["memoryPolicy"] = given
    refusal.create_refused(sleeper, place, words)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.differs(runc="1.1 keeps the caller's", crun="1.8 keeps the caller's")
def test_the_caller_s_affinity_is_not_the_container_s(container) -> None:
    made = container(sh="grep Cpus_allowed_list /proc/self/status")
    mine = sorted(os.sched_getaffinity(0))
    output = made.run(wrap=("taskset", "-c", str(mine[0]))).stdout
    assert output.split()[1] == proc.parse_status(proc.read(os.getpid(), "status"))["Cpus_allowed_list"]


def exec_in(sleeper, sh: str, **fields) -> list[str]:
    """The words that a shell writes which `exec` starts in a running container, with these fields of process.json."""
    running(sleeper)
    process = {"args": ["/bin/sh", "-c", sh], "cwd": "/", "env": [config.PATH], "user": {"uid": 0, "gid": 0}, **fields}
    file = sleeper.runtime.folder / "process.json"
    file.write_text(json.dumps(process))
    return sleeper.runtime.run("exec", "--process", file, sleeper.id).stdout.split()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.differs(runc="1.1 ignores it", crun="1.8 ignores it")
@pytest.mark.parametrize("name", ["initial", "final"])
def test_affinity_of_exec(sleeper, name: str) -> None:
    first, *_, last = sorted(os.sched_getaffinity(0))
    affinity = {"initial": str(first), "final": str(last)} if name == "final" else {"initial": str(first)}
    found = exec_in(sleeper, "grep Cpus_allowed_list /proc/self/status", execCPUAffinity=affinity)
    wanted = {str(last if name == "final" else first)}
    if name == "initial" and kernel.VERSION < (6, 2):
        wanted.add(proc.parse_status(sleeper.proc("status"))["Cpus_allowed_list"])  # entering a cpuset gave all of it
    assert found[1] in wanted


@pytest.mark.ours
def test_affinity_of_exec_to_a_cpu_that_is_not_there(sleeper) -> None:
    with pytest.raises(AssertionError, match="process.json: /execCPUAffinity/final"):
        exec_in(sleeper, "true", execCPUAffinity={"final": "4000"})


@pytest.mark.differs(runc="1.1 ignores it", crun="1.8 ignores it")
def test_scheduler_of_exec(sleeper) -> None:
    found = exec_in(sleeper, "grep -E '^(policy|prio)' /proc/self/sched", scheduler={"policy": "SCHED_BATCH"})
    assert found[:3] == ["policy", ":", str(os.SCHED_BATCH)]


def test_limits(container) -> None:
    made = container(sh="cat /proc/self/limits")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    made.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": hard - 1, "hard": hard},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096},
        {"type": "RLIMIT_FSIZE", "soft": 1 << 20, "hard": 1 << 30},
    ]
    found = {line[:25].strip(): line[25:].split()[:2] for line in made.run().stdout.splitlines()}
    assert found["Max open files"] == [str(hard - 1), str(hard)]
    assert found["Max core file size"] == ["0", "4096"]
    assert found["Max file size"] == [str(1 << 20), str(1 << 30)]


def test_limits_of_an_ordinary_user_in_a_user_namespace(container) -> None:
    made = container(sh="grep 'open files' /proc/self/limits")
    config.map_ids(made.config)
    made.bundle.chown(200000, 200000)
    made.process["user"] = {"uid": 1000, "gid": 1000}
    made.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    assert made.run().stdout.split()[3:5] == ["100", "200"]


def _has(capability: int) -> bool:
    return bool(int(proc.parse_status(proc.read(os.getpid(), "status"))["CapEff"], 16) >> capability & 1)


@pytest.mark.skipif(_has(SYS_RESOURCE), reason="CAP_SYS_RESOURCE may raise every limit")
def test_a_limit_above_the_hard_one_is_named(container) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    made = container(["/bin/true"])
    made.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": hard + 1}]
    refusal.create_refused(made, "/process/rlimits/0", "RLIMIT_NOFILE", str(hard))


def test_oom_score(container) -> None:
    made = container(sh="cat /proc/self/oom_score_adj; sh -c 'cat /proc/self/oom_score_adj'")
    made.process["oomScoreAdj"] = 567
    assert made.run().stdout.split() == ["567", "567"]


@pytest.mark.skipif(not _has(SYS_RESOURCE), reason="root here lacks CAP_SYS_RESOURCE")
def test_with_the_capability_an_oom_score_is_lowered_and_a_limit_raised(container) -> None:
    made = container(sh="cat /proc/self/oom_score_adj; grep 'open files' /proc/self/limits")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    made.process["oomScoreAdj"] = -500
    made.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": hard + 1}]
    words = made.run().stdout.split()
    assert (words[0], words[5]) == ("-500", str(hard + 1))


@pytest.mark.skipif(_has(SYS_RESOURCE), reason="CAP_SYS_RESOURCE may lower it")
def test_an_oom_score_that_cannot_be_lowered(container) -> None:
    made = container(["/bin/true"])
    made.process["oomScoreAdj"] = -999
    result = refusal.create_refused(made, "/process/oomScoreAdj", "CAP_SYS_RESOURCE", "failed to update /proc/")
    assert "permission denied" not in result.stderr  # for docker and podman that is about the program: exit status 126


@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls itself i686 on x86-64 only")
@pytest.mark.parametrize(("domain", "machine"), [("LINUX", "x86_64"), ("LINUX32", "i686")])
@pytest.mark.differs(runc="1.1 ignores it", sometimes=True)
def test_personality(container, domain: str, machine: str) -> None:
    made = container(sh="uname -m")
    made.config["linux"]["personality"] = {"domain": domain}
    assert made.run().stdout.strip() == machine


@pytest.mark.skipif(APPARMOR, reason="AppArmor is on here: the next test is the one")
@pytest.mark.ours
def test_without_apparmor_a_profile_is_warned_about(container) -> None:
    made = container(sh="echo ran")
    made.process["apparmorProfile"] = "acme"
    result = made.run()
    assert result.stdout.strip() == "ran"
    assert "AppArmor is not enabled" in result.stderr and "acme" in result.stderr


@pytest.fixture
def apparmor_profile(tmp_path: Path) -> Iterator[str]:
    """A profile that denies writing below /tmp, loaded for the time of the test."""
    if not APPARMOR:
        pytest.skip("AppArmor is off here")
    if shutil.which("apparmor_parser") is None:
        pytest.skip("needs apparmor_parser")
    name = f"pyruntime-test-{os.getpid()}"
    file = tmp_path / name
    file.write_text(
        f"profile {name} flags=(attach_disconnected,mediate_deleted) {{\n"
        "  file,\n  capability,\n  signal,\n  deny /tmp/** w,\n}\n"
    )
    subprocess.run(["apparmor_parser", "-r", "-K", file], check=True)
    yield name
    subprocess.run(["apparmor_parser", "-R", file], check=False)


@pytest.mark.parametrize("user_namespace", [False, True])
def test_an_apparmor_profile_is_in_force(container, apparmor_profile: str, user_namespace: bool) -> None:
    made = container(sh="cat /proc/self/attr/current; touch /tmp/x; touch /run/y && echo written")
    if user_namespace:
        config.map_ids(made.config)
        made.bundle.chown(200000, 200000)
    made.process["apparmorProfile"] = apparmor_profile
    result = made.run()
    assert result.stdout.splitlines() == [f"{apparmor_profile} (enforce)", "written"]
    assert "Permission denied" in result.stderr


@pytest.mark.skipif(not APPARMOR, reason="AppArmor is off here")
def test_an_apparmor_profile_that_is_not_loaded(container) -> None:
    made = container(["/bin/true"])
    made.process["apparmorProfile"] = "no-such-profile"
    refusal.create_refused(made, "/process/apparmorProfile", "not loaded")


@pytest.mark.skipif(SELINUX, reason="SELinux is on here")
@pytest.mark.ours
def test_without_selinux_a_label_is_warned_about(container) -> None:
    made = container(sh="echo ran")
    made.process["selinuxLabel"] = "system_u:system_r:container_t:s0"
    result = made.run()
    assert result.stdout.strip() == "ran"
    assert "SELinux is not enabled" in result.stderr


@pytest.mark.skipif(RESCTRL, reason="this kernel has resctrl")
@pytest.mark.ours
def test_intel_rdt_without_resctrl(container) -> None:
    made = container(["/bin/true"])
    made.config["linux"]["intelRdt"] = {"closID": "group", "schemata": ["L3:0=f"]}
    refusal.create_refused(made, "/linux/intelRdt", "no resctrl")
