"""Cgroups of a runtime that runs in a container itself: what the outer one leaves it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from support import leaks

DEVICES = Path("/sys/fs/cgroup/devices")
MIB = 1 << 20

# What runc allows every container, for one without a console.
OUTER = ["c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9", "c 5:0", "c 5:2", "c 136:*"]

# Root of a user namespace in which all ids but a few are those of the host, as of an unprivileged LXC container whose
# root owns its cgroups.
AS_ROOT_OF_A_USER_NAMESPACE = """
import ctypes, os, sys
ready, go = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    os.execv(sys.argv[1], sys.argv[1:])
os.read(ready[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write("0 0 65536")
os.write(go[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
"""


@pytest.fixture
def outer():
    """A devices cgroup with the rules of an outer container."""
    directory = DEVICES / f"{leaks.PREFIX}-outer"
    directory.mkdir()
    (directory / "devices.deny").write_text("a")
    for line in [*(f"{one} rwm" for one in OUTER), "c *:* m", "b *:* m"]:
        (directory / "devices.allow").write_text(line)
    yield directory
    for folder, _, _ in os.walk(directory, topdown=False):
        os.rmdir(folder)


@pytest.mark.skipif(not (DEVICES / "devices.list").exists(), reason="no v1 devices hierarchy on this host")
@pytest.mark.differs(runc="runc 1.1 gives every container /dev/net/tun", crun="crun gives every container /dev/net/tun")
def test_below_the_default_devices(container: Any, outer: Path) -> None:
    """The host's console, which an outer container does not have, is not given to an inner one either."""
    box = container(sh="echo ran >/dev/null && echo ran")
    box.config["linux"]["cgroupsPath"] = f"{leaks.PREFIX}-inner"
    enter = ["sh", "-c", f'echo $$ >{outer}/cgroup.procs; exec "$@"', "sh"]
    assert box.run(wrap=enter).stdout == "ran\n"


@pytest.mark.skipif(not (DEVICES / "devices.list").exists(), reason="no v1 devices hierarchy on this host")
@pytest.mark.differs(crun="crun 1.8.1 does not run on a hybrid host", sometimes=True)
def test_root_of_a_user_namespace_has_limits_without_device_rules(container: Any) -> None:
    box = container(["sleep", "100"])
    box.config["linux"]["resources"] = {
        "devices": [{"allow": False, "access": "rwm"}],
        "pids": {"limit": 50},
        "memory": {"limit": 64 * MIB},
    }
    inside = [sys.executable, "-c", AS_ROOT_OF_A_USER_NAMESPACE]
    result = box.create(wrap=inside)
    path = box.config["linux"]["cgroupsPath"]
    assert Path(f"/sys/fs/cgroup/pids{path}/pids.max").read_text() == "50\n"
    assert Path(f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes").read_text() == f"{64 * MIB}\n"
    if box.runtime.is_ours:
        assert "/linux/resources/devices: not in force" in result.stderr
    box.start(wrap=inside)
    resources = json.dumps({"pids": {"limit": 40}})
    box.runtime.run("update", "--resources", "-", box.id, stdin=resources, wrap=inside)
    assert Path(f"/sys/fs/cgroup/pids{path}/pids.max").read_text() == "40\n"
    box.runtime.run("pause", box.id, wrap=inside)
    box.runtime.run("resume", box.id, wrap=inside)
    box.delete("--force", wrap=inside)
    assert not Path(f"/sys/fs/cgroup/pids{path}").exists()
