"""Terminals in the foreground: `run` with process.terminal and `exec -t`, from a terminal of the caller's."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time

import pytest
from support import proc
from support.refusal import refused
from support.runtime import ENVIRONMENT

ROWS, COLUMNS = 33, 77
RUNC_IS_LATE = "runc 1.1.5 sets size and ONLCR while the process of exec runs already"


def set_size(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Caller:
    """A terminal, and a command that has it as its controlling one."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        set_size(self.slave, ROWS, COLUMNS)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, runtime, *words: str, **streams) -> None:
        """Start a command of the runtime; standard streams are the terminal unless given."""
        files = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave} | streams

        def control() -> None:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

        command = [runtime.executable.path, "--root", str(runtime.root), *words]
        self.process = subprocess.Popen(command, env=ENVIRONMENT, preexec_fn=control, **files)

    def read_until(self, text: str) -> str:
        """What has come, up to and with the text."""
        deadline = time.monotonic() + 10
        while text.encode() not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], f"{text!r} did not come: {self.seen!r}"
            self.seen += os.read(self.master, 4096)
        head, _, self.seen = self.seen.partition(text.encode())
        return head.decode() + text

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait(self) -> int:
        """The command's exit status; what it still writes is read meanwhile."""
        deadline = time.monotonic() + 10
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"no end; {self.seen!r}"
            if select.select([self.master], [], [], 0.02)[0]:
                self.seen += os.read(self.master, 4096)
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 4096)
        return self.process.returncode

    def is_restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def caller():
    one = Caller()
    yield one
    one.close()


@pytest.fixture(params=["run", "exec"])
def start(request, container, caller):
    """Run a script with a terminal, as init by `run` or beside it by `exec -t`: start(script, flags…)."""

    def begin(script: str, *flags: str, **streams):
        words = ["/bin/sh", "-c", script]
        if request.param == "run":
            box = container(words)
            box.process["terminal"] = True
            box.bundle.save()
            caller.run(box.runtime, "run", "--bundle", str(box.bundle.path), *flags, box.id, **streams)
        else:
            box = container(["/bin/sleep", "1000"])
            box.create()
            box.start()
            caller.run(box.runtime, "exec", "--tty", *flags, box.id, *words, **streams)
        return box

    return begin


def test_it_is_a_terminal_of_the_containers(start, caller):
    start("tty; tty < /dev/tty; test -t 0 -a -t 1 -a -t 2 && echo all; echo done")
    assert caller.read_until("done").split() == ["/dev/pts/0", "/dev/tty", "all", "done"]
    assert caller.wait() == 0
    assert caller.is_restored()


@pytest.mark.parametrize("code", [0, 7])
def test_exit_status(start, caller, code):
    start(f"exit {code}")
    assert caller.wait() == code
    assert caller.is_restored()


def test_what_is_typed_arrives_raw(start, caller):
    """Also what would end or interrupt the runtime itself, were its terminal not raw."""
    start("stty raw -echo; echo ready; dd bs=1 count=5 2>/dev/null | od -An -tx1; echo done")
    caller.read_until("ready")
    caller.type("a\x03\x04\x1a\r")
    assert "61 03 04 1a 0d" in caller.read_until("done")
    assert caller.wait() == 0


def test_interrupt_key(start, caller):
    """^C is the inner terminal's: it interrupts the foreground process there."""
    start('trap "echo interrupted; exit 3" INT; echo ready; while :; do sleep 0.02; done')
    caller.read_until("ready")
    caller.type("\x03")
    caller.read_until("interrupted")
    assert caller.wait() == 3
    assert caller.is_restored()


@pytest.mark.differs(runc=RUNC_IS_LATE, crun="crun 1.8.1 leaves ONLCR to the inner terminal", sometimes=True)
def test_line_ends_as_runc_leaves_them(start, caller):
    """A new line is one byte on the inner terminal; the outer one makes two of it."""
    start("stty -a | grep -o -- '-*onlcr'; printf 'a\\nb\\n'")
    assert caller.wait() == 0
    assert caller.seen == b"-onlcr\r\na\r\nb\r\n"


