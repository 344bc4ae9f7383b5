"""Commands that are killed half way, or that meet one another: what is left can always be deleted."""

from __future__ import annotations

import os
import time

import pytest
from support import leaks, proc
from support.refusal import nothing_left

HALF_WAY = pytest.mark.differs(
    runc="runc 1.1.5 makes the cgroup and init before it writes anything down",
    crun="crun 1.8.1 makes the cgroup and init before it writes anything down",
    sometimes=True,
)


@HALF_WAY
@pytest.mark.parametrize("milliseconds", [1, 5, 10, 15, 20, 25, 30, 40, 50])
def test_create_killed_half_way(container, milliseconds):
    """SIGKILL at any step: delete --force succeeds and leaves nothing, and the id is free again."""
    before = set(proc.children())
    box = container(["/bin/true"])
    box.bundle.save()
    command = box.runtime.spawn("create", "--bundle", box.bundle.path, box.id)
    time.sleep(milliseconds / 1000)
    command.process.kill()
    command.wait()
    box.delete("--force")
    leaks.reap()
    nothing_left(box, before)
    box.run()


def test_create_killed_with_its_init(container):
    """The machine went down, so to say: what is recorded is there, its processes are not."""
    before = set(proc.children())
    box = container(["/bin/sleep", "100"])
    box.create()
    os.kill(box.pid, 9)
    box.wait()
    box.pid_file.unlink()
    box.delete("--force")
    nothing_left(box, before)


@pytest.mark.parametrize("milliseconds", [1, 10, 20])
def test_delete_killed_half_way(container, milliseconds):
    before = set(proc.children())
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    command = box.runtime.spawn("delete", "--force", box.id)
    time.sleep(milliseconds / 1000)
    command.process.kill()
    command.wait()
    box.pid_file.unlink()
    box.delete("--force")
    leaks.reap()
    nothing_left(box, before)


def test_two_starts_at_once(container):
    """Exactly one wins; the process runs once."""
    box = container(sh="echo ran; sleep 100")
    box.create()
    attempts = [box.runtime.spawn("start", box.id) for _ in range(3)]
    codes = sorted(attempt.wait().code for attempt in attempts)
    assert codes[0] == 0
    assert all(codes[1:])
    assert box.await_output("ran") == "ran\n"


def test_two_deletes_at_once(container):
    """Both end, and nothing is left, whoever comes first."""
    before = set(proc.children())
    box = container(["/bin/sleep", "100"])
    box.create()
    attempts = [box.runtime.spawn("delete", "--force", box.id) for _ in range(2)]
    assert 0 in [attempt.wait().code for attempt in attempts]
    box.wait()
    box.pid_file.unlink()
    nothing_left(box, before)


@pytest.mark.differs(
    runc="runc 1.1.5 stumbles over one that goes away", crun="crun 1.8.1 stumbles over one", sometimes=True
)
def test_state_while_others_come_and_go(container):
    """`state` and `list` never see half a record."""
    box = container(["/bin/sleep", "100"])
    box.create()
    for _ in range(3):
        other = container()
        command = other.spawn_run()
        while command.process.poll() is None:
            assert box.status() == "created"
            assert box.id in box.runtime.run("list", "-q").stdout.split()
        assert command.wait().code == 0


ENDLESS = {"path": "/bin/sleep", "args": ["sleep", "1000"]}
STUCK = pytest.mark.ours  # runc 1.1.5 and crun 1.8.1 know of no container before it is made


def at_work(box, what: str) -> bool:
    """Whether the hook that a command of this container waits for runs: a process of this test's with these words."""
    words = [proc.read(pid, "cmdline") for pid in everybody() if proc.process_state(pid) not in ("Z", "")]
    return any(what.replace(" ", "\0") in one for one in words)


def everybody() -> list[int]:
    """This process's children and theirs, all the way down."""
    found, todo = [], proc.children()
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += proc.children(pid)
    return found


