"""--process and --resources read what a shell can give them: pipes, FIFOs and standard input, as well as files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading

import pytest
from support.refusal import refused

PROCESS = json.dumps({"cwd": "/", "args": ["/bin/echo", "it", "ran"]})


@pytest.fixture
def box(container):
    made = container(["/bin/sleep", "1000"])
    made.config["linux"]["resources"] = {"pids": {"limit": 50}}
    made.create()
    made.start()
    return made


@pytest.fixture(params=["pipe", "socket", "FIFO", "descriptor"])
def given(request, tmp_path):
    """A way to give a text to a command: a function of it that returns (name of the file, options for the call)."""
    opened: list[int] = []
    threads: list[threading.Thread] = []

    def give(text: str) -> tuple[str, dict]:
        if request.param == "FIFO":
            path = tmp_path / "fifo"
            os.mkfifo(path)
            # The writer comes later than the reader.
            timer = threading.Timer(0.3, path.write_text, (text,))
            timer.daemon = True
            timer.start()
            threads.append(timer)
            return str(path), {}
        if request.param == "socket":
            ours, theirs = socket.socketpair()
            ours.sendall(text.encode())
            ours.close()
            opened.append(theirs.detach())
            return "/dev/stdin", {"stdin": opened[-1]}
        reader, writer = os.pipe()
        os.write(writer, text.encode())
        os.close(writer)
        opened.append(reader)
        if request.param == "descriptor":
            return f"/dev/fd/{reader}", {"pass_fds": [reader]}
        return "/dev/stdin", {"stdin": reader}

    give.kind = request.param
    yield give
    for fd in opened:
        os.close(fd)
    for thread in threads:
        # One that nothing has read from is let go.
        reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        thread.join(5)
        os.close(reader)


def test_exec(box, given):
    if given.kind == "socket" and not box.runtime.is_ours:
        pytest.skip("runc and crun open /dev/stdin by its name, which does not work for a socket")
    path, options = given(PROCESS)
    assert box.runtime.run("exec", "--process", path, box.id, timeout=10, **options).stdout == "it ran\n"


def test_update(box, given):
    if given.kind == "socket" and not box.runtime.is_ours:
        pytest.skip("runc and crun open /dev/stdin by its name, which does not work for a socket")
    path, options = given(json.dumps({"pids": {"limit": 33}}))
    box.runtime.run("update", "--resources", path, box.id, timeout=10, **options)
    script = "cat /sys/fs/cgroup/pids*/$0/pids.max /sys/fs/cgroup/$0/pids.max 2>/dev/null"
    place = box.config["linux"]["cgroupsPath"].lstrip("/")
    assert subprocess.run(["sh", "-c", script, place], capture_output=True, text=True).stdout.split() == ["33"]


@pytest.mark.ours
@pytest.mark.parametrize(
    ("path", "words"),
    [("/dev/null", "is empty"), ("/dev/zero", "larger than 32 MiB"), ("/", "is a directory"), ("/nosuch", "no such")],
)
def test_what_cannot_be_read(box, path, words):
    refused(box.runtime, box.runtime.run("exec", "--process", path, box.id, check=None, timeout=10), path, words)
