"""--systemd-cgroup: with a systemd that makes the scope, and the error where there is none."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import attack, leaks, proc
from support.container import Container
from support.runtime import Runtime

TOP = Path("/sys/fs/cgroup")
MIB = 1 << 20
SLOW = 60.0
FLAG = ("--systemd-cgroup",)

booted = Path("/run/systemd/system").exists()
v2 = (TOP / "cgroup.controllers").exists()
needs_systemd = pytest.mark.skipif(not booted, reason="systemd does not run here (`make test-vm` has it)")


def show(unit: str, name: str) -> str:
    result = subprocess.run(["systemctl", "show", "-P", name, unit], capture_output=True, text=True, check=True)
    return result.stdout.strip()


@pytest.fixture
def box(container: Any) -> Any:
    """A container in a scope of its own below a slice of this test session."""

    made = []

    def make(args: list[str] | None = None, **resources: Any) -> Container:
        one: Container = container(args or ["sleep", "1000"])
        made.append(one)
        one.config["linux"]["cgroupsPath"] = f"{leaks.PREFIX}.slice:box:{one.id}"
        one.config["linux"]["resources"] = resources
        return one

    yield make
    for one in made:
        one.delete("--force", check=None, timeout=SLOW)
    if booted:
        subprocess.run(["systemctl", "stop", f"{leaks.PREFIX}.slice"], check=False, capture_output=True)
        leaks.remove_cgroup_parent(f"/{leaks.PREFIX}.slice")


def scope(one: Container) -> Path:
    return TOP / f"{leaks.PREFIX}.slice/box-{one.id}.scope"


@needs_systemd
def test_a_slice_in_a_slice(box: Any) -> None:
    """systemd makes those that are missing, each in the one that its name says (systemd.slice(5))."""
    one = box()
    one.config["linux"]["cgroupsPath"] = f"{leaks.PREFIX}-web-front.slice:box:{one.id}"
    one.create("--pid-file", str(one.pid_file), flags=FLAG, timeout=SLOW)
    slices = [f"{leaks.PREFIX}.slice", f"{leaks.PREFIX}-web.slice", f"{leaks.PREFIX}-web-front.slice"]
    place = (TOP if v2 else TOP / "systemd").joinpath(*slices, f"box-{one.id}.scope")
    assert str(one.pid) in (place / "cgroup.procs").read_text().split()
    assert show(f"box-{one.id}.scope", "Slice") == slices[-1]
    one.delete("--force", timeout=SLOW)
    assert not place.exists()
    subprocess.run(["systemctl", "stop", *reversed(slices)], check=False, capture_output=True)
    # Those in hierarchies that systemd does not use are ours, and stay as all parents do.
    for depth in (3, 2, 1):
        leaks.remove_cgroup_parent("/" + "/".join(slices[:depth]))


@pytest.mark.skipif(booted, reason="systemd runs here")
def test_without_systemd(box: Any) -> None:
    one = box()
    result = one.run(flags=FLAG, check=1)
    assert "systemd not running on this host, cannot use systemd cgroups manager" in result.stderr


@pytest.mark.skipif(not booted or v2, reason="needs systemd on a v1 or hybrid host")
def test_scope_on_v1_is_entered_in_every_hierarchy(box: Any) -> None:
    one = box(pids={"limit": 33}, devices=[{"allow": False, "access": "rwm"}])
    one.create(flags=FLAG, timeout=SLOW)
    path = f"/{leaks.PREFIX}.slice/box-{one.id}.scope"
    places = {line.split(":", 2)[2] for line in proc.read(one.pid, "cgroup").splitlines() if "unified" not in line}
    assert places == {path}
    assert (TOP / "pids" / path[1:] / "pids.max").read_text().strip() == "33"
    assert "c 1:3 rwm" in (TOP / "devices" / path[1:] / "devices.list").read_text()
    assert show(f"box-{one.id}.scope", "TasksMax") == "33"
    one.delete("--force", timeout=SLOW)
    assert not list(TOP.glob("*" + path))


@needs_systemd
@pytest.mark.skipif(not v2, reason="the properties of v2")
def test_scope_with_limits(box: Any) -> None:
    one = box(
        memory={"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB},
        cpu={"shares": 2048, "quota": 50000, "period": 100000, "cpus": "0"},
        pids={"limit": 33},
    )
    one.config["annotations"] = {"org.systemd.property.TimeoutStopUSec": "uint64 7000000"}
    one.create(flags=FLAG, timeout=SLOW)
    unit = f"box-{one.id}.scope"
    assert proc.read(one.pid, "cgroup").strip() == f"0::/{leaks.PREFIX}.slice/{unit}"
    assert show(unit, "Slice") == f"{leaks.PREFIX}.slice"
    assert show(unit, "MemoryMax") == str(64 * MIB)
    assert show(unit, "MemorySwapMax") == str(32 * MIB)
    assert show(unit, "TasksMax") == "33"
    assert show(unit, "CPUWeight") == "174"
    assert show(unit, "CPUQuotaPerSecUSec") == "500ms"
    assert show(unit, "AllowedCPUs") == "0"
    assert show(unit, "Delegate") == "yes"
    assert show(unit, "TimeoutStopUSec") == "7s"
    assert (scope(one) / "memory.max").read_text().strip() == str(64 * MIB)
    assert (scope(one) / "cpu.max").read_text().strip() == "50000 100000"
    one.start()
    one.runtime.run("update", "--memory", "80M", "--memory-swap", "90M", one.id, timeout=SLOW)
    assert show(unit, "MemoryMax") == str(80 * MIB)
    # Whatever systemd writes anew must be what we wanted.
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert (scope(one) / "memory.max").read_text().strip() == str(80 * MIB)
    assert (scope(one) / "pids.max").read_text().strip() == "33"
    one.runtime.run("pause", one.id, timeout=SLOW)
    assert one.status() == "paused"
    one.runtime.run("resume", one.id, timeout=SLOW)
    assert json.loads(one.runtime.run("ps", "-f", "json", one.id, timeout=SLOW).stdout) == [one.pid]
    one.delete("--force", timeout=SLOW)
    assert not scope(one).exists()
    assert show(unit, "ActiveState") == "inactive"


@needs_systemd
def test_device_rules_hold_in_a_scope(box: Any) -> None:
    script = "mknod -m 666 /tmp/fuse c 10 229 && (: </tmp/fuse) && echo opened; (: >/dev/null) && echo null"
    one = box(["sh", "-c", script], devices=[{"allow": False, "access": "rwm"}])
    for kind in ("bounding", "effective", "permitted"):
        one.process["capabilities"][kind] = ["CAP_MKNOD"]
    result = one.run(flags=FLAG, timeout=SLOW)
    assert "Operation not permitted" in result.stderr
    assert "null" in result.stdout


@needs_systemd
def test_a_container_that_ends_by_itself_leaves_no_unit(box: Any) -> None:
    one = box(["true"])
    one.run(flags=FLAG, timeout=SLOW)
    assert not scope(one).exists()
    assert show(f"box-{one.id}.scope", "LoadState") == "not-found"


@needs_systemd
def test_failed_create_leaves_no_unit(box: Any) -> None:
    one = box(["/nosuch"])
    one.create(flags=FLAG, check=1, timeout=SLOW)
    assert not scope(one).exists()


@needs_systemd
def test_unit_that_is_there_is_refused(box: Any) -> None:
    first = box()
    first.create(flags=FLAG, timeout=SLOW)
    second = box()
    second.config["linux"]["cgroupsPath"] = first.config["linux"]["cgroupsPath"]
    result = second.create(flags=FLAG, check=1, timeout=SLOW)
    assert "already" in result.stderr
    assert first.status() == "created"


def running(make: Any, first: Container) -> Container:
    """A container that runs in a scope of the first one's name."""
    second: Container = make()
    second.config["linux"]["cgroupsPath"] = first.config["linux"]["cgroupsPath"]
    second.create(flags=FLAG, timeout=SLOW)
    second.start(timeout=SLOW)
    return second


