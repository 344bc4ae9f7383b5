"""CVE-2016-9962 (runc to 1.0.0-rc2): a process that joins a container could be traced by the container's processes
before it became its program, and its open descriptors led to the host."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import leaks
from support.attack import compile_c, rounds

HERE = Path(__file__).parent
# CAP_SYS_PTRACE in the container's own user namespace is not for processes of the host's.
CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SYS_PTRACE"]
IDS = [{"containerID": 0, "hostID": 100_000, "size": 65536}]
DUMPABLE = """
def prctl(option, argument=0):
    return 0 if (option, argument) == (4, 0) else old(option, argument)
old = replace("kernel.process.prctl", prctl)
"""
# A process that is cloned does nothing for a moment, so that the attacker has all the time he needs.
SLOW = """
import time
def clone(*arguments, **options):
    pid, pidfd = plain(*arguments, **options)
    if pid == 0:
        time.sleep(0.05)
    return pid, pidfd
plain = replace("kernel.process.clone", clone)
"""
# As if the kernel did not take it away with the change of the user.
DUMPABLE_IN_USER_NAMESPACE = (
    DUMPABLE
    + """
def become_root(setgroups_denied):
    before(setgroups_denied)
    old(4, 1)
before = replace("features.namespaces.target.become_root", become_root)
"""
)


@pytest.fixture(scope="session")
def watcher(scratch):
    """The attacker's program."""
    return compile_c(HERE / "watch_exec.c", scratch / "watch_exec", "-static")


def watching(container, watcher, user_namespace: bool):
    """A container whose init attacks whoever comes."""
    box = container(["/watch", "/bin/"])
    box.bundle.write("watch", watcher.read_bytes(), 0o755)
    if user_namespace:
        box.config["linux"]["namespaces"].append({"type": "user"})
        box.config["linux"]["uidMappings"] = box.config["linux"]["gidMappings"] = IDS
        box.bundle.chown(100_000, 100_000)
        box.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    return box


def stolen(box, most: int, seconds: float) -> str:
    """exec many times: what the attacker got hold of."""
    box.create()
    box.start()
    box.await_output("watching")
    for _ in rounds(most, seconds):
        # It may have been stopped by the attacker, or be dead: not what is asked here.
        box.runtime.run("exec", box.id, "/bin/true", check=None, timeout=20)
        if box.output() != "watching\n":
            break
    return box.output().removeprefix("watching\n")


@pytest.mark.parametrize("user_namespace", [False, True], ids=["plain", "user namespace"])
def test_nothing_is_stolen_from_exec(container, watcher, user_namespace):
    assert stolen(watching(container, watcher, user_namespace), 300, 6) == ""


@pytest.mark.ours
@pytest.mark.parametrize("user_namespace", [False, True], ids=["plain", "user namespace"])
def test_a_dumpable_process_is_caught(container, watcher, weakened, user_namespace):
    box = watching(container, watcher, user_namespace)
    box.runtime = weakened(DUMPABLE_IN_USER_NAMESPACE if user_namespace else DUMPABLE)
    found = stolen(box, 300, 15)
    assert "exe of" in found


def stolen_from_create(box, other, most: int, seconds: float) -> str:
    """Make another container in the attacker's pid namespace many times: what the attacker got hold of."""
    box.create()
    box.start()
    box.await_output("watching")
    kinds = ["pid", "user"] if "uidMappings" in box.config["linux"] else ["pid"]
    entries = [one for one in other.config["linux"]["namespaces"] if one["type"] not in kinds]
    paths = [{"type": kind, "path": f"/proc/{box.pid}/ns/{kind}"} for kind in kinds]
    other.config["linux"]["namespaces"] = entries + paths
    if "user" in kinds:
        other.config["linux"]["uidMappings"] = other.config["linux"]["gidMappings"] = []
    for _ in rounds(most, seconds):
        other.create(check=None, timeout=20)
        other.delete("--force")
        leaks.reap()  # its zombie would keep the attacker's pid namespace, and so init of that, from ending
        if box.output() != "watching\n":
            break
    return box.output().removeprefix("watching\n")


# In a pod whose containers share a pid namespace: none has a user namespace; all have the same; the new one has one
# of its own, which the attacker as root around it is the owner of (user_namespaces(7)).
PODS = {"plain": (False, False), "shared user namespace": (True, False), "new user namespace": (False, True)}


def pod(container, watcher, name: str):
    """The attacker's container, and one to be made in its pid namespace."""
    shared, new = PODS[name]
    other = container(["/bin/true"])
    if shared or new:
        other.bundle.chown(100_000, 100_000)
    if new:
        other.config["mounts"] = [one for one in other.config["mounts"] if one["type"] != "proc"]
        other.config["linux"]["namespaces"].append({"type": "user"})
        other.config["linux"]["uidMappings"] = other.config["linux"]["gidMappings"] = IDS
    return watching(container, watcher, shared), other


@pytest.mark.parametrize("name", PODS)
@pytest.mark.differs(crun="crun 1.8.1: init can be traced while it has a new user namespace only", sometimes=True)
def test_nothing_is_stolen_from_create(container, watcher, name):
    box, other = pod(container, watcher, name)
    assert stolen_from_create(box, other, 300, 4) == ""


@pytest.mark.ours
@pytest.mark.parametrize("name", PODS)
def test_nothing_is_stolen_from_a_slow_create(container, watcher, weakened, name):
    box, other = pod(container, watcher, name)
    box.runtime = other.runtime = weakened(SLOW)
    assert stolen_from_create(box, other, 5, 6) == ""


@pytest.mark.ours
def test_a_dumpable_init_is_caught(container, watcher, weakened):
    """With user namespaces the kernel itself makes init not dumpable, or the attacker has no rights over it."""
    box, other = pod(container, watcher, "plain")
    box.runtime = other.runtime = weakened(SLOW + DUMPABLE)
    assert "exe of" in stolen_from_create(box, other, 300, 15)
