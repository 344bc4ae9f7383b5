"""--log and --trace on what is no regular file: a FIFO must not hang the command, whatever its reader does."""

from __future__ import annotations

import os

import pytest
from support import leaks

ID = f"{leaks.PREFIX}-log"


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "log"
    os.mkfifo(path)
    return path


@pytest.mark.differs(runc="runc waits for a reader", crun="crun waits for a reader")
def test_a_fifo_without_a_reader(runtime, fifo):
    result = runtime.run("state", ID, flags=("--log", str(fifo)), check=None, timeout=5)
    assert result.code != 0
    assert "does not exist" in result.stderr
    assert str(fifo) in result.stderr


def test_a_fifo_with_a_reader(runtime, fifo):
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        runtime.run("state", ID, flags=("--log", str(fifo)), check=1, timeout=5)
        assert b"does not exist" in os.read(reader, 65536)
    finally:
        os.close(reader)


@pytest.mark.ours
def test_a_fifo_that_nothing_is_read_from(runtime, fifo):
    """It is full: the line goes to standard error, after a second."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        result = runtime.run("state", ID, flags=("--log", str(fifo)), check=1, timeout=5)
        assert f"cannot write the log {fifo}" in result.stderr
        assert "does not exist" in result.stderr
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.ours
def test_a_trace_into_a_fifo(runtime, fifo):
    result = runtime.run("delete", "--trace", str(fifo), ID, check=1, timeout=5)
    assert f"{fifo}: it is a FIFO" in result.stderr
