"""Two commands on one container at once: each acts on what the other has left, never on what it saw before."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.handshake import ended, fork

from pyruntime.cli import main
from pyruntime.commands import delete as delete_command
from pyruntime.commands import start as start_command
from pyruntime.errors import NotFound, StateError
from pyruntime.state import directory as state_directory
from pyruntime.state import store
from pyruntime.state.store import Record
from pyruntime.util.log import Log
from pyruntime.util.procfs import start_time

pytestmark = pytest.mark.usefixtures("never_hang")


class Creating:
    """A container in the hands of a `create` that holds its lock."""

    def __init__(self, root: str) -> None:
        self.root = root
        directory, self.held = store.make(root, "box")
        self.record = Record(directory, "box")
        self.record.oci_version = "1.2.0"
        self.pid = 0

    def finish(self) -> None:
        """init runs and is in the record; the lock is given back."""

        def init() -> None:
            os.close(self.held)
            time.sleep(60)

        self.pid = fork(init)
        self.record.pid, self.record.start = self.pid, start_time(self.pid)
        self.record.created = "2024-01-01T00:00:00Z"
        self.record.save()
        os.close(self.held)


@pytest.fixture
def creating(tmp_path: Path) -> Iterator[Creating]:
    made = Creating(str(tmp_path / "root"))
    yield made
    if made.pid:
        try:
            os.kill(made.pid, signal.SIGKILL)
            ended(made.pid)
        except (ChildProcessError, ProcessLookupError):
            pass


def beside(creating: Creating, command: Callable[[], None]) -> int:
    """Run a command in a child, which waits for the lock; then let `create` finish: the child's status."""

    def child() -> None:
        os.close(creating.held)
        command()

    pid = fork(child)
    time.sleep(0.1)
    creating.finish()
    return ended(pid)


@pytest.mark.parametrize("recorded", [True, False], ids=["with a record", "before the first record"])
def test_delete_kills_an_init_that_was_made_while_it_waited(creating: Creating, recorded: bool) -> None:
    if recorded:
        creating.record.save()

    def delete() -> None:
        status = main.run(["--root", creating.root, "delete", "--force", "box"])
        assert status == 0

    assert beside(creating, delete) == 0
    assert start_time(creating.pid) == 0
    assert not os.path.exists(creating.record.directory)


def test_start_sees_the_status_that_create_left(creating: Creating) -> None:
    """It waits for `create`, and then judges: here the container runs already."""
    creating.record.save()

    def start() -> None:
        with pytest.raises(StateError, match="already running container: box is running"):
            start_command.start(store.load(creating.root, "box"), Log())

    assert beside(creating, start) == 0


def test_delete_twice_at_once(creating: Creating) -> None:
    """The second finds nothing any more; with --force that is what it wanted."""
    creating.record.created = "now"
    creating.record.save()
    os.close(creating.held)
    first = store.load(creating.root, "box")
    second = store.load(creating.root, "box")
    delete_command.delete(first, force=False, log=Log())
    with pytest.raises(NotFound):
        delete_command.delete(second, force=False, log=Log())
    assert main.run(["--root", creating.root, "delete", "--force", "box"]) == 0
    assert main.run(["--root", creating.root, "delete", "box"]) == 1


def test_delete_of_what_runs_needs_force(creating: Creating) -> None:
    creating.finish()
    with pytest.raises(StateError, match="cannot delete container box that is not stopped: running"):
        delete_command.delete(creating.record, force=False, log=Log())
    assert start_time(creating.pid) > 0
    delete_command.delete(creating.record, force=True, log=Log())
    assert start_time(creating.pid) == 0


def test_delete_by_force_goes_by_what_was_recorded_meanwhile(tmp_path: Path) -> None:
    """A create that was slow has brought its init to life while the lock was waited for."""
    directory, lock = store.make(str(tmp_path), "box")
    stale = store.Record(directory, "box")
    stale.save()
    init = subprocess.Popen(["/bin/sleep", "100"])

    def end_create() -> None:
        time.sleep(1.5)
        record = store.Record(directory, "box")
        record.pid, record.start = init.pid, start_time(init.pid)
        record.save()
        os.close(lock)

    thread = threading.Thread(target=end_create)
    thread.start()
    reaper = threading.Thread(target=init.wait)
    reaper.start()
    try:
        delete_command.delete(stale, force=True, log=Log())
        reaper.join(5)
        assert init.returncode == -9
    finally:
        thread.join()
        init.kill()
        reaper.join()


@pytest.mark.parametrize(
    "act",
    [
        lambda stale: start_command.start(stale, Log()),
        lambda stale: delete_command.delete(stale, force=True, log=Log()),
        lambda stale: delete_command.undo_created(stale, Log(), StateError("start failed")),
    ],
    ids=["start", "delete", "undo"],
)
def test_another_container_of_the_name_is_left_alone(creating: Creating, act: Callable[[Record], None]) -> None:
    """`run` goes on with its container after others have deleted it and created one anew."""
    stale = Record(creating.record.directory, "box")
    stale.pid, stale.start = os.getpid(), 1  # an init that is dead
    creating.finish()
    try:
        act(stale)
    except NotFound:
        pass
    assert start_time(creating.pid) == creating.record.start
    assert store.load(creating.root, "box").pid == creating.pid


def test_an_undo_waits_for_the_lock(creating: Creating) -> None:
    creating.finish()
    mine = store.load(creating.root, "box")
    held = store.lock(mine.directory, "box")
    undoing = threading.Thread(target=delete_command.undo_created, args=(mine, Log(), StateError("start failed")))
    undoing.start()
    time.sleep(0.2)
    assert start_time(creating.pid) > 0
    os.close(held)
    undoing.join(5)
    assert start_time(creating.pid) == 0
    assert not store.exists(creating.root, "box")


def test_create_does_not_take_over_what_another_has_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory is removed before it is locked, and a second `create` is faster."""
    root, locked = str(tmp_path), state_directory.lock

    def late(directory: str, id: str) -> int:
        monkeypatch.undo()
        os.rmdir(directory)
        made, held = store.make(root, "box")
        Record(made, "box").save()
        os.close(held)
        return locked(directory, id)

    monkeypatch.setattr(state_directory, "lock", late)
    with pytest.raises(StateError, match="already exists"):
        store.make(root, "box")
    assert store.load(root, "box").id == "box"
