"""--systemd-cgroup for an ordinary user: the scope is made by the user's own systemd, over the user's D-Bus.

Beside test_rootless.py, whose user and containers these are; `make test-vm` has such a user."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support import proc

from linux.test_rootless import base, box, granted, place, user  # noqa: F401  # pytest's fixtures

BUS = Path(f"/run/user/{os.geteuid()}/bus")
FLAGS = ("--systemd-cgroup",)
MIB = 1 << 20

pytestmark = [
    pytest.mark.ours,
    pytest.mark.rootless,
    pytest.mark.skipif(
        os.geteuid() == 0 or not BUS.exists(), reason="needs an ordinary user with a systemd (`make test-vm` has one)"
    ),
]


def show(unit: str, name: str) -> str:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(BUS.parent)}
    command = ["systemctl", "--user", "show", "-P", name, unit]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def scoped(box, user):  # noqa: F811
    """A container in a scope of the user's, with limits."""
    one = box()
    user.env = {**user.env, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={BUS}"}
    one.linux["cgroupsPath"] = f"user.slice:box:{one.id}"
    one.linux["resources"] = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 33}}
    return one


def test_a_scope_with_limits(scoped):
    unit = f"box-{scoped.id}.scope"
    scoped.do("create", flags=FLAGS)
    pid = json.loads(scoped.do("state").stdout)["pid"]
    where = proc.cgroups(proc.read(pid, "cgroup"))[""]
    assert where.endswith(f"/user@{os.geteuid()}.service/user.slice/{unit}")
    folder = Path("/sys/fs/cgroup") / where.lstrip("/")
    assert (folder / "memory.max").read_text().strip() == str(64 * MIB)
    assert (folder / "pids.max").read_text().strip() == "33"
    assert show(unit, "MemoryMax") == str(64 * MIB)
    assert show(unit, "TasksMax") == "33"
    scoped.do("update", "--memory", "48M")
    assert show(unit, "MemoryMax") == str(48 * MIB)
    scoped.do("start")
    assert scoped.exec("cat", "/proc/self/cgroup").stdout.endswith("\n")
    scoped.do("delete", "--force")
    assert not folder.exists()
    assert show(unit, "ActiveState") == "inactive"


def test_without_a_bus_the_error_names_it(scoped):
    scoped.user.env = {**scoped.user.env, "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
    result = scoped.do("create", check=1, flags=FLAGS)
    assert "cannot reach systemd over the user's D-Bus" in result.stderr
