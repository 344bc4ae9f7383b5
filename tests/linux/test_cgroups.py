"""The container's cgroup: where it is, who is in it, and that it goes away.

Source: runtime-spec config-linux.md, "Control groups", "Cgroups Path". Limits have tests of their own.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support import leaks, proc
from support.config import add_mount, drop_namespace, set_namespace


def v1_paths(box) -> dict[str, str]:
    """Controllers to the path of init, in every v1 hierarchy."""
    return {name: path for name, path in proc.cgroups(box.proc("cgroup")).items() if name}


def of_host() -> set[str]:
    """The v1 hierarchies of this host. Linux since 6.11 may be built without that of memory."""
    return {name for name in proc.cgroups(proc.read("self", "cgroup")) if name}


def folders(path: str) -> list[Path]:
    """The directories of this path in all hierarchies that have it."""
    return [Path(top + path) for top in leaks.hierarchies() if os.path.isdir(top + path)]


def needs_v1() -> None:
    if not any(name for name in proc.cgroups(proc.read("self", "cgroup"))):
        pytest.skip("this machine has no cgroup v1 hierarchy")


@pytest.fixture
def elsewhere():
    """A cgroupsPath outside the usual parent of the tests; it is removed afterwards."""
    path = f"/{leaks.PREFIX}-elsewhere"
    yield path
    leaks.remove_cgroup_parent(path)


def test_absolute_path_is_obeyed_in_every_hierarchy(container):
    """Also where the caller is in a cgroup of its own, as shells here are for memory."""
    box = container(["/bin/sleep", "100"])
    box.create()
    wanted = box.config["linux"]["cgroupsPath"]
    if paths := v1_paths(box):
        assert set(paths.values()) == {wanted}
        assert set(paths) == of_host() >= {"pids", "devices", "freezer", "name=systemd"}
    for folder in folders(wanted):
        procs = (folder / "cgroup.procs").read_text().split()
        assert procs in ([str(box.pid)], []), folder
    box.start()
    assert set(v1_paths(box).values()) <= {wanted}


def test_deleted_with_the_container(container):
    box = container(["/bin/true"])
    box.create()
    wanted = box.config["linux"]["cgroupsPath"]
    assert folders(wanted)
    box.start()
    box.wait()
    box.delete()
    assert folders(wanted) == []


def test_deleted_after_run(container):
    box = container(["/bin/true"])
    box.run()
    assert folders(box.config["linux"]["cgroupsPath"]) == []


def test_deleted_with_the_ones_below(container):
    """A container, or its manager, may have made more of them."""
    box = container(["/bin/true"])
    box.create()
    wanted = box.config["linux"]["cgroupsPath"]
    for folder in folders(wanted):
        (folder / "below/deeper").mkdir(parents=True)
    box.start()
    box.wait()
    box.delete()
    assert folders(wanted) == []


def test_a_deep_path(container, elsewhere):
    """Missing parents are made, cpuset's with values that a process can live with."""
    box = container(["/bin/sleep", "100"])
    wanted = box.config["linux"]["cgroupsPath"] = f"{elsewhere}/a/b/c"
    box.create()
    assert set(v1_paths(box).values()) <= {wanted}
    box.delete("--force")
    assert folders(wanted) == []
    for path in (f"{elsewhere}/a/b", f"{elsewhere}/a"):
        leaks.remove_cgroup_parent(path)


def test_a_relative_path(container):
    """The specification leaves the place to the runtime; it has to be the container's own."""
    box = container(["/bin/sleep", "100"])
    name = f"{leaks.PREFIX}-relative"
    box.config["linux"]["cgroupsPath"] = name
    box.create()
    assert all(path.endswith(f"/{name}") for path in v1_paths(box).values())
    box.delete("--force")
    assert leaks.cgroups() == []


def test_no_path(container):
    """A place of its own, all the same, that has the id in its name."""
    box = container(["/bin/sleep", "100"])
    del box.config["linux"]["cgroupsPath"]
    box.create()
    for name, path in v1_paths(box).items():
        assert box.id in path, name
    box.delete("--force")
    assert leaks.cgroups() == []


def test_everything_the_container_starts_is_in_it(container):
    needs_v1()
    box = container(sh="sleep 100 & sleep 100 & cat /proc/self/cgroup; echo ready; wait")
    drop_namespace(box.config, "cgroup")
    box.create()
    box.start()
    box.await_output("ready")
    wanted = box.config["linux"]["cgroupsPath"]
    seen = proc.cgroups(box.output().replace("ready\n", ""))
    assert {path for name, path in seen.items() if name} == {wanted}
    for folder in folders(wanted):
        if "unified" not in str(folder):
            assert len((folder / "cgroup.procs").read_text().split()) == 3, folder


def test_cgroup_namespace_begins_at_the_containers_cgroup(container):
    """Init enters its cgroup first, so that its own is the root of the new namespace."""
    needs_v1()
    box = container(sh="cat /proc/self/cgroup")
    set_namespace(box.config, "cgroup")
    paths = proc.cgroups(box.run().stdout)
    assert {path for name, path in paths.items() if name} == {"/"}


