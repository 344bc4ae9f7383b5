"""kill: which signals it knows, and whom it reaches."""

from __future__ import annotations

import pytest
from support import leaks, proc
from support.config import drop_namespace

CAPITALS = pytest.mark.differs(crun="crun 1.8.1 knows names in capitals only")
UNKNOWN = pytest.mark.differs(crun="crun 1.8.1 sends signal 0 for a name that it does not know")
TRAPS = [f'trap "echo got {name}; exit 0" {name}' for name in ("HUP", "INT", "USR1", "USR2", "TERM", "WINCH")]
REPORT = "; ".join([*TRAPS, "echo ready", "while :; do sleep 0.02; done"])


def running(container):
    box = container(sh=REPORT)
    box.create()
    box.start()
    box.await_output("ready")
    return box


@pytest.mark.differs(crun="crun 1.28 parses the signal first")
def test_the_container_is_looked_up_before_the_signal(runtime):
    result = runtime.run("kill", f"{leaks.PREFIX}-nosuch", "FOO", check=None)
    assert result.code != 0
    assert "signal" not in result.stderr
    if runtime.is_ours:
        assert "does not exist" in result.stderr


@pytest.mark.parametrize(
    "word, name",
    [
        ("TERM", "TERM"),
        ("SIGTERM", "TERM"),
        ("15", "TERM"),
        ("SIGHUP", "HUP"),
        ("1", "HUP"),
        ("USR1", "USR1"),
        pytest.param("sigusr2", "USR2", marks=CAPITALS),
        pytest.param("int", "INT", marks=CAPITALS),
        ("WINCH", "WINCH"),
    ],
)
def test_signal_words(container, word, name):
    box = running(container)
    box.kill(word)
    box.await_output(f"got {name}")
    assert box.wait() == 0


def test_the_default_is_term(container):
    box = running(container)
    box.kill()
    box.await_output("got TERM")


def test_kill_9(container):
    box = running(container)
    box.kill("9")
    assert box.wait() == 137


@pytest.mark.parametrize(
    "word", [*(pytest.param(word, marks=UNKNOWN) for word in ("NOSUCH", "SIG", "0x")), "-1", "9999"]
)
def test_unknown_signals_are_refused(container, word):
    box = running(container)
    result = box.kill(word, check=None)
    assert result.code != 0
    assert box.status() == "running"


@pytest.mark.ours
def test_an_unknown_signal_is_named(container):
    box = running(container)
    assert "NOSUCH" in box.kill("NOSUCH", check=None).stderr


def test_kill_of_a_created_container(container):
    box = container(["/bin/sleep", "100"])
    box.create()
    box.kill("KILL")
    assert box.wait() == 137
    assert box.status() == "stopped"


@pytest.mark.parametrize("word", ["HUP", "INT", "QUIT", "TERM", "SEGV"])
@pytest.mark.differs(crun="crun's init is the first of its pid namespace and handles nothing")
def test_a_fatal_signal_ends_a_created_container(container, word):
    """runc's init has handlers for these; without, the first of a pid namespace would not get them."""
    box = container(["/bin/sleep", "100"])
    box.create()
    box.kill(word)
    box.wait()
    assert box.status() == "stopped"
    box.delete()


@pytest.mark.parametrize("word", ["WINCH", "CHLD", "CONT", "0"])
def test_other_signals_leave_a_created_container(container, word):
    box = container(["/bin/sleep", "100"])
    box.create()
    box.kill(word)
    assert box.status() == "created"
    box.start()
    assert box.status() == "running"


def test_signal_0_asks_whether_it_lives(container):
    box = running(container)
    box.kill("0")
    assert box.status() == "running"
    box.kill("KILL")
    assert box.wait() == 137
    assert box.kill("0", check=None).code != 0


def left_behind(container) -> tuple[object, int]:
    """A container whose init has ended, and the pid of a process that it has left."""
    box = container(sh="sleep 1000 & echo $!")
    drop_namespace(box.config, "pid")
    box.create()
    box.start()
    pid = int(box.await_output("\n"))
    assert box.wait() == 0
    assert proc.process_state(pid) not in ("", "Z")
    return box, pid


SINCE_1_2 = pytest.mark.differs(runc="runc does so since 1.2", crun="crun 1.8.1 signals init only")


@SINCE_1_2
def test_sigkill_is_for_all_without_a_pid_namespace(container):
    box = container(sh="sleep 1000 & echo $!; wait")
    drop_namespace(box.config, "pid")
    box.create()
    box.start()
    pid = int(box.await_output("\n"))
    box.kill("KILL")
    assert box.wait() == 137
    proc.wait_until(lambda: proc.process_state(pid) in ("", "Z"), "the other one is dead")


@SINCE_1_2
def test_sigkill_is_for_all_after_init_has_ended(container):
    box, pid = left_behind(container)
    assert box.kill("TERM", check=None).code != 0
    assert proc.process_state(pid) not in ("", "Z")
    box.kill("KILL")
    proc.wait_until(lambda: proc.process_state(pid) in ("", "Z"), "the one that was left is dead")
    box.delete()


@pytest.mark.differs(crun="crun 1.8.1 says that the container is not running in other words")
def test_kill_of_a_stopped_container(container):
    """containerd's shim looks for exactly these words."""
    box = container(["/bin/true"])
    box.create()
    box.start()
    box.wait()
    result = box.kill("TERM", check=None)
    assert result.code != 0
    assert "container not running" in result.stderr


@pytest.mark.differs(crun="crun 1.8.1 says that the container is not running in other words")
def test_kill_of_a_zombie(container):
    box = container(["/bin/true"])
    box.create()
    box.start()
    proc.wait_until(lambda: proc.process_state(box.pid) == "Z", "init is a zombie")
    result = box.kill("KILL", check=None)
    assert result.code != 0
    assert "container not running" in result.stderr


def test_kill_all_reaches_every_process(container):
    """`--all`, as containerd sends it for a shared pid namespace: the whole cgroup."""
    box = container(sh='sleep 1000 & sleep 1000 & echo ready; trap "" TERM; wait')
    drop_namespace(box.config, "pid")
    box.create()
    box.start()
    box.await_output("ready")
    below = proc.wait_until(lambda: len(found := proc.children(box.pid)) == 2 and found, "two processes below init")
    box.runtime.run("kill", "--all", box.id, "KILL")
    assert box.wait() == 137
    for pid in below:
        proc.wait_until(lambda pid=pid: proc.process_state(pid) in ("", "Z"), f"{pid} is dead")


def test_kill_all_after_init_has_ended(container):
    """The shim sends it after the exit of init: processes without a pid namespace of their own survive
    init."""
    box = container(sh="sleep 1000 & echo ready")
    drop_namespace(box.config, "pid")
    before = set(proc.children())
    box.create()
    box.start()
    box.await_output("ready")
    assert box.wait() == 0
    survivors = set(proc.children()) - before
    assert len(survivors) == 1
    box.runtime.run("kill", "--all", box.id, "9")
    pid = survivors.pop()
    proc.wait_until(lambda: proc.process_state(pid) == "Z", "the survivor is dead")


def test_delete_kills_what_survived_init(container):
    """Without a pid namespace the end of init does not end the others: delete does."""
    box = container(sh="sleep 1000 & echo ready")
    drop_namespace(box.config, "pid")
    box.create()
    box.start()
    box.await_output("ready")
    assert box.wait() == 0
    box.delete("--force")