@pytest.mark.differs(crun="crun 1.8.1 leaves ONLCR to the inner terminal")
def test_output_to_a_file(start, caller, tmp_path):
    path = tmp_path / "out"
    with open(path, "wb") as file:
        start("printf 'a\\nb\\n'; test -t 1 && echo terminal", stdout=file)
        assert caller.wait() == 0
    assert path.read_bytes() == b"a\nb\nterminal\n"


@pytest.mark.differs(runc=RUNC_IS_LATE, crun="crun 1.8.1 sets it later, if at all", sometimes=True)
def test_size(start, caller):
    """From the first moment on that of the caller's terminal, and it follows it."""
    start('trap "stty size; exit 0" WINCH; stty size; echo ready; while :; do sleep 0.02; done')
    assert caller.read_until("ready").split()[:2] == [str(ROWS), str(COLUMNS)]
    set_size(caller.slave, 44, 99)
    caller.read_until("44 99")
    assert caller.wait() == 0


def test_all_that_was_written_comes_out(start, caller):
    """A process that ends right after a large write loses nothing."""
    start("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 5")
    assert caller.wait() == 5
    lines = caller.seen.decode().split("\r\n")
    assert lines[:2] == ["line 0", "line 1"]
    assert lines[-2:] == ["line 19999", ""]
    assert len(lines) == 20001


def test_it_ends_with_the_process_though_others_hold_the_terminal(start, caller):
    start("trap '' HUP; sleep 1000 & echo left; exit 6")
    assert caller.wait() == 6
    assert b"left" in caller.seen
    assert caller.is_restored()


@pytest.mark.parametrize("name", ["TERM", "HUP", "USR1"])
def test_restored_after_a_signal(start, caller, name):
    """A signal to the runtime goes on to the process, and the terminal is put right when it has died of it."""
    start(f'trap "exit 9" {name}; echo ready; while :; do sleep 0.02; done')
    caller.read_until("ready")
    assert not caller.is_restored()
    caller.process.send_signal(getattr(signal, f"SIG{name}"))
    assert caller.wait() == 9
    assert caller.is_restored()


@pytest.mark.differs(runc=RUNC_IS_LATE, crun="crun 1.8.1 does not set it", sometimes=True)
def test_input_by_a_pipe(start, caller):
    """`echo x | run -t`: there is a terminal, if not at standard input."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"typed\n")
    start("read line; echo got $line; stty size", stdin=read_end)
    os.close(read_end)
    os.close(write_end)
    assert caller.wait() == 0
    assert b"got typed" in caller.seen
    assert f"{ROWS} {COLUMNS}".encode() in caller.seen


def test_restored_when_it_cannot_start(container, caller):
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.start()
    caller.run(box.runtime, "exec", "-t", box.id, "/nosuch")
    assert caller.wait() != 0
    assert caller.is_restored()
    assert b"/nosuch" in caller.seen


def test_no_terminal_at_all(container):
    """Neither a standard stream nor a controlling one: refused before anything is made."""
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.start()
    words = ("exec", "-t", box.id, "/bin/true")
    result = box.runtime.run(*words, wrap=["/usr/bin/setsid", "-w"], check=None)
    refused(box.runtime, result, "open /dev/tty: no such device or address")
    other = container(["/bin/true"])
    other.process["terminal"] = True
    before = set(proc.children())
    refused(other.runtime, other.run(wrap=["/usr/bin/setsid", "-w"], check=None), "/dev/tty")
    assert set(proc.children()) <= before


@pytest.mark.parametrize("verb", ["create", "run", "exec"])
def test_detached_it_takes_a_console_socket(container, verb):
    box = container(["/bin/sleep", "1000"])
    if verb == "exec":
        box.create()
        box.start()
        result = box.runtime.run("exec", "-d", "-t", box.id, "/bin/true", check=None)
    else:
        box.process["terminal"] = True
        result = box.create(check=None) if verb == "create" else box.run("--detach", check=None)
    words = "without setting console socket" if box.runtime.is_ours else ""
    refused(box.runtime, result, "cannot allocate tty", words)


def test_a_console_socket_takes_a_terminal(container):
    box = container(["/bin/sleep", "1000"])
    refused(box.runtime, box.create("--console-socket", "/nosuch", check=None), "cannot use console socket")
