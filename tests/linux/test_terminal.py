"""process.terminal: the master goes over the console socket, the slave becomes stdio and /dev/console."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
from pathlib import Path

import pytest


@pytest.fixture
def listener(runtime):
    """An AF_UNIX socket that waits for a master, as conmon's does."""
    path = runtime.folder / "console.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        one.listen()
        one.settimeout(10)
        yield path, one


def receive(listener: socket.socket) -> int:
    connection, _ = listener.accept()
    with connection:
        _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
    assert len(descriptors) == 1
    return descriptors[0]


def read_until(master: int, text: str) -> str:
    seen = b""
    while text.encode() not in seen:
        assert select.select([master], [], [], 10)[0], f"{text!r} did not come: {seen!r}"
        try:
            data = os.read(master, 4096)
        except OSError:  # EIO: the last slave is closed
            data = b""
        assert data, f"{text!r} did not come: {seen!r}"
        seen += data
    return seen.decode()


def create(box, listener) -> int:
    path, one = listener
    box.process["terminal"] = True
    box.create("--console-socket", str(path))
    return receive(one)


def test_stdio_is_a_terminal(container, listener):
    """It is the session's controlling one, inside /dev/pts of the container."""
    box = container(sh="tty; tty < /dev/tty; test -c /dev/console && echo console; echo done")
    master = create(box, listener)
    try:
        box.start()
        lines = read_until(master, "done").split()
        assert lines == ["/dev/pts/0", "/dev/tty", "console", "done"] or lines[:1] == ["/dev/pts/0"]
        assert "console" in lines
    finally:
        os.close(master)


def test_console_size(container, listener):
    box = container(["/bin/sleep", "100"])
    box.process["consoleSize"] = {"height": 40, "width": 132}
    master = create(box, listener)
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8)))
        assert (rows, columns) == (40, 132)
    finally:
        os.close(master)


def test_input_and_interrupt(container, listener):
    """What is typed arrives, and ^C interrupts the foreground process."""
    box = container(sh='trap "echo interrupted; exit 3" INT; read line; echo "got $line"; while :; do sleep 0.02; done')
    master = create(box, listener)
    try:
        box.start()
        os.write(master, b"typed\n")
        read_until(master, "got typed")
        os.write(master, b"\x03")
        read_until(master, "interrupted")
        assert box.wait() == 3
    finally:
        os.close(master)


def test_the_terminal_is_the_users(container, listener):
    """An ordinary user can open it anew."""
    box = container(sh="echo opened > $(tty); stat -c %u $(tty)")
    box.process["user"] = {"uid": 1000, "gid": 1000}
    master = create(box, listener)
    try:
        box.start()
        assert "1000" in read_until(master, "1000")
    finally:
        os.close(master)


def test_without_a_terminal_there_is_none(container):
    box = container(sh="tty; test -e /dev/console && echo console; exit 0")
    assert box.run().stdout.split("\n")[0] == "not a tty"
    assert not Path(box.rootfs / "dev/console").exists()
