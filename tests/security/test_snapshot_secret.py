"""A container cannot read the snapshot of the interpreter: it has the addresses that the runtime's processes have on
this host (docs/snapshot.md). Neither #!/proc/self/exe nor /proc/PID/exe of a process that enters leads to it.

A shared pid namespace, because init is seen there before it becomes the container's program.
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


@pytest.mark.parametrize("capable", [False, True], ids=["default capabilities", "CAP_SYS_PTRACE"])
def test_no_executable_leads_to_the_snapshot(container, scratch, capable):
    inodes = [str(path.stat().st_ino) for path in (SNAPSHOT, SECOND) if path.exists()]
    box = container(["/read_exe", *inodes])
    box.bundle.write("read_exe", compile_c(HERE / "read_exe.c", scratch / "read_exe", "-static").read_bytes(), 0o755)
    if capable:
        for kind in "bounding", "effective", "permitted":
            box.process["capabilities"][kind].append("CAP_SYS_PTRACE")
    box.create()
    box.start()
    box.await_output("looking")
    for number in range(ROUNDS):
        other = container(["/entry"] if number % 2 else ["/proc/self/exe", "--version"])
        other.bundle.write("entry", "#!/proc/self/exe --version\n", 0o755)
        namespaces = other.config["linux"]["namespaces"]
        namespaces[:] = [one for one in namespaces if one["type"] != "pid"]
        namespaces.append({"type": "pid", "path": f"/proc/{box.pid}/ns/pid"})
        if other.create(check=None).code == 0 and other.start(check=None).code == 0:
            other.wait()
        other.runtime.run("delete", "--force", other.id, check=None)
    (box.rootfs / "stop").touch()
    output = box.await_output("done")
    assert "snapshot" not in output
    # What it finds instead, so that something was there to be found.
    assert "second" in output, output
