"""The real init of docs/handshake.md with a parent of the test's."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from support.handshake import FakeParent, crash, done, execute, fail, keep_open, refuse, run, show_state, warn, write

from pyruntime import errors
from pyruntime.errors import ConfigError, HookError, StepError
from pyruntime.features.process import user
from pyruntime.plan.step import BECOME, BUILD, ENTER, EXECUTE, Step
from pyruntime.runtime import channel, exec_fifo
from pyruntime.state import store
from pyruntime.state.status import waits_for_start

pytestmark = pytest.mark.usefixtures("never_hang", "leaves_nothing")


def test_init_goes_through_its_phases_in_order(fake_parent: FakeParent, tmp_path: Path) -> None:
    log = tmp_path / "log"
    steps = {phase: [Step("", write, path=str(log), text=phase)] for phase in (BUILD, ENTER)}
    script = f"echo {EXECUTE} >> {log}"
    steps[BECOME] = [*run("sh"), Step("", write, path=str(log), text=BECOME)]
    steps[EXECUTE] = execute("sh", "-c", script)
    fake_parent.send_plan(steps)

    def said() -> list[str]:
        return log.read_text().split() if log.exists() else []

    fake_parent.channel.expect(channel.HOOKS)
    assert said() == [BUILD]
    fake_parent.channel.send(channel.HOOKS_DONE)
    fake_parent.channel.expect(channel.READY)
    assert said() == [BUILD, ENTER]
    fake_parent.channel.send(channel.RUN)
    fake_parent.channel.expect(channel.WAITING)
    assert fake_parent.channel.receive() == ("", None, [])
    assert said() == [BUILD, ENTER, BECOME]
    assert waits_for_start(fake_parent.record)
    exec_fifo.release_init(fake_parent.record)
    assert done(fake_parent) == 0
    assert said() == [BUILD, ENTER, BECOME, EXECUTE]


def test_init_waits_for_hooks_done(fake_parent: FakeParent, tmp_path: Path) -> None:
    log = tmp_path / "log"
    fake_parent.send_plan({ENTER: [Step("", write, path=str(log), text="entered")]})
    fake_parent.channel.expect(channel.HOOKS)
    time.sleep(0.05)
    assert not log.exists()


def test_init_reports_a_failed_step(fake_parent: FakeParent) -> None:
    fake_parent.send_plan({BUILD: [Step("/mounts/3", fail, path="/no/such")]})
    type, arg, fds = fake_parent.channel.receive()
    assert (type, fds) == (channel.ERROR, [])
    error = errors.from_json(arg)
    assert isinstance(error, StepError)
    assert (error.pointer, error.errno, error.step) == ("/mounts/3", "ENOENT", "open /no/such")
    assert done(fake_parent) == 1


@pytest.mark.parametrize("phase", [BUILD, ENTER, BECOME])
def test_init_reports_what_it_refuses_in_every_phase(fake_parent: FakeParent, phase: str) -> None:
    fake_parent.send_plan({phase: [Step("/hostname", refuse)]})
    with pytest.raises(ConfigError) as caught:
        fake_parent.attend()
    error = caught.value
    assert (error.message, error.pointer) == ("will not do", "/hostname")
    assert (error.why, error.hint) == ("it is a test", "do not ask")
    assert done(fake_parent) == 1


def test_init_reports_its_own_bugs(fake_parent: FakeParent) -> None:
    fake_parent.send_plan({BUILD: [Step("", crash)]})
    with pytest.raises(StepError, match="bug in pyruntime's init: ZeroDivisionError: by zero"):
        fake_parent.attend()
    assert done(fake_parent) == 1


def test_init_reports_a_plan_that_it_cannot_read(fake_parent: FakeParent) -> None:
    fake_parent.send_text('{"debug": false, "steps"\n')
    with pytest.raises(StepError, match="bug in pyruntime's init"):
        fake_parent.attend()
    assert done(fake_parent) == 1


def test_init_obeys_an_error_of_the_parent(fake_parent: FakeParent) -> None:
    """What a hook did wrong ends init, and comes back as init's last word."""
    fake_parent.send_plan({})
    fake_parent.channel.expect(channel.HOOKS)
    fake_parent.channel.send_error(HookError("error running prestart hook #0"))
    with pytest.raises(HookError, match="prestart hook #0"):
        fake_parent.channel.expect(channel.READY)
    assert done(fake_parent) == 1


