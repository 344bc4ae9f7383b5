"""A container cannot read the snapshot of the interpreter: it has the addresses that the runtime's processes have on
this host (docs/snapshot.md). Neither #!/proc/self/exe nor /proc/PID/exe of a process that enters leads to it.

One container is what /proc/self/exe makes of it; another one, in the same pid namespace, looks.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
from support.attack import compile_c
from support.runtime import CHECKOUT

HERE = Path(__file__).parent
SNAPSHOT, SECOND = (CHECKOUT / f"build/pyruntime.{kind}" for kind in ("snapshot", "start"))
ROUNDS = 25

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="native/snapshot.c is not written for this architecture"),
    pytest.mark.skipif(not SNAPSHOT.exists(), reason="there is no build/pyruntime.snapshot"),
    pytest.mark.skipif(os.environ.get("PYRUNTIME_SNAPSHOT") == "0", reason="PYRUNTIME_SNAPSHOT=0: none is used"),
    pytest.mark.ours,
]


@pytest.fixture
def executed(container):
    """A container whose program is /proc/self/exe, and does not end: whether launcher or snapshot, it waits in open(2)
    for the other end of a FIFO."""
    box = container(["/proc/self/exe", "--root", "/root", "create", "--bundle", "/bundle", "box"])
    for path in box.rootfs / "bundle/config.json", box.rootfs / str(SNAPSHOT).lstrip("/"):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
    box.create()
    box.start()
    return box


@pytest.mark.parametrize("capable", [False, True], ids=["default capabilities", "CAP_SYS_PTRACE"])
def test_no_executable_leads_to_the_snapshot(container, executed, scratch, capable):
    inodes = [str(path.stat().st_ino) for path in (SNAPSHOT, SECOND) if path.exists()]
    box = container(["/read_exe", *inodes])
    box.bundle.write("read_exe", compile_c(HERE / "read_exe.c", scratch / "read_exe", "-static").read_bytes(), 0o755)
    namespaces = box.config["linux"]["namespaces"]
    namespaces[:] = [one for one in namespaces if one["type"] != "pid"]
    namespaces.append({"type": "pid", "path": f"/proc/{executed.pid}/ns/pid"})
    if capable:
        for kind in "bounding", "effective", "permitted":
            box.process["capabilities"][kind].append("CAP_SYS_PTRACE")
    box.create()
    box.start()
    box.await_output("looking")
    for _ in range(ROUNDS):
        box.runtime.run("exec", box.id, "/bin/true", check=None)
    (box.rootfs / "stop").touch()
    output = box.await_output("done")
    assert "snapshot" not in output
    # What it finds instead, so that something was there to be found.
    assert "second" in output, output
