"""The exec fifo: whoever waits at it, opens it, or dies meanwhile, nothing hangs."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

import pytest
from support.handshake import SECONDS, FakeParent, die, done, execute, run

from pyruntime.errors import StateError
from pyruntime.plan.step import BECOME, EXECUTE, Step
from pyruntime.runtime import exec_fifo
from pyruntime.state import store
from pyruntime.state.status import waits_for_start

pytestmark = pytest.mark.usefixtures("never_hang", "leaves_nothing")


def test_start_of_a_dead_init_does_not_hang(fake_parent: FakeParent) -> None:
    fake_parent.send_plan({BECOME: run("true"), EXECUTE: execute("true")})
    fake_parent.attend()
    os.kill(fake_parent.pid, signal.SIGKILL)
    assert done(fake_parent) == -signal.SIGKILL
    with pytest.raises(StateError, match="init is gone"):
        exec_fifo.release_init(fake_parent.record)


def test_start_twice(fake_parent: FakeParent) -> None:
    fake_parent.send_plan({BECOME: run("sleep"), EXECUTE: execute("sleep", str(SECONDS))})
    fake_parent.attend()
    exec_fifo.release_init(fake_parent.record)
    assert not waits_for_start(fake_parent.record)
    with pytest.raises(StateError, match="init is gone"):
        exec_fifo.release_init(fake_parent.record)


def test_start_returns_only_after_the_execve(fake_parent: FakeParent) -> None:
    """libcontainer's fifo tells earlier: /proc/PID/exe may still be the runtime's then."""
    fake_parent.send_plan({BECOME: run("sleep"), EXECUTE: execute("sleep", str(SECONDS))})
    fake_parent.attend()
    own = os.readlink("/proc/self/exe")
    assert os.readlink(f"/proc/{fake_parent.pid}/exe") == own
    exec_fifo.release_init(fake_parent.record)
    assert os.readlink(f"/proc/{fake_parent.pid}/exe") != own


def test_init_killed_while_start_waits(fake_parent: FakeParent) -> None:
    """The end of the last reader ends the wait, whatever ended it; state then says `stopped`."""
    fake_parent.send_plan({EXECUTE: [Step("", die, number=int(signal.SIGKILL))]})
    fake_parent.attend()
    exec_fifo.release_init(fake_parent.record)
    assert done(fake_parent) == -signal.SIGKILL


def test_the_exec_fifo_ignores_what_is_no_go(fake_parent: FakeParent) -> None:
    fake_parent.send_plan({BECOME: run("true"), EXECUTE: execute("true")})
    fake_parent.attend()
    with open(fake_parent.record.path(store.FIFO), "wb", buffering=0) as fifo:
        fifo.write(b"xyz")
    time.sleep(0.05)
    assert waits_for_start(fake_parent.record)
    exec_fifo.release_init(fake_parent.record)
    assert done(fake_parent) == 0


def test_looking_at_the_exec_fifo_does_not_open_it(fake_parent: FakeParent) -> None:
    """`state` opens the fifo to see who holds it; init must not take that for a start."""
    fake_parent.send_plan({BECOME: run("true"), EXECUTE: execute("true")})
    fake_parent.attend()
    for _ in range(20):
        assert waits_for_start(fake_parent.record)
    time.sleep(0.05)
    assert waits_for_start(fake_parent.record)


def test_an_exec_fifo_is_made_once(tmp_path: Path) -> None:
    fifo, failure = exec_fifo.make(str(tmp_path))
    with pytest.raises(FileExistsError):
        exec_fifo.make(str(tmp_path))
    for fd in (fifo, failure):
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        os.close(fd)
