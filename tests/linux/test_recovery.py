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
