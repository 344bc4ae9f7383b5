"""The sync socket: one JSON object a packet, descriptors beside it."""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyruntime.errors import ConfigError, HookError, PyruntimeError, StateError, StepError
from pyruntime.runtime import channel
from pyruntime.runtime.channel import Channel

pytestmark = pytest.mark.usefixtures("never_hang", "leaves_nothing")


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_message_is_one_json_object(pair: tuple[Channel, Channel]) -> None:
    pair[0].send(channel.READY)
    pair[0].send(channel.LOG, ["debug", "ü\n\udcff"])
    assert json.loads(pair[1].socket.recv(1000)) == {"type": "procReady"}
    assert pair[1].receive() == (channel.LOG, ["debug", "ü\n\udcff"], [])


def test_descriptors_travel_beside_a_message(pair: tuple[Channel, Channel], tmp_path: Path) -> None:
    ends = os.pipe()
    pair[0].send(channel.MOUNT_FD, {"at": 1}, fds=ends)
    for fd in ends:
        os.close(fd)
    type, arg, fds = pair[1].receive()
    assert (type, arg, len(fds)) == (channel.MOUNT_FD, {"at": 1}, 2)
    os.write(fds[1], b"through")
    assert os.read(fds[0], 10) == b"through"
    for fd in fds:
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        os.close(fd)


def test_too_many_descriptors_are_refused_and_not_kept(pair: tuple[Channel, Channel]) -> None:
    """`leaves_nothing` counts: what came along with a refused message must be closed."""
    fd = os.open("/", os.O_RDONLY)
    many = array.array("i", [fd] * 40)
    pair[0].socket.sendmsg([b'{"type":"procMountFd"}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
    os.close(fd)
    with pytest.raises(StepError, match="cut short"):
        pair[1].receive()


def test_the_end_is_no_message(pair: tuple[Channel, Channel]) -> None:
    pair[0].close()
    assert pair[1].receive() == ("", None, [])
    with pytest.raises(StepError, match="expected procRun, but the other end is gone"):
        pair[1].expect(channel.RUN)
    with pytest.raises(BrokenPipeError):
        pair[1].send(channel.READY)


def test_a_long_error_fits_into_a_packet(pair: tuple[Channel, Channel]) -> None:
    pair[0].send_error(HookError("it said: " + "\x00" * 10 * channel.MAX_PACKET, hint="less"))
    type, arg, _ = pair[1].receive()
    assert type == channel.ERROR
    assert arg["hint"] == "less"
    assert arg["message"].startswith("it said: ")


def test_the_kind_of_an_error_survives(pair: tuple[Channel, Channel]) -> None:
    for error in (ConfigError("a"), StepError("b"), HookError("c"), StateError("d"), PyruntimeError("e")):
        pair[0].send_error(error)
        with pytest.raises(PyruntimeError) as caught:
            pair[1].expect(channel.READY)
        assert type(caught.value) is type(error)


def test_both_ends_close_at_an_execve(pair: tuple[Channel, Channel]) -> None:
    for end in pair:
        assert fcntl.fcntl(end.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
