"""Either side of the handshake played by a test: a parent of ours for the real init, an init of ours for the real
parent. No namespaces, so no root."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyruntime.errors import ConfigError, HookError
from pyruntime.features.namespaces.namespaces import Namespaces
from pyruntime.features.process import program
from pyruntime.plan.step import INIT_PHASES, PHASES, Step
from pyruntime.runtime import channel, exec_fifo, parent
from pyruntime.runtime.channel import Channel
from pyruntime.runtime.init import Init, start_initialization
from pyruntime.state.store import Record
from pyruntime.util.log import Log
from support import planning

SECONDS = 10


def fork(child: Callable[[], Any]) -> int:
    """Run a function in a child, which ends with status 0, or 99 and a traceback when it raises."""
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(SECONDS)
    try:
        child()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(99)


def ended(pid: int) -> int:
    """Wait for a child: its exit status, minus the signal's number when one ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# Steps of the test's own. They are found by name in this module, as every step of init is.


def write(actor: Any, path: str, text: str) -> None:
    """write {text}"""
    with open(path, "a") as file:
        file.write(text + "\n")


def fail(actor: Any, path: str) -> None:
    """open {path}"""
    os.open(path, os.O_RDONLY)


def refuse(actor: Any) -> None:
    """refuse"""
    raise ConfigError("will not do", why="it is a test", hint="do not ask")


def crash(actor: Any) -> None:
    """crash"""
    raise ZeroDivisionError("by zero")


def warn(actor: Any, text: str) -> None:
    """warn"""
    actor.warn(text)


def die(actor: Any, number: int) -> None:
    """die of signal {number}"""
    os.kill(os.getpid(), number)
    time.sleep(SECONDS)


def leave(actor: Any, status: int) -> None:
    """leave with status {status}"""
    os._exit(status)


def fail_as_hook(actor: Any) -> None:
    """fail as a hook does"""
    raise HookError("error running createRuntime hook #0: /bin/false: exit status 1")


def show_state(actor: Any, path: str) -> None:
    """show the state"""
    write(actor, path, json.dumps(actor.oci_state("creating")))


def keep_open(actor: Any, path: str) -> None:
    """open {path} as a descriptor that execve would keep"""
    fd = os.open(path, os.O_RDONLY)
    os.set_inheritable(fd, True)


class FakeParent:
    """The parent's ends of a forked init, which has no namespace of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = str(directory)
        self.record = Record(self.directory, "box")
        fifo, failure = exec_fifo.make(self.directory)
        read_end, self.plan_end = os.pipe2(os.O_CLOEXEC)
        self.channel, theirs = channel.pair()

        def child() -> None:
            os.close(self.plan_end)
            self.channel.close()
            start_initialization(read_end, Init(theirs, fifo, failure))

        self.pid = fork(child)
        theirs.close()
        for fd in (read_end, fifo, failure):
            os.close(fd)

    def send_plan(self, steps: dict[str, list[Step]], *, debug: bool = False) -> None:
        message = {
            "debug": debug,
            "state": {"ociVersion": "1.2.0", "id": "box", "pid": 0, "bundle": "/b"},
            "user_namespace": False,
            "steps": {phase: [one.to_json() for one in steps.get(phase, [])] for phase in INIT_PHASES},
        }
        self.send_text(json.dumps(message) + "\n")

    def send_text(self, text: str) -> None:
        """The init pipe carries one text, then the end."""
        os.write(self.plan_end, text.encode())
        os.close(self.plan_end)
        self.plan_end = -1

    def attend(self) -> None:
        """The parent's side of a start without a flaw, up to the exec fifo."""
        self.channel.expect(channel.HOOKS)
        self.channel.send(channel.HOOKS_DONE)
        self.channel.expect(channel.READY)
        self.channel.send(channel.RUN)
        self.channel.expect(channel.WAITING)
        assert self.channel.receive() == ("", None, [])

    def end(self) -> int:
        if self.plan_end >= 0:
            os.close(self.plan_end)
        self.channel.close()
        return ended(self.pid)


def done(fake: FakeParent) -> int:
    """The end of init, for a test that has seen all else."""
    status, fake.pid = fake.end(), 0
    return status


def run(*args: str) -> list[Step]:
    """Steps with which a program starts as this user."""
    return [
        Step("/process/env", program.set_environment, env=["PATH=/usr/bin:/bin", "HOME=/"]),
        Step("/process/args/0", program.find, name=args[0]),
    ]


def execute(*args: str) -> list[Step]:
    return [Step("/process/args", program.execute, args=list(args), preserve_fds=0)]


class FakePlan:
    """What Parent needs of a plan: steps for the phases, no namespaces."""

    def __init__(self, steps: dict[str, list[Step]]) -> None:
        self.request = planning.request(planning.config())
        self.namespaces = Namespaces()
        self.steps = {phase: steps.get(phase, []) for phase in PHASES}


def make_parent(directory: Path, steps: dict[str, list[Step]], log: Log | None = None) -> parent.Parent:
    record = Record(str(directory), "box")
    plan: Any = FakePlan(steps)
    return parent.Parent(plan, record, log or Log(str(directory / "log"), "json"))


def attend(
    directory: Path,
    script: Callable[[Channel], Any],
    steps: dict[str, list[Step]] | None = None,
    *,
    log: Log | None = None,
) -> tuple[parent.Parent, int]:
    """Let the real parent attend to a script played by a forked init: (parent, init's exit status)."""
    made = make_parent(directory, steps or {}, log)
    ours, theirs = channel.pair()

    def child() -> None:
        ours.close()
        script(theirs)

    made.pid = fork(child)
    made.pidfd = os.pidfd_open(made.pid)
    theirs.close()
    made.channel = ours
    try:
        parent._attend(made)
    except BaseException:
        ours.close()
        parent.end_init(made)
        raise
    os.close(made.pidfd)
    return made, ended(made.pid)


def play_all(init: Channel) -> None:
    init.send(channel.HOOKS)
    init.expect(channel.HOOKS_DONE)
    init.send(channel.READY)
    init.expect(channel.RUN)
    init.send(channel.WAITING)
