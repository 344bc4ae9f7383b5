"""What goes wrong with cgroups, provoked: the error says why, and what to do.

Source: cgroups(7); the bug trackers of runc and crun. What only a pure v2 host can show is in
test_cgroup_limits_v2.py too.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import leaks, proc
from support.refusal import create_refused, error_lines

pytestmark = pytest.mark.ours


def remove_everywhere(name: str) -> None:
    """Remove a cgroup that runtimes may have made in any hierarchy."""
    for top in leaks.hierarchies():
        path = Path(top, name)
        for one in (path / "box", path):
            if one.is_dir():
                one.rmdir()


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The pid of a process that sleeps, and is moved into cgroups."""
    process = subprocess.Popen(["/bin/sleep", "100"])
    yield process.pid
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("hierarchy", ["", "memory"])
def test_a_cgroup_that_somebody_is_in(container, sleeper, hierarchy):
    """runc#3828, containerd#11087: `container's cgroup is not empty`, but by whom?"""
    name = f"{leaks.PREFIX}-taken"
    path = Path("/sys/fs/cgroup", hierarchy, name)
    if not Path("/sys/fs/cgroup", hierarchy, "cgroup.procs").exists():
        pytest.skip(f"no hierarchy at {path.parent}")
    path.mkdir()
    try:
        (path / "cgroup.procs").write_text(str(sleeper))
        box = container()
        box.config["linux"]["cgroupsPath"] = f"/{name}"
        box.runtime.run("create", "--bundle", save(box), box.id, check=1)
        line = error_lines(box.runtime.commands[-1].wait())[-1]
        assert "is not empty" in line and f"{sleeper} (sleep)" in line and "another linux.cgroupsPath" in line
    finally:
        os.kill(sleeper, signal.SIGKILL)
        proc.wait_until(lambda: not (path / "cgroup.procs").read_text().strip(), "it is empty")
        remove_everywhere(name)


def save(box) -> str:
    box.bundle.save()
    return str(box.bundle.path)


def test_a_cgroup_above_with_processes(container, sleeper):
    """runc#2298: EBUSY of cgroup.subtree_control, the rule that nobody explains."""
    places = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
    top = next((Path(one) for one in places if Path(one, "cgroup.controllers").exists()), None)
    if top is None:
        pytest.skip("no cgroup2 tree on this host")
    offered = (top / "cgroup.controllers").read_text().split()
    handed = (top / "cgroup.subtree_control").read_text().split()
    limits = {
        "hugetlb": {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]},
        "memory": {"memory": {"limit": 1 << 26}},
    }
    usable = [name for name in limits if name in offered]
    if not usable:
        pytest.skip(f"the cgroup2 tree has neither of {', '.join(limits)}")
    if usable[0] not in handed:
        pytest.skip(f"{usable[0]} is not handed down by the root of the cgroup2 tree, and is left alone here")
    name = f"{leaks.PREFIX}-busy"
    (top / name).mkdir()
    try:
        (top / name / "cgroup.procs").write_text(str(sleeper))
        box = container()
        box.config["linux"]["cgroupsPath"] = f"/{name}/box"
        box.config["linux"]["resources"] = limits[usable[0]]
        result = box.runtime.run("create", "--bundle", save(box), box.id, check=1)
        line = error_lines(result)[-1]
        for word in ("that cgroup holds processes", f"{sleeper} (sleep)", "either processes or children", "move them"):
            assert word in line, line
    finally:
        os.kill(sleeper, signal.SIGKILL)
        proc.wait_until(lambda: not (top / name / "cgroup.procs").read_text().strip(), "it is empty")
        remove_everywhere(name)


def test_a_limit_below_what_is_used(container):
    """EBUSY of memory.limit_in_bytes; v2 would kill instead."""
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("v2 kills where v1 refuses")
    box = container(sh="head -c 20000000 /dev/zero > /dev/shm/x; echo written; sleep 100")
    box.create()
    box.start()
    box.await_output("written")
    result = box.runtime.run("update", "--memory", str(4 << 20), box.id, check=1)
    line = error_lines(result)[-1]
    assert "EBUSY" in line and "the container uses" in line and "give a higher limit" in line, line


def test_an_init_that_is_killed_for_want_of_memory(container):
    """crun#630, runc: `container init was OOM-killed (memory limit too low?)`.

    When the limit is in force, init makes the masks, and each takes memory of the kernel; what it has used before
    is looked for."""
    for limit in range(256, 8192, 256):
        box = container(["/bin/true"])
        for number in range(2000):
            (box.rootfs / f"tmp/{number}").touch()
        box.config["linux"]["maskedPaths"] = [f"/tmp/{number}" for number in range(2000)]
        box.config["linux"]["resources"] = {"memory": {"limit": limit << 10, "swap": limit << 10}}
        result = box.create(check=None)
        line = error_lines(result)[-1] if result.code else ""
        if "OOM-killed" in line:
            assert "too low" in line and "raise the limit" in line
            assert "/linux/resources/memory/limit" in line
            return
        assert not line or "the container uses" in line, line
        if not result.code:
            box.delete("--force")
    pytest.fail("no limit kills init")


def test_a_cgroup_of_exec_that_is_not_there(container):
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    result = box.runtime.run("exec", "--cgroup", "nosuch", box.id, "/bin/true", check=255)
    line = error_lines(result)[-1]
    assert "does not exist" in line and "/nosuch" in line and "--cgroup takes one that is there" in line, line


def test_a_limit_that_the_host_cannot_set(container):
    box = container()
    box.config["linux"]["resources"] = {"cpu": {"cpus": "4095"}}
    create_refused(box, "/linux/resources/cpu", "the cgroup above has", "give a part of that")