@needs_systemd
def test_another_container_in_a_scope_of_the_name_lives_on(box: Any) -> None:
    first = box(["true"])
    first.create(flags=FLAG, timeout=SLOW)
    first.start(timeout=SLOW)
    first.wait(SLOW)
    unit = f"box-{first.id}.scope"
    proc.wait_until(lambda: show(unit, "LoadState") == "not-found", "the first scope is gone", SLOW)
    second = running(box, first)
    first.delete(timeout=SLOW)
    assert second.status() == "running"
    assert show(unit, "ActiveState") == "active"
    second.delete("--force", timeout=SLOW)
    assert show(unit, "LoadState") == "not-found"


DIES_IN_THE_SCOPE = """
import posix
def dies(*arguments, **_):
    posix.kill(posix.getpid(), 9)
replace("features.cgroups.systemd._enter_all", dies)
"""


@needs_systemd
@pytest.mark.ours
def test_a_create_that_was_killed_before_it_knew_its_cgroup(box: Any, tmp_path: Path) -> None:
    first = box()
    ours = first.runtime
    first.runtime = Runtime(attack.weaken(tmp_path, DIES_IN_THE_SCOPE), tmp_path)
    first.runtime.root = ours.root
    first.create(flags=FLAG, check=-9, timeout=SLOW)
    first.runtime = ours
    unit = f"box-{first.id}.scope"
    proc.wait_until(lambda: show(unit, "LoadState") == "not-found", "init ends with its parent", SLOW)
    second = running(box, first)
    first.delete("--force", timeout=SLOW)
    assert second.status() == "running"


@needs_systemd
def test_path_of_another_form(box: Any) -> None:
    one = box()
    one.config["linux"]["cgroupsPath"] = "/a/b"
    result = one.create(flags=FLAG, check=1, timeout=SLOW)
    assert "slice:prefix:name" in result.stderr
