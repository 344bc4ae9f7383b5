"""run: the exit status, forwarded signals, reaped orphans, --detach and --keep."""

from __future__ import annotations

import os
import signal

import pytest
from support import proc
from support.config import drop_namespace


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_status(container, code):
    container(sh=f"exit {code}").run(check=code)


@pytest.mark.parametrize("name, number", [("KILL", 9), ("SEGV", 11), ("TERM", 15)])
def test_a_signal_is_128_and_its_number(container, name, number):
    """Sent from outside, for init is immune to its own namespace's signals."""
    box = container(["/bin/sleep", "100"])
    if name != "KILL":
        drop_namespace(box.config, "pid")
    command = box.spawn_run()
    proc.wait_until(lambda: box.pid_file.exists() and box.pid_file.read_text(), "the pid-file")
    proc.wait_until(lambda: "sleep" in box.proc("cmdline"), "the process runs")
    os.kill(box.pid, number)
    assert command.wait().code == 128 + number


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "USR2", "QUIT"])
def test_signals_are_forwarded(container, name):
    box = container(sh=f'trap "echo got {name}; exit 7" {name}; echo ready; while :; do sleep 0.02; done')
    command = box.spawn_run()
    proc.wait_until(lambda: "ready" in command.stdout, "the process runs")
    command.process.send_signal(getattr(signal, f"SIG{name}"))
    result = command.wait()
    assert f"got {name}" in result.stdout
    assert result.code == 7


def test_orphans_are_reaped(container):
    """Without a pid namespace, what init leaves behind becomes a child of `run`, a subreaper: it reaps
    them."""
    box = container(sh="(sleep 0.1 &) ; (sleep 0.1 &) ; sleep 0.6; echo waited; exec sleep 0.4")
    drop_namespace(box.config, "pid")
    command = box.spawn_run()
    proc.wait_until(lambda: "waited" in command.stdout, "the orphans have ended")
    states = [proc.process_state(pid) for pid in proc.children(command.process.pid)]
    assert "Z" not in states
    assert command.wait().code == 0


def test_run_deletes_the_container(container):
    box = container(["/bin/true"])
    box.run()
    assert box.runtime.run("state", box.id, check=None).code != 0
    assert not list(box.runtime.root.glob(box.id))


@pytest.mark.differs(crun="crun 1.8.1 has no --keep")
def test_run_keep(container):
    box = container(["/bin/true"])
    box.run("--keep", check=0)
    assert box.status() == "stopped"
    box.delete()


@pytest.mark.parametrize("flag", ["--detach", "-d"])
def test_run_detach(container, flag):
    box = container(sh='trap "exit 5" TERM; echo ready; while :; do sleep 0.02; done')
    result = box.run(flag, "--pid-file", str(box.pid_file))
    proc.wait_until(lambda: "ready" in result.stdout, "the process runs")
    assert box.status() == "running"
    assert proc.parent(box.pid) == os.getpid()
    box.kill("TERM")
    assert box.wait() == 5
    assert box.status() == "stopped"
    box.delete()


def test_run_passes_stdin(container):
    assert container(["/bin/cat"]).run(stdin="line 1\nline 2\n").stdout == "line 1\nline 2\n"


def test_stdout_and_stderr_are_kept_apart(container):
    result = container(sh="echo out; echo err >&2").run()
    assert (result.stdout, result.stderr.splitlines()[-1]) == ("out\n", "err")


def test_run_of_a_failing_container_leaves_nothing(container):
    box = container(["/nosuch"])
    assert box.run(check=None).code != 0
    assert not list(box.runtime.root.glob(box.id))


@pytest.mark.differs(crun="crun 1.8.1 waits for all that it adopted")
def test_run_ends_when_init_ends_though_others_hold_its_output(container):
    """Processes that survive init (no pid namespace) do not keep `run` waiting."""
    box = container(sh="sleep 1000 & exit 9")
    drop_namespace(box.config, "pid")
    box.run(check=9, timeout=10)


@pytest.mark.ours
def test_run_leaves_another_container_of_its_name_alone(container):
    """One that was made after somebody else had deleted its own."""
    box = container(["/bin/sleep", "1000"])
    command = box.spawn_run()
    proc.wait_until(lambda: box.pid_file.exists() and box.status() == "running", "it runs")
    os.kill(command.process.pid, signal.SIGSTOP)
    box.delete("--force")
    box.create()
    os.kill(command.process.pid, signal.SIGCONT)
    assert command.wait().code == 137
    assert box.status() == "created"
