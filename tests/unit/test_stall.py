"""Whether a process goes on, as those see it who wait for it."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from support import proc
from support.handshake import ended, fork

from pyruntime import runtime
from pyruntime.errors import StepError
from pyruntime.runtime import channel, parent, stall

pytestmark = pytest.mark.usefixtures("never_hang", "leaves_nothing")


@pytest.fixture
def process() -> Iterator[Callable[[Callable[[], object]], int]]:
    """Run a function in a child, which is killed afterwards."""
    made: list[int] = []

    def make(child: Callable[[], object]) -> int:
        made.append(fork(child))
        return made[-1]

    yield make
    for pid in made:
        os.kill(pid, signal.SIGKILL)
        ended(pid)


def work() -> None:
    while True:
        time.sleep(0.001)


def wakes(pid: int) -> None:
    """Wait until the process has gone on: on a busy machine it may not get a processor for a while."""

    def switches() -> list[str]:
        return [line for line in proc.read(pid, "status").splitlines() if "ctxt_switches" in line]

    before = switches()
    proc.wait_until(lambda: switches() != before, "it goes on")


def test_who_works_is_waited_for(process) -> None:
    pid = process(work)
    watch = stall.Watch(pid, "to work")
    for _ in range(5):
        wakes(pid)
        watch.look()


def test_who_works_for_too_long_is_not(process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "LONGEST", 3 * runtime.PATIENCE)
    pid = process(work)
    watch = stall.Watch(pid, "to work")
    with pytest.raises(StepError, match="to work has taken 90 s"):
        for _ in range(3):
            wakes(pid)
            watch.look()


def test_who_is_stopped_is_not(process) -> None:
    pid = process(work)
    os.kill(pid, signal.SIGSTOP)
    proc.wait_until(lambda: proc.process_state(pid) == "T", "it is stopped")
    watch = stall.Watch(pid, "to work")
    watch.look()  # it may have run until just now
    with pytest.raises(StepError, match=rf"\(pid {pid}\) makes no progress: to work has taken 60 s: it is stopped"):
        watch.look()


def test_who_waits_for_a_hook_is_waited_for(process) -> None:
    def with_child() -> None:
        hook = os.fork()
        if hook == 0:
            signal.pause()
        ended(hook)
        signal.pause()

    pid = process(with_child)
    child = proc.wait_until(lambda: proc.children(pid), "it has a child")[0]
    watch = stall.Watch(pid, "to run a hook")
    try:
        for _ in range(5):
            watch.look()
    finally:
        os.kill(child, signal.SIGKILL)
    proc.wait_until(lambda: not proc.children(pid) and proc.process_state(pid) == "S", "it has reaped the hook")
    watch.look()
    with pytest.raises(StepError, match="to run a hook has taken"):
        watch.look()


def test_who_is_gone_is_not(process) -> None:
    pid = fork(lambda: None)
    ended(pid)
    with pytest.raises(StepError, match="it is dead"):
        stall.Watch(pid, "to live").look()


def test_the_parents_end_of_the_socket_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "PATIENCE", 0.05)
    ours, theirs = channel.pair()
    looks: list[float] = []

    def overdue() -> None:
        looks.append(time.monotonic())
        if len(looks) == 2:
            theirs.send(channel.READY)

    ours.overdue = overdue
    assert ours.receive()[0] == channel.READY
    assert len(looks) == 2
    assert looks[1] - looks[0] >= 0.04
    ours.close()
    theirs.close()


def test_a_pipe_that_nobody_reads(process, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the init pipe of a plan that is larger than it: the parent gives up, and does not hang in write(2)."""
    monkeypatch.setattr(runtime, "PATIENCE", 0.05)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    parent.await_descriptor(write_end, select.POLLOUT, process(signal.pause), "to read its plan")
    os.write(write_end, b"x" * 1_000_000)
    with pytest.raises(StepError, match="to read its plan has taken"):
        parent.await_descriptor(write_end, select.POLLOUT, process(signal.pause), "to read its plan")
    os.close(write_end)
    os.close(read_end)
