"""What a container with CAP_SYS_PTRACE sees of a process that enters its pid namespace: nothing of the host's.

Every health check is an exec, and a pod may share one pid namespace. CAP_SYS_PTRACE in the same user namespace opens
/proc/PID/root, fd and mem of any process that is seen there (ptrace(2)), so such a process must have nothing but what
the program is given: its root, descriptors, capabilities and memory.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from support import leaks, proc
from support.attack import compile_c, rounds

HERE = Path(__file__).parent
CAPABILITIES = ["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_KILL", "CAP_SYS_PTRACE"]
MASK = 1 << 1 | 1 << 2 | 1 << 5 | 1 << 19
# A filter as engines give: without noNewPrivileges it takes CAP_SYS_ADMIN to load.
FILTER = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
}
# Each call of the runtime's between the clone and the program takes a moment, so that the attacker has time.
SLOW = """
import time
def execute(steps, actor):
    for step in steps:
        if hasattr(actor, "channel") and not hasattr(actor, "record"):
            time.sleep(0.004)
        plain([step], actor)
plain = replace("plan.step.execute", execute)
for place in ("runtime.exec.execute", "runtime.init.execute"):
    replace(place, execute)
"""
# Linux before 6.17 cannot make a proc filesystem of another pid namespace.
OLD_KERNEL = """
def open_proc(namespace):
    from pyruntime.errors import KernelError
    raise KernelError(22, "fsconfig", ("pidns",))
replace("kernel.mount.open_proc", open_proc)
"""
# As before: init is cloned into the pid namespace, and does everything there.
INSIDE = """
from pyruntime.plan.request import Request
Request.spawns = lambda request: False
"""


@pytest.fixture(scope="session")
def watcher(scratch):
    """The attacker's program."""
    return compile_c(HERE / "watch_inside.c", scratch / "watch_inside", "-static")


@pytest.fixture
def attacker(container, watcher, host):
    """A container whose init looks at every other process, and that may."""
    box = container(["/watch", str(host / "marker"), f"{MASK:x}", "/bin"])
    box.bundle.write("watch", watcher.read_bytes(), 0o755)
    box.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    box.process["noNewPrivileges"] = False
    return box


def found(box) -> list[str]:
    """What the attacker has got hold of."""
    return box.output().splitlines()[1:]


def start(box) -> None:
    box.create()
    box.start()
    box.await_output("watching")


def exec_many(box, host, most: int = 150, seconds: float = 6) -> list[str]:
    for _ in rounds(most, seconds):
        box.runtime.run("exec", "--pid-file", str(host / "marker.pid"), box.id, "/bin/true", timeout=20)
        if found(box):
            break
    return found(box)


@pytest.mark.parametrize("kind", ["plain", "filter", "no new privileges", "user", "slow"])
@pytest.mark.differs(runc="the process that enters has all capabilities, and the runtime's memory", sometimes=True)
@pytest.mark.differs(crun="the process that enters has all capabilities, and the runtime's memory", sometimes=True)
def test_exec_shows_nothing(attacker, host, weakened, kind):
    if kind in ("filter", "no new privileges"):
        attacker.config["linux"]["seccomp"] = FILTER
        attacker.process["noNewPrivileges"] = kind != "filter"
    if kind == "slow":
        if not attacker.runtime.is_ours:
            pytest.skip("only ours can be slowed down")
        attacker.runtime = weakened(SLOW)
    start(attacker)
    if kind == "user":
        attacker.runtime.run("exec", "--user", "1000:1000", attacker.id, "/bin/true")
    assert exec_many(attacker, host) == []