@pytest.mark.parametrize("own_namespace", [False, True])
def test_cgroup_mount(container, own_namespace):
    """A mount of type cgroup shows the container its own cgroup in every hierarchy."""
    needs_v1()
    box = container(sh="cat /sys/fs/cgroup/pids/cgroup.procs; echo; ls /sys/fs/cgroup; sleep 100")
    add_mount(box.config, "/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "ro"])
    if own_namespace:
        set_namespace(box.config, "cgroup")
    box.create()
    box.start()
    processes, _, names = box.await_output("pids\n").partition("\n\n")
    assert "1" in processes.split()
    controllers = {one.removeprefix("name=") for name in of_host() for one in name.split(",")}
    assert controllers <= set(names.split())
    assert {"cpu", "pids", "devices", "freezer", "systemd"} <= controllers
    assert "ro" in proc.mount_at(box.mounts(), "/sys/fs/cgroup/pids").options


def test_the_runtime_stays_where_it_is(container):
    """Only init is moved: the caller of `run`, and `run` itself, stay in their cgroups."""
    box = container(sh="echo ready; sleep 100")
    command = box.spawn_run()
    proc.wait_until(lambda: "ready" in command.stdout, "the process runs")
    assert proc.read(command.process.pid, "cgroup") == proc.read("self", "cgroup")
    box.kill("KILL")
    assert command.wait().code == 137


@pytest.mark.ours
def test_systemd_cgroup_without_systemd(container):
    if os.path.isdir("/run/systemd/system"):
        pytest.skip("systemd runs here")
    box = container()
    result = box.create(flags=["--systemd-cgroup"], check=None)
    assert result.code != 0
    assert "systemd not running on this host, cannot use systemd cgroups manager" in result.stderr


def nest(top: Path, depth: int, pid: int) -> None:
    """Make cgroups one in the other below `top`, as a container can that may make any, and put a process into the
    last."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    file = os.open("cgroup.procs", os.O_WRONLY, dir_fd=here)
    os.write(file, str(pid).encode())
    os.close(file)
    os.close(here)


@pytest.mark.ours
@pytest.mark.parametrize("depth", [20, 3000])
def test_cgroups_that_are_nested_deeply(container, depth):
    """Deeper than Python calls functions, and than a path may be long. The container has no pid namespace whose end
    would take the process at the bottom away."""
    top = Path("/sys/fs/cgroup/pids")
    if not top.is_dir():
        pytest.skip(f"this host has no {top}")
    box = container(sh="sleep 1000 & echo $!; sleep 1000")
    drop_namespace(box.config, "pid")
    box.config["mounts"] = [one for one in box.config["mounts"] if one["type"] != "proc"]
    box.create()
    box.start()
    pid = int(box.await_output("\n"))
    own = top / box.config["linux"]["cgroupsPath"].lstrip("/")
    nest(own, depth, pid)
    assert pid in json.loads(box.runtime.run("ps", "--format", "json", box.id).stdout)
    box.runtime.run("pause", box.id)
    box.runtime.run("resume", box.id)
    box.runtime.run("events", "--stats", box.id)
    box.delete("--force")
    assert not own.exists()
    assert proc.process_state(pid) in ("Z", "")


# For this command alone the hierarchies are read-only, as in a container without privileges. $1: how many there are.
READ_ONLY = """
n=$1; shift
while [ "$n" -gt 0 ]; do
    mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99
    shift; n=$((n-1))
done
exec "$@"
"""


def read_only(tops: list[str]) -> list[str]:
    """A command before another one, which then sees these hierarchies read-only."""
    return ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(len(tops)), *tops]


@pytest.mark.ours
@pytest.mark.parametrize("part", ["all", "half"])
def test_read_only_cgroups_are_named_and_nothing_is_left(container, part):
    tops = leaks.hierarchies()
    tops = tops if part == "all" else tops[len(tops) // 2 :]
    box = container()
    for top in leaks.hierarchies():
        # Below a directory that exists rmdir(2) says EROFS, too, of what does not exist.
        os.makedirs(top + os.path.dirname(box.config["linux"]["cgroupsPath"]), exist_ok=True)
    result = box.run(wrap=read_only(tops), check=1)
    line = result.stderr.splitlines()[-1]
    assert "mkdir" in line
    assert "read-only file system (EROFS)" in line
    assert "--root" not in line
    assert box.runtime.run("state", box.id, check=None).code == 1
    assert folders(box.config["linux"]["cgroupsPath"]) == []
    box.delete("--force")


@pytest.mark.ours
def test_a_cgroup_that_cannot_be_removed_is_named(container):
    """The record stays, so that another delete can remove it."""
    box = container()
    box.create()
    box.start()
    box.wait()
    result = box.delete("--force", wrap=read_only(leaks.hierarchies()), check=1)
    line = result.stderr.splitlines()[-1]
    assert box.config["linux"]["cgroupsPath"] in line
    assert "read-only file system (EROFS)" in line
    assert box.status() == "stopped"
    box.delete()
    assert folders(box.config["linux"]["cgroupsPath"]) == []
