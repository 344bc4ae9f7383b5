"""A cgroup that has become another's: a path in a record says nothing of who is there now.

A container that has stopped may be deleted long afterwards. By then another one may use its cgroup, or the cgroup may
have been removed and made again.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import attack, leaks, proc
from support.config import drop_namespace
from support.container import Container


def directories(one: Container) -> list[Path]:
    """The container's cgroup in each hierarchy that has it."""
    path = one.config["linux"]["cgroupsPath"]
    return [Path(top + path) for top in leaks.hierarchies() if os.path.isdir(top + path)]


def without_pid_namespace(one: Container) -> Container:
    drop_namespace(one.config, "pid")
    one.config["mounts"] = [mount for mount in one.config["mounts"] if mount["type"] != "proc"]
    return one


def alive(pid: int) -> bool:
    return proc.process_state(pid) not in ("", "Z")


@pytest.fixture
def stranger():
    """A process of nobody's container."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def ended(container: Any, request: Any) -> Container:
    """A container that has stopped, and whose cgroup is there; the parameter "shared" leaves out the pid namespace."""
    one: Container = container(["true"])
    if getattr(request, "param", "") == "shared":
        without_pid_namespace(one)
    one.create()
    one.start()
    one.wait()
    assert directories(one)
    return one


def follower(make: Any, first: Container) -> Container:
    """A container that runs in the cgroup of a first one."""
    second: Container = make(["sleep", "1000"])
    second.config["linux"]["cgroupsPath"] = first.config["linux"]["cgroupsPath"]
    second.create()
    second.start()
    return second


COMMANDS = [("delete",), ("delete", "--force"), ("kill", "--all")]


@pytest.mark.differs(runc="runc waits for the cgroup to be empty, and fails", crun="crun kills the second one")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("ended", ["own", "shared"], indirect=True)
def test_another_container_in_the_cgroup_lives_on(container: Any, ended: Container, command: tuple[str, ...]) -> None:
    second = follower(container, ended)
    ended.runtime.run(*command, ended.id, *(["KILL"] if command[0] == "kill" else []))
    assert alive(second.pid)
    assert second.status() == "running"
    if command[0] == "kill" and ended.runtime.is_ours:
        assert ended.runtime.run("ps", "--format", "json", ended.id).stdout == "[]\n"
    assert f":{second.config['linux']['cgroupsPath']}\n" in second.proc("cgroup")
    second.runtime.run("pause", second.id)
    assert second.status() == "paused"
    second.delete("--force")
    assert directories(second) == []
    if command[0] == "kill":
        ended.delete()


@pytest.mark.ours
@pytest.mark.parametrize("ended", ["own", "shared"], indirect=True)
def test_a_cgroup_that_was_made_again(ended: Container, stranger: Any) -> None:
    found = directories(ended)
    for directory in found:
        directory.rmdir()
        directory.mkdir()
        proc_file = directory / "cgroup.procs"
        if "cpuset" not in directory.parts:
            proc_file.write_text(str(stranger.pid))
    ended.delete("--force")
    assert alive(stranger.pid)
    assert directories(ended) == found
    stranger.kill()
    stranger.wait()
    for directory in found:
        proc.wait_until(lambda directory=directory: removed(directory), "the cgroup is empty")


def removed(directory: Path) -> bool:
    try:
        directory.rmdir()
    except OSError:
        return False
    return True


@pytest.mark.ours
def test_a_process_that_was_moved_in_is_named_and_lives(ended: Container, stranger: Any) -> None:
    """As with runc: the cgroup is the container's and cannot be removed, the process is not the container's."""
    directory = next((one for one in directories(ended) if "pids" in one.parts), directories(ended)[0])
    (directory / "cgroup.procs").write_text(str(stranger.pid))
    result = ended.delete("--force", check=1)
    assert f"{stranger.pid} (sleep)" in result.stderr
    assert alive(stranger.pid)
    stranger.kill()
    stranger.wait()
    ended.delete("--force")
    assert directories(ended) == []


@pytest.mark.ours
def test_a_mark_that_a_containers_root_can_set_keeps_nothing_alive(container: Any) -> None:
    """Whoever owns the cgroup can set `user` attributes; those of root's containers are `trusted` ones."""
    one = without_pid_namespace(container(["sh", "-c", "sleep 1000 & echo $!"]))
    one.create()
    one.start()
    left = int(one.await_output("\n"))
    one.wait()
    for directory in directories(one):
        os.setxattr(directory, "user.pyruntime.owner", b"somebody else")
    assert alive(left)
    one.delete("--force")
    assert not alive(left)
    assert directories(one) == []


