"""A field of config.json is obeyed, refused, or at least warned about where the host lacks what it needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import kernel, proc
from support.config import set_namespace


def obeyed_or_refused(box, field: str, obeyed) -> None:
    """Create it: either that fails and names the field, or `obeyed()` is true of the running container."""
    result = box.create(check=None)
    if result.code != 0:
        if box.runtime.is_ours:
            assert field in result.stderr, result
        return
    box.start()
    proc.wait_until(lambda: "sleep" in box.proc("cmdline"), "the process runs")
    assert obeyed(), f"{field} was ignored"


def v1_file(box, controller: str, name: str) -> str:
    folder = f"/sys/fs/cgroup/{controller}"
    if not os.path.isdir(folder):
        pytest.skip(f"no cgroup v1 hierarchy of {controller} here")
    return Path(folder + proc.cgroups(box.proc("cgroup"))[controller], name).read_text().strip()


@pytest.fixture
def sleeper(container):
    return container(["/bin/sleep", "100"])


def test_memory_limit(sleeper):
    sleeper.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}}
    obeyed_or_refused(
        sleeper,
        "/linux/resources",
        lambda: v1_file(sleeper, "memory", "memory.limit_in_bytes") == str(64 << 20),
    )


def test_pids_limit(sleeper):
    sleeper.config["linux"]["resources"] = {"pids": {"limit": 77}}
    obeyed_or_refused(sleeper, "/linux/resources", lambda: v1_file(sleeper, "pids", "pids.max") == "77")


def test_cpu_shares(sleeper):
    sleeper.config["linux"]["resources"] = {"cpu": {"shares": 512}}
    obeyed_or_refused(sleeper, "/linux/resources", lambda: v1_file(sleeper, "cpu", "cpu.shares") == "512")


def test_device_rules(sleeper):
    sleeper.config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    obeyed_or_refused(
        sleeper,
        "/linux/resources",
        lambda: "a *:* rwm" not in v1_file(sleeper, "devices", "devices.list"),
    )


def test_seccomp(container):
    """A filter that makes mkdir(2) fail."""
    box = container(sh="mkdir /made; mkdir /made2; exec sleep 100")
    box.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    obeyed_or_refused(
        box,
        "/linux/seccomp",
        lambda: box.process_status()["Seccomp"] == "2" and not (box.rootfs / "made").exists(),
    )


def test_apparmor_where_there_is_none(sleeper):
    if kernel.has_apparmor():
        pytest.skip("AppArmor is enabled")
    sleeper.process["apparmorProfile"] = "some-profile"
    obeyed_or_refused(sleeper, "/process/apparmorProfile", lambda: "AppArmor" in sleeper.created.stderr)


def test_selinux_where_there_is_none(sleeper):
    if os.path.isdir("/sys/fs/selinux"):
        pytest.skip("SELinux is here")
    sleeper.process["selinuxLabel"] = "system_u:system_r:container_t:s0"
    obeyed_or_refused(sleeper, "/process/selinuxLabel", lambda: "SELinux" in sleeper.created.stderr)


@pytest.mark.differs(runc="runc 1.1.5 does not know the field", crun="crun 1.8.1 does not know the field")
def test_scheduler(sleeper):
    sleeper.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}
    obeyed_or_refused(sleeper, "/process/scheduler", lambda: os.sched_getscheduler(sleeper.pid) == os.SCHED_BATCH)


def test_time_offsets(sleeper):
    set_namespace(sleeper.config, "time")
    sleeper.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1000, "nanosecs": 0}}
    obeyed_or_refused(
        sleeper,
        "/linux/",
        lambda: proc.namespace(sleeper.pid, "time") != proc.namespace("self", "time"),
    )


@pytest.mark.differs(crun="crun 1.8.1 does not look at the list", runc="runc 1.1.5 does not know the field")
def test_memory_policy(sleeper):
    sleeper.config["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    obeyed_or_refused(sleeper, "/linux/memoryPolicy", lambda: "bind:0" in sleeper.proc("numa_maps").split("\n")[0])


@pytest.mark.differs(runc="runc 1.1.5 does not know the field", crun="crun 1.8.1 does not know the field")
def test_net_devices(sleeper):
    sleeper.config["linux"]["netDevices"] = {"nosuchdevice0": {}}
    obeyed_or_refused(sleeper, "/linux/netDevices", lambda: False)


def test_a_field_that_nobody_knows_is_no_error(container):
    """spec.md: unknown properties must be ignored, with at most a warning."""
    box = container(sh="echo fine", nosuchfield={"a": 1})
    box.process["nosuchfield"] = True
    assert box.run().stdout == "fine\n"
