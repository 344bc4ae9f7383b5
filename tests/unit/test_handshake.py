"""Parent and init together, without a namespace."""

from __future__ import annotations

import json
import os
import select
from pathlib import Path
from typing import Any

import pytest
from support.handshake import attend, ended, execute, leave, make_parent, refuse, run, write

from pyruntime.errors import ConfigError, StepError
from pyruntime.plan.step import BECOME, BUILD, ENTER, EXECUTE, HOOKS, READY, SETUP, Step
from pyruntime.runtime import channel, exec_fifo, parent
from pyruntime.runtime.channel import Channel
from pyruntime.state import store
from pyruntime.state.status import status_of

pytestmark = pytest.mark.usefixtures("never_hang", "leaves_nothing")


def create(directory: Path, steps: dict[str, list[Step]]) -> parent.Parent:
    made = make_parent(directory, steps)
    try:
        parent.create(made)
    finally:
        if made.channel is not None:
            made.channel.close()
    return made


def test_create_and_start_together(tmp_path: Path) -> None:
    log = tmp_path / "steps"
    steps = {phase: [Step("", write, path=str(log), text=phase)] for phase in (SETUP, BUILD, HOOKS, ENTER, READY)}
    steps[BECOME] = run("sh")
    steps[EXECUTE] = execute("sh", "-c", f"echo {EXECUTE} >> {log}; exit 3")
    made = create(tmp_path, steps)
    assert log.read_text().split() == [SETUP, BUILD, HOOKS, ENTER, READY]
    assert made.record.pid == made.pid > 0
    assert status_of(made.record) == "created"
    # What the record on disk says is what the parent has.
    assert json.loads((tmp_path / store.RECORD).read_text())["pid"] == made.pid
    exec_fifo.release_init(made.record)
    os.close(made.pidfd)
    assert ended(made.pid) == 3
    assert log.read_text().split()[-1] == EXECUTE
    assert status_of(made.record) == "stopped"


@pytest.mark.parametrize("phase", [SETUP, BUILD, HOOKS, ENTER, READY, BECOME])
def test_a_failure_in_any_phase_leaves_no_process(tmp_path: Path, phase: str) -> None:
    """`leaves_nothing` looks for a child; the record still names what may have been made."""
    with pytest.raises(ConfigError, match="will not do") as caught:
        create(tmp_path, {phase: [Step("/hostname", refuse)]})
    assert caught.value.pointer == "/hostname"
    record = json.loads((tmp_path / store.RECORD).read_text())
    assert record["pid"] > 0


def test_an_init_that_dies_in_a_step(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="init died: exit status 42"):
        create(tmp_path, {ENTER: [Step("", leave, status=42)]})
    with pytest.raises(FileExistsError):
        exec_fifo.make(str(tmp_path))


def test_an_init_that_dies_while_the_parent_speaks(tmp_path: Path) -> None:
    """The answer to procHooks meets a socket without a reader: an error, no SIGPIPE."""

    def script(init: Channel) -> None:
        init.send(channel.HOOKS)
        init.close()
        os._exit(5)

    def wait(actor: Any) -> None:
        """wait for init's end"""
        select.select([actor.pidfd], [], [])

    with pytest.raises((BrokenPipeError, ConnectionResetError, StepError)):
        attend(tmp_path, script, {HOOKS: [Step("", wait)]})