def test_init_refuses_a_message_out_of_order(fake_parent: FakeParent) -> None:
    fake_parent.send_plan({})
    fake_parent.channel.expect(channel.HOOKS)
    fake_parent.channel.send(channel.RUN)
    with pytest.raises(StepError, match="expected procHooksDone, got procRun"):
        fake_parent.channel.expect(channel.READY)
    assert done(fake_parent) == 1


def test_init_begins_no_plan_without_its_end(fake_parent: FakeParent) -> None:
    """The parent was killed before SETUP was done: nobody has written the maps, say."""
    fake_parent.send_text('{"debug": false, "user_namespace": false, "state": {}, "steps": {}}')
    assert done(fake_parent) == 1


def test_init_ends_when_the_parent_is_gone_before_the_plan(fake_parent: FakeParent) -> None:
    assert done(fake_parent) == 1


def test_init_ends_when_the_parent_dies_at_the_hooks(fake_parent: FakeParent) -> None:
    fake_parent.send_plan({})
    fake_parent.channel.expect(channel.HOOKS)
    assert done(fake_parent) == 1
    # It could tell nobody but `start`.
    text = Path(fake_parent.directory, store.FAILURE).read_text()
    assert "the other end is gone" in json.loads(text)["message"]


def test_init_warns_by_the_parent(fake_parent: FakeParent) -> None:
    fake_parent.send_plan({BUILD: [Step("", warn, text="mind the gap")]})
    arg, _ = fake_parent.channel.expect(channel.LOG)
    assert arg == ["warning", "mind the gap"]
    fake_parent.channel.expect(channel.HOOKS)


def test_init_tells_its_steps_with_debug(fake_parent: FakeParent) -> None:
    fake_parent.send_plan({BUILD: [Step("", user.set_umask, umask="0022")]}, debug=True)
    arg, _ = fake_parent.channel.expect(channel.LOG)
    assert arg == ["debug", "init: set the umask to 0022"]
    fake_parent.channel.expect(channel.HOOKS)


def test_init_shows_hooks_its_own_pid(fake_parent: FakeParent, tmp_path: Path) -> None:
    log = tmp_path / "log"
    fake_parent.send_plan({BUILD: [Step("", show_state, path=str(log))]})
    fake_parent.channel.expect(channel.HOOKS)
    shown = json.loads(log.read_text())
    assert shown == {"ociVersion": "1.2.0", "id": "box", "bundle": "/b", "status": "creating", "pid": fake_parent.pid}


def test_init_passes_no_descriptor_on(fake_parent: FakeParent, tmp_path: Path) -> None:
    """CVE-2024-21626: nothing of the host's, and the exec fifo above all, whose closing tells `start` of the execve."""
    log = tmp_path / "log"
    fake_parent.send_plan(
        {
            BUILD: [Step("", keep_open, path="/etc")],
            BECOME: run("sh"),
            EXECUTE: execute("sh", "-c", f"ls -l /proc/self/fd > {log}"),
        }
    )
    fake_parent.attend()
    exec_fifo.release_init(fake_parent.record)
    assert done(fake_parent) == 0
    listed = {line.split()[8] for line in log.read_text().splitlines()[1:]}
    # 3 is ls's own, the directory that it reads.
    assert listed == {"0", "1", "2", "3"}
    assert "/etc" not in log.read_text()


def test_without_a_process_start_says_what_is_missing(fake_parent: FakeParent) -> None:
    fake_parent.send_plan({})
    fake_parent.attend()
    with pytest.raises(StepError, match="no process to start") as caught:
        exec_fifo.release_init(fake_parent.record)
    assert caught.value.pointer == "/process/args"
    assert done(fake_parent) == 1


def test_start_reports_why_the_program_could_not_be_executed(fake_parent: FakeParent, tmp_path: Path) -> None:
    """Found at create, gone at start: nobody reads the channel any more, so it goes through the file."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    fake_parent.send_plan({BECOME: run(str(script)), EXECUTE: execute(str(script))})
    fake_parent.attend()
    script.unlink()
    with pytest.raises(StepError, match="no such file or directory") as caught:
        exec_fifo.release_init(fake_parent.record)
    assert caught.value.errno == "ENOENT"
    assert done(fake_parent) == 1