@STUCK
@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_delete_of_a_container_whose_create_hangs_in_a_hook(container, kind):
    """A hook without a timeout may take for ever; a container must go all the same."""
    before = set(proc.children())
    box = container()
    box.config["hooks"] = {kind: [ENDLESS]}
    box.bundle.save()
    command = box.runtime.spawn("create", "--bundle", box.bundle.path, box.id)
    proc.wait_until(lambda: at_work(box, "sleep 1000"), "the hook runs")
    assert box.status() == "creating"
    if kind == "prestart":
        assert "busy" in box.runtime.run("delete", box.id, check=1, timeout=15).stderr
    began = time.monotonic()
    box.delete("--force")
    assert time.monotonic() - began < 5 * proc.SLOW
    result = command.wait(5)
    assert result.code == 1, result
    leaks.reap()
    nothing_left(box, before)


@STUCK
@pytest.mark.parametrize("kind", ["startContainer", "poststart"])
def test_delete_of_a_container_whose_start_hangs_in_a_hook(container, kind):
    before = set(proc.children())
    box = container(["/bin/sleep", "100"])
    box.config["hooks"] = {kind: [ENDLESS]}
    box.create()
    command = box.runtime.spawn("start", box.id)
    proc.wait_until(lambda: at_work(box, "sleep 1000"), "the hook runs")
    box.delete("--force")
    command.wait(5)
    box.wait()
    box.pid_file.unlink()
    leaks.reap()
    nothing_left(box, before)


@STUCK
def test_delete_of_a_container_whose_init_hangs(container):
    """Not even in a hook: stopped, before it has answered."""
    before = set(proc.children())
    box = container()
    stop = "kill -STOP $(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')"
    box.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", stop]}]}
    box.bundle.save()
    command = box.runtime.spawn("create", "--bundle", box.bundle.path, box.id)
    proc.wait_until(lambda: any(proc.process_state(pid) == "T" for pid in everybody()), "it is stopped")
    box.delete("--force")
    assert command.wait(5).code == 1
    leaks.reap()
    nothing_left(box, before)


def poststop(script: str) -> dict:
    return {"path": "/bin/sh", "args": ["sh", "-c", script]}


def killed_in_a_hook(box) -> None:
    """`delete` of a stopped container, killed once its poststop hook runs."""
    command = box.runtime.spawn("delete", "--force", box.id)
    proc.wait_until(lambda: at_work(box, "sleep 1000"), "the hook runs")
    for pid in everybody():
        if "sleep\x001000" in proc.read(pid, "cmdline"):
            hook = pid
    command.process.kill()
    command.wait()
    os.kill(hook, 9)
    leaks.reap()


@STUCK
def test_poststop_hooks_outlive_a_delete_that_is_killed(container, runtime):
    """What the first delete had not done, the next one does; a hook that hangs is not waited for a third time."""
    before = set(proc.children())
    log = runtime.folder / "hooks"
    box = container(["/bin/true"])
    box.config["hooks"] = {
        "poststop": [
            poststop(f"echo first >>{log}"),
            poststop(f"echo second >>{log}; exec sleep 1000"),
            poststop(f"echo third >>{log}"),
        ]
    }
    box.create()
    box.start()
    box.wait()
    killed_in_a_hook(box)
    assert log.read_text().split() == ["first", "second"]
    assert box.status() == "stopped"
    killed_in_a_hook(box)
    assert log.read_text().split() == ["first", "second", "second"]
    result = box.delete()
    assert log.read_text().split() == ["first", "second", "second", "third"]
    assert "poststop hook #1 was interrupted twice" in result.stderr
    box.pid_file.unlink()
    nothing_left(box, before)


@STUCK
def test_poststop_hooks_run_when_run_cannot_start(container, runtime):
    box = container()
    mark = runtime.folder / "stopped"
    box.config["hooks"] = {
        "startContainer": [{"path": "/bin/false"}],
        "poststop": [poststop(f"echo >{mark}")],
    }
    assert box.run(check=None).code == 1
    assert mark.exists()
