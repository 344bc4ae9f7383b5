"""Mounts of type cgroup: what a container sees of its own cgroups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import config as configs
from support.container import Container

TOP = Path("/sys/fs/cgroup")
OPTIONS = ["nosuid", "noexec", "nodev", "relatime"]

pytestmark = pytest.mark.skipif(
    not (TOP / "pids/cgroup.procs").exists(), reason="no v1 hierarchies on this host (v2: `make test-vm`)"
)


def hierarchies() -> list[str]:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return [name.removeprefix("name=") for _, name, _ in (line.split(":", 2) for line in lines) if name]


def running(make: Any, *, own: bool, options: list[str], sh: str = "sleep 100") -> Container:
    one: Container = make(sh=sh)
    if own:
        configs.set_namespace(one.config, "cgroup")
    configs.add_mount(one.config, "/sys/fs/cgroup", "cgroup", "cgroup", options)
    one.create()
    one.start()
    return one


OWN_OPTIONS = pytest.mark.differs(
    runc="runc adds them in a cgroup namespace only", crun="crun goes by the options", sometimes=True
)
UNSAFE = [pytest.param(options, marks=OWN_OPTIONS) for options in ([], ["suid", "exec", "dev"])]


@pytest.mark.parametrize("own", [False, True], ids=["host's cgroup namespace", "own cgroup namespace"])
@pytest.mark.parametrize("options", [[*OPTIONS, "rw"], *UNSAFE], ids=" ".join)
def test_container_sees_its_own_cgroup_and_nothing_else(container: Any, own: bool, options: list[str]) -> None:
    """No cgroup filesystem has programs or devices, whatever the options say."""
    one = running(container, own=own, options=options)
    for name in hierarchies():
        directory = one.root / "sys/fs/cgroup" / name
        assert str(one.pid) in (directory / "cgroup.procs").read_text().split(), name
        assert not [path for path in directory.iterdir() if path.is_dir()], name
    mounts = {mount.target: mount for mount in one.mounts()}
    assert mounts["/sys/fs/cgroup"].fstype == "tmpfs"
    for name in hierarchies():
        mount = mounts[f"/sys/fs/cgroup/{name}"]
        assert mount.fstype == "cgroup"
        assert {"nosuid", "noexec", "nodev"} <= set(mount.options)


@pytest.mark.parametrize("own", [False, True], ids=["host's cgroup namespace", "own cgroup namespace"])
def test_read_only(container: Any, own: bool) -> None:
    script = "mkdir /sys/fs/cgroup/pids/new; mkdir /sys/fs/cgroup/new; echo done; sleep 100"
    one = running(container, own=own, options=[*OPTIONS, "ro"], sh=script)
    one.await_output("done")
    assert one.created is not None
    assert one.created.stderr.count("can't create directory") == 2
    assert not (one.root / "sys/fs/cgroup/pids/new").exists()
    for mount in one.mounts():
        if mount.target.startswith("/sys/fs/cgroup"):
            assert "ro" in mount.options, mount


def test_writable_cgroup_is_removed_with_what_was_made_in_it(container: Any) -> None:
    script = "mkdir -p /sys/fs/cgroup/pids/a/b /sys/fs/cgroup/devices/c; echo done; sleep 100"
    one = running(container, own=True, options=[*OPTIONS, "rw"], sh=script)
    one.await_output("done")
    path = one.config["linux"]["cgroupsPath"].lstrip("/")
    assert (TOP / "pids" / path / "a/b").exists()
    one.delete("--force")
    assert not (TOP / "pids" / path).exists()
    assert not (TOP / "devices" / path).exists()


@pytest.mark.parametrize("own", [False, True], ids=["host's cgroup namespace", "own cgroup namespace"])
def test_in_a_user_namespace(container: Any, own: bool) -> None:
    one: Container = container(["sleep", "100"])
    configs.map_ids(one.config)
    if own:
        configs.set_namespace(one.config, "cgroup")
    configs.add_mount(one.config, "/sys/fs/cgroup", "cgroup", "cgroup", [*OPTIONS, "ro"])
    one.create()
    one.start()
    for name in hierarchies():
        assert str(one.pid) in (one.root / "sys/fs/cgroup" / name / "cgroup.procs").read_text().split(), name
