"""exec with a console socket, as engines call it: a terminal of the container's devpts, its master sent out."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import struct
import termios

import pytest
from support import proc
from support.refusal import refused


@pytest.fixture
def listener(runtime):
    """(path, function that receives a master)."""
    path = runtime.folder / "console.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        one.listen()
        one.settimeout(10)

        def receive() -> int:
            connection, _ = one.accept()
            with connection:
                _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
            assert len(descriptors) == 1
            return descriptors[0]

        yield path, receive


@pytest.fixture
def box(container):
    one = container(["/bin/sleep", "1000"])
    one.process["capabilities"] = {kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}
    one.process["noNewPrivileges"] = False
    one.create()
    one.start()
    before = set(proc.children())
    yield one
    # As a shim does: init cannot end while somebody outside has not reaped a process of its pid namespace.
    for pid in set(proc.children()) - before:
        proc.wait_until(lambda pid=pid: os.waitpid(pid, os.WNOHANG)[0], f"{pid} ends")


def read_all(master: int) -> str:
    """Until the last one has closed the other side."""
    seen = b""
    while select.select([master], [], [], 10)[0]:
        try:
            seen += os.read(master, 4096)
        except OSError:  # EIO
            os.close(master)
            return seen.decode()
    raise AssertionError(f"no end: {seen!r}")


def process_file(box, script: str, **fields) -> str:
    path = box.runtime.folder / "process.json"
    process = {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/",
        **fields,
    }
    path.write_text(json.dumps(process))
    return str(path)


def start(box, listener, script: str, **fields) -> int:
    """As containerd does it: detached, a process file, a console socket."""
    path, receive = listener
    pid_file = box.runtime.folder / "exec.pid"
    words = ("--process", process_file(box, script, **fields), "--console-socket", str(path), "--detach")
    box.runtime.run("exec", *words, "--pid-file", str(pid_file), box.id)
    return receive()


def test_a_terminal_of_the_containers(box, listener):
    master = start(box, listener, "tty; tty </dev/tty; test -t 0 -a -t 1 -a -t 2 && echo all")
    assert read_all(master).split() == ["/dev/pts/0", "/dev/tty", "all"]


def test_two_at_once(box, listener):
    first = start(box, listener, "tty; read x")
    second = start(box, listener, "tty; read x")
    os.write(first, b"\n")
    os.write(second, b"\n")
    assert {read_all(first).split()[0], read_all(second).split()[0]} == {"/dev/pts/0", "/dev/pts/1"}


def test_console_size(box, listener):
    master = start(box, listener, "read x", consoleSize={"height": 40, "width": 132})
    assert struct.unpack("HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8)))[:2] == (40, 132)
    os.write(master, b"\n")
    read_all(master)


def test_line_ends_are_the_receivers(box, listener):
    """Unlike in the foreground: whoever has the master decides."""
    master = start(box, listener, "echo a")
    assert read_all(master) == "a\r\n"


@pytest.mark.differs(crun="crun 1.8.1 leaves it to root")
def test_the_terminal_is_the_users(box, listener):
    master = start(box, listener, "echo opened > $(tty); stat -c %u $(tty)", user={"uid": 1000, "gid": 1000})
    assert read_all(master).split() == ["opened", "1000"]


def test_it_is_not_the_console(box, listener):
    """/dev/console is init's, which has none here."""
    master = start(box, listener, "test -e /dev/console || echo none")
    assert read_all(master).split() == ["none"]


def test_with_flags_alone(box, listener):
    """`exec -t -d --console-socket`."""
    path, receive = listener
    box.runtime.run("exec", "-t", "-d", "--console-socket", str(path), box.id, "/bin/tty")
    assert read_all(receive()).split() == ["/dev/pts/0"]


@pytest.mark.parametrize(
    "change",
    [
        "mount -t tmpfs tmpfs /dev/pts",
        "mount -t tmpfs tmpfs /dev/pts; touch /dev/pts/ptmx",
        "mount -t tmpfs tmpfs /dev/pts; ln -s /dev/null /dev/pts/ptmx",
        "mount -t tmpfs tmpfs /dev/pts; ln -s /proc/1/fd/0 /dev/pts/ptmx",
    ],
)
def test_what_is_no_multiplexer_is_refused(box, listener, change):
    """CVE-2025-52565: the container decides what lies on /dev/pts/ptmx."""
    path, _ = listener
    box.runtime.run("exec", box.id, "/bin/sh", "-c", change)
    result = box.runtime.run("exec", "-t", "-d", "--console-socket", str(path), box.id, "/bin/tty", check=None)
    refused(box.runtime, result, "/dev/pts/ptmx")


def test_nobody_at_the_console_socket(box):
    words = ("exec", "-t", "-d", "--console-socket", "/nosuch.sock", box.id, "/bin/true")
    refused(box.runtime, box.runtime.run(*words, check=None), "no such file")