@pytest.mark.parametrize("kind", ["plain", "filter", "slow", "old kernel"])
@pytest.mark.differs(runc="init has the host's root, capabilities and memory at first", sometimes=True)
@pytest.mark.differs(crun="init has the host's root, capabilities and memory at first", sometimes=True)
def test_create_in_a_shared_pid_namespace_shows_nothing(attacker, container, host, weakened, kind):
    if kind in ("slow", "old kernel"):
        if not attacker.runtime.is_ours:
            pytest.skip("only ours can be changed")
        attacker.runtime = weakened(SLOW if kind == "slow" else OLD_KERNEL)
    start(attacker)
    other = container(["/bin/true"])
    other.runtime = attacker.runtime
    other.process["capabilities"] = attacker.process["capabilities"]
    other.process["noNewPrivileges"] = False
    if kind == "filter":
        other.config["linux"]["seccomp"] = FILTER
    join_pid_namespace(other, attacker)
    other.pid_file = host / "marker.pid"
    for _ in rounds(60, 6):
        other.create()
        other.start()
        other.delete("--force")
        leaks.reap()  # its zombie would keep the attacker's pid namespace from ending
        if seen(attacker, kind):
            break
    assert seen(attacker, kind) == []


def seen(box, kind: str) -> list[str]:
    """What was found, but for the process that opens the proc filesystem: it has an empty root and CAP_SYS_ADMIN."""
    allowed = r"capabilities of \d+: 200000" if kind == "old kernel" else "nothing"
    return [line for line in found(box) if not re.fullmatch(allowed, line)]


@pytest.mark.ours
def test_an_init_that_is_cloned_inside_is_caught(attacker, container, weakened, host):
    attacker.runtime = weakened(SLOW + INSIDE)
    start(attacker)
    other = container(["/bin/true"])
    other.runtime = attacker.runtime
    join_pid_namespace(other, attacker)
    for _ in rounds(20, 15):
        other.create()
        other.delete("--force")
        leaks.reap()
        if found(attacker):
            break
    assert any(line.startswith("root of") for line in found(attacker))


def join_pid_namespace(box, other) -> None:
    """Share the pid namespace of another container."""
    for entry in box.config["linux"]["namespaces"]:
        if entry["type"] == "pid":
            entry["path"] = f"/proc/{other.pid}/ns/pid"


def test_proc_shows_the_shared_pid_namespace(container, weakened):
    """Also on a kernel that cannot make it from outside, and with another proc filesystem beside it."""
    first = container(["/bin/sleep", "1000"])
    first.create()
    first.start()
    for runtime in (first.runtime, weakened(OLD_KERNEL)):
        script = "ls -d /proc/[0-9]* /other/[0-9]*; cat /proc/1/comm /other/self/comm; echo $$"
        second = container(["/bin/sh", "-c", script])
        second.runtime = runtime
        join_pid_namespace(second, first)
        second.config["mounts"].append({"destination": "/other", "type": "proc", "source": "proc"})
        lines = second.run().stdout.split()
        assert {"/proc/1", f"/proc/{lines[-1]}", "/other/1", f"/other/{lines[-1]}"} <= set(lines)
        assert lines[-3:-1] == ["sleep", "cat"]


# The child of exec stays in the container's cgroup for a moment before it joins the namespaces.
SLOW_JOIN = """
import pathlib, time
def join(entrant):
    old(entrant)
    pathlib.Path({marker!r}).touch()
    time.sleep(1)
old = replace("features.cgroups.enter.join", join)
"""


@pytest.mark.ours
def test_delete_reaches_an_exec_that_is_frozen_before_it_is_inside(container, weakened, tmp_path):
    """It is in the cgroup and not in the pid namespace: it does not die with init, and must be thawed to end."""
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.start()
    marker = tmp_path / "joined"
    slow = weakened(SLOW_JOIN.format(marker=str(marker)))
    command = slow.spawn("--root", str(box.runtime.root), "exec", box.id, "/bin/true", root=False)
    proc.wait_until(marker.exists, "the child is in the cgroup")
    os.kill(box.pid, 9)
    box.wait()
    paths = [Path(folder + box.config["linux"]["cgroupsPath"]) for folder in leaks.hierarchies()]
    states = {path / "freezer.state": "FROZEN" for path in paths} | {path / "cgroup.freeze": "1" for path in paths}
    file, value = next((file, value) for file, value in states.items() if file.exists())
    file.write_text(value)
    box.delete()
    assert command.wait().code == 255