@pytest.mark.ours
def test_a_directory_that_was_there_before_is_the_containers(container: Any) -> None:
    one: Container = container(["sleep", "1000"])
    path = one.config["linux"]["cgroupsPath"]
    for top in leaks.hierarchies():
        os.makedirs(top + path)
    one.create()
    one.delete("--force")
    assert directories(one) == []


# `create` is killed when the record names its cgroups and before they are made.
DIES_BEFORE_IT_MAKES = """
import posix
def dies(name, directory):
    posix.kill(posix.getpid(), 9)
replace("features.cgroups.directories.make", dies)
"""


@pytest.mark.ours
def test_a_create_that_was_killed_before_it_made_the_cgroup(container: Any, weakened: Any) -> None:
    first: Container = container(["sleep", "1000"])
    ours = first.runtime
    first.runtime = weakened(DIES_BEFORE_IT_MAKES)
    first.runtime.root = ours.root
    assert first.create(check=None).code == -signal.SIGKILL
    second = follower(container, first)
    ours.run("delete", "--force", first.id)
    assert alive(second.pid)
    assert f":{second.config['linux']['cgroupsPath']}\n" in second.proc("cgroup")
    second.delete("--force")
    assert directories(second) == []


# `create` stops until a file exists when it has made its first cgroup, and nothing is in it yet.
WAITS_IN_AN_EMPTY_CGROUP = """
import os, time
def wait(record, name, directory):
    old(record, name, directory)
    while not os.path.exists({go!r}):
        time.sleep(0.01)
old = replace("state.cgroup_identity.note", wait)
"""


@pytest.mark.ours
@pytest.mark.parametrize("before", [False, True], ids=["new", "there before"])
def test_two_creates_in_one_cgroup(container: Any, weakened: Any, tmp_path: Path, before: bool) -> None:
    first: Container = container(["sleep", "1000"])
    path = first.config["linux"]["cgroupsPath"]
    if before:
        for top in leaks.hierarchies():
            os.makedirs(top + path)
    ours = first.runtime
    go = tmp_path / "go"
    first.runtime = weakened(WAITS_IN_AN_EMPTY_CGROUP.format(go=str(go)))
    first.runtime.root = ours.root
    first.bundle.save()
    command = first.runtime.spawn("create", "--bundle", str(first.bundle.path), first.id)
    proc.wait_until(lambda: waits(first), "it has claimed its cgroup")
    second: Container = container(["sleep", "1000"])
    second.config["linux"]["cgroupsPath"] = path
    result = second.create(check=None)
    go.touch()
    assert command.wait().code == 0
    assert result.code == 1
    assert "container's cgroup is in use" in result.stderr
    first.runtime = ours
    assert first.status() == "created"
    first.delete("--force")
    assert directories(first) == []


def waits(one: Container) -> bool:
    """Whether its create has claimed the first cgroup: it holds a lock on that directory."""
    inodes = {str(directory.stat().st_ino) for directory in directories(one)}
    held = [line.split() for line in Path("/proc/locks").read_text().splitlines() if " -> " not in line]  # others wait
    return any(fields[5].split(":")[2] in inodes for fields in held)


@pytest.mark.ours
def test_processes_of_another_pid_namespace_are_in_the_way(container: Any, stranger: Any) -> None:
    """cgroup.procs shows them as 0."""
    one: Container = container(["sleep", "1000"])
    path = one.config["linux"]["cgroupsPath"]
    for top in leaks.hierarchies():
        os.makedirs(top + path)
        if "cpuset" not in top:
            Path(f"{top}{path}/cgroup.procs").write_text(str(stranger.pid))
    inside = ["unshare", "--pid", "--fork", "--mount-proc"]
    result = one.create(check=1, wrap=inside)
    assert "container's cgroup is not empty" in result.stderr
    assert "some of another pid namespace" in result.stderr
    stranger.kill()
    stranger.wait()
    for directory in directories(one):
        proc.wait_until(lambda directory=directory: removed(directory), "the cgroup is empty")


@pytest.fixture
def weakened(tmp_path: Path) -> Any:
    """`weakened(code)`: a Runtime of a pyruntime with functions replaced (support/attack.py)."""
    from support.runtime import Runtime

    return lambda code: Runtime(attack.weaken(tmp_path, code), tmp_path)
