"""What a container with CAP_SYS_PTRACE sees of a process that enters its pid namespace: nothing of the host's.

Every health check is an exec, and a pod may share one pid namespace. CAP_SYS_PTRACE in the same user namespace opens
/proc/PID/root, fd and mem of any process that is seen there (ptrace(2)), so such a process must have nothing but what
the program is given: its root, descriptors, capabilities and memory.
"""

from __future__ import annotations

from pathlib import Path

import pytest
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
for place in ("start.execute.execute", "start.init.execute"):
    replace(place, execute)
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
    """What the attacker has got hold of, by kind."""
    return sorted({line.partition(" of ")[0].split()[0] for line in box.output().splitlines()[1:]})


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
