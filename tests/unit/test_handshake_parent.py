"""The real parent of docs/handshake.md with an init of the test's."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.handshake import SECONDS, attend, fail_as_hook, play_all, write

from pyruntime.errors import ConfigError, HookError, StepError
from pyruntime.plan.step import HOOKS, READY, Step
from pyruntime.runtime import channel
from pyruntime.runtime.channel import Channel
from pyruntime.state import store
from pyruntime.util.log import Log

pytestmark = pytest.mark.usefixtures("never_hang", "leaves_nothing")


def test_the_parent_answers_in_order(tmp_path: Path) -> None:
    log = tmp_path / "steps"
    steps = {phase: [Step("", write, path=str(log), text=phase)] for phase in (HOOKS, READY)}

    def script(init: Channel) -> None:
        assert not log.exists()
        init.send(channel.HOOKS)
        init.expect(channel.HOOKS_DONE)
        assert log.read_text().split() == [HOOKS]
        assert not (tmp_path / store.RECORD).exists()
        init.send(channel.READY)
        init.expect(channel.RUN)
        assert log.read_text().split() == [HOOKS, READY]
        # The record says "created" before init is told to go on.
        assert json.loads((tmp_path / store.RECORD).read_text())["created"]
        init.send(channel.WAITING)

    made, status = attend(tmp_path, script, steps)
    assert status == 0
    assert made.record.created.endswith("Z")


def test_the_parent_raises_what_init_reports(tmp_path: Path) -> None:
    def script(init: Channel) -> None:
        init.send_error(ConfigError("no such", pointer="/mounts/1", hint="make it"))

    with pytest.raises(ConfigError) as caught:
        attend(tmp_path, script)
    assert str(caught.value) == "config.json: /mounts/1: no such; make it"


def test_a_failing_hook_is_raised_and_nothing_is_answered(tmp_path: Path) -> None:
    answer = tmp_path / "answer"

    def script(init: Channel) -> None:
        init.send(channel.HOOKS)
        answer.write_text(repr(init.receive()))

    with pytest.raises(HookError, match="createRuntime hook #0"):
        attend(tmp_path, script, {HOOKS: [Step("", fail_as_hook)]})
    assert not answer.exists() or channel.HOOKS_DONE not in answer.read_text()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda init: os._exit(7), "exit status 7"),
        (lambda init: os.kill(os.getpid(), signal.SIGTERM), "killed by signal 15"),
        (lambda init: os.kill(os.getpid(), signal.SIGKILL), "killed by signal 9"),
    ],
    ids=["exits", "is ended", "is killed"],
)
@pytest.mark.parametrize("before", [0, 1, 2], ids=["at once", "after hooks", "after ready"])
def test_a_dead_init_is_noticed(tmp_path: Path, end: Callable[[Channel], Any], words: str, before: int) -> None:
    def script(init: Channel) -> None:
        for question, answer in [(channel.HOOKS, channel.HOOKS_DONE), (channel.READY, channel.RUN)][:before]:
            init.send(question)
            init.expect(answer)
        end(init)

    with pytest.raises(StepError, match="init died: .*" + words) as caught:
        attend(tmp_path, script)
    assert "dmesg" in (caught.value.hint or "")


def test_an_init_that_closes_and_lives_on_is_ended(tmp_path: Path) -> None:
    def script(init: Channel) -> None:
        init.close()
        time.sleep(SECONDS)

    began = time.monotonic()
    with pytest.raises(StepError, match="killed by signal 9"):
        attend(tmp_path, script)
    assert time.monotonic() - began < SECONDS / 2


def test_an_unknown_message_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="init sent procDance, which the parent does not know"):
        attend(tmp_path, lambda init: init.send("procDance"))


@pytest.mark.parametrize(
    "packet", [b"{", b"[]", b"1", b'"text"', b"null", b'{"arg": 1}', b"\xff"], ids=lambda packet: repr(packet)
)
def test_a_message_that_is_none_is_refused(tmp_path: Path, packet: bytes) -> None:
    with pytest.raises(StepError, match="cannot be read"):
        attend(tmp_path, lambda init: init.socket.send(packet))


def test_a_message_cut_short_is_refused(tmp_path: Path) -> None:
    def script(init: Channel) -> None:
        init.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * channel.MAX_PACKET)
        init.socket.send(b'{"type":"procReady","arg":"' + b"x" * 2 * channel.MAX_PACKET + b'"}')

    with pytest.raises(StepError, match="cut short"):
        attend(tmp_path, script)


def test_what_init_says_goes_to_the_log(tmp_path: Path) -> None:
    def script(init: Channel) -> None:
        init.send(channel.LOG, ["warning", "mind the gap"])
        init.send(channel.LOG, ["debug", "not without --debug"])
        play_all(init)

    assert attend(tmp_path, script)[1] == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["level"], line["msg"]) for line in lines] == [("warning", "mind the gap")]


def test_debug_tells_the_parents_steps(tmp_path: Path) -> None:
    def script(init: Channel) -> None:
        init.send(channel.LOG, ["debug", "init: at work"])
        play_all(init)

    log = Log(str(tmp_path / "log"), "json", debug=True)
    steps = {HOOKS: [Step("", write, path=str(tmp_path / "steps"), text="hello")]}
    assert attend(tmp_path, script, steps, log=log)[1] == 0
    said = [json.loads(line)["msg"] for line in (tmp_path / "log").read_text().splitlines()]
    assert said == ["init: at work", "parent: write hello"]
