"""An init that is alive is not taken for dead where /proc does not show it, or the record is damaged; and no command
claims that it is gone unless that is known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import proc

pytestmark = pytest.mark.ours

# Root without CAP_SYS_PTRACE, and not in the group that sees all, sees no process that is not dumpable.
HIDE = 'mount -t proc -o hidepid=2,gid=54321 proc /proc; exec setpriv --bounding-set=-sys_ptrace "$@"'
HIDDEN = ("unshare", "-m", "--propagation", "private", "sh", "-euc", HIDE, "sh")
INSIDE = ("unshare", "-pf", "-m", "--propagation", "private", "--mount-proc")


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, ...]]:
    """A prefix of commands: in this pid namespace, with the /proc of another one."""
    holder = subprocess.Popen(
        [*INSIDE, "--kill-child", "sh", "-c", "echo ready; exec sleep 1000"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    pid = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()[0]
    yield "nsenter", "-m", "-t", pid, "--"
    holder.kill()
    holder.wait()
    holder.stdout.close()


def status(box: Any, wrap: tuple[str, ...]) -> str:
    return json.loads(box.runtime.run("state", box.id, wrap=wrap).stdout)["status"]


def record_of(box: Any) -> Path:
    return box.runtime.root / box.id / "state.json"


def change(box: Any, **fields: Any) -> None:
    """Change the record; None takes a field away."""
    path = record_of(box)
    found = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in found.items() if value is not None}))


def forget_init(box: Any) -> None:
    """A record as an older pyruntime wrote it, or as on Linux before 6.9: nothing but pid and start time."""
    extra = json.loads(record_of(box).read_text())["extra"]
    extra.pop("init")
    change(box, extra=extra)


def has_pidfs() -> bool:
    """Whether the inode number of a pidfd tells processes apart."""
    pidfds = [os.pidfd_open(pid) for pid in (1, os.getpid())]
    numbers = {os.fstat(pidfd).st_ino for pidfd in pidfds}
    for pidfd in pidfds:
        os.close(pidfd)
    return len(numbers) == 2


def is_alive(pid: int) -> bool:
    return proc.process_state(pid) not in ("", "Z", "X")


def is_hidden(box: Any) -> bool:
    result = subprocess.run([*HIDDEN, "test", "-e", f"/proc/{box.pid}"], check=False)
    return result.returncode == 1


def test_a_life_with_hidden_processes(container):
    box = container(["/bin/sleep", "1000"])
    box.create()
    pid = box.pid
    assert is_hidden(box)
    assert status(box, HIDDEN) == "created"
    box.start(wrap=HIDDEN)
    assert box.status() == "running"
    box.kill("KILL", wrap=HIDDEN)
    box.wait()
    assert not is_alive(pid)
    assert status(box, HIDDEN) == "stopped"
    box.delete(wrap=HIDDEN)


@pytest.mark.parametrize("noted", [True, False], ids=["", "without an inode"])
def test_delete_with_hidden_processes(container, noted):
    box = container(["/bin/sleep", "1000"])
    box.create()
    pid = box.pid
    if not noted:
        forget_init(box)
    assert is_hidden(box)
    assert "not stopped: created" in box.delete(wrap=HIDDEN, check=1).stderr
    box.delete("--force", wrap=HIDDEN)
    assert not is_alive(pid)
    assert not record_of(box).parent.exists()


def test_list_with_hidden_processes(container):
    boxes = [container(["/bin/sleep", "1000"]) for _ in range(2)]
    for box in boxes:
        box.create()
    found = json.loads(boxes[0].runtime.run("list", "-f", "json", wrap=HIDDEN).stdout)
    assert [one["status"] for one in found] == ["created", "created"]


@pytest.mark.parametrize("noted", [True, False], ids=["", "without an inode"])
def test_another_process_has_the_pid_and_is_hidden(container, noted):
    """Two containers, and the record of one gets the pid of the other: not its init, and not killed as that.

    Without pidfs (Linux 6.9) it is unknown."""
    box, other = container(["/bin/sleep", "1000"]), container(["/bin/sleep", "1000"])
    box.create()
    other.create()
    text = record_of(box).read_text()
    change(box, pid=other.pid)
    if not noted:
        forget_init(box)
    result = box.runtime.run("state", box.id, wrap=HIDDEN, check=None)
    assert '"stopped"' in result.stdout or "cannot determine whether init" in result.stderr
    assert (result.code == 0) == (noted and has_pidfs())
    result = box.kill("KILL", wrap=HIDDEN, check=1)
    assert "not running" in result.stderr or "cannot determine whether init" in result.stderr
    assert is_alive(other.pid)
    record_of(box).write_text(text)


@pytest.mark.parametrize("verb", ["kill", "delete"])
def test_a_life_with_the_proc_of_another_pid_namespace(container, elsewhere, verb):
    box = container(["/bin/sleep", "1000"])
    box.create()
    pid = box.pid
    assert status(box, elsewhere) == "created"
    box.start(wrap=elsewhere)
    assert status(box, elsewhere) == "running"
    if verb == "kill":
        box.kill("KILL", wrap=elsewhere)
        box.wait()
        assert status(box, elsewhere) == "stopped"
        box.delete(wrap=elsewhere)
    else:
        box.delete("--force", wrap=elsewhere)
    assert not is_alive(pid)


def test_nothing_is_made_with_the_proc_of_another_pid_namespace(container, elsewhere):
    """/proc/PID/uid_map, oom_score_adj and ns would be those of a stranger."""
    running, box = (container(["/bin/sleep", "1000"]) for _ in range(2))
    running.run("--detach")
    for result in (
        box.create(wrap=elsewhere, check=1),
        running.runtime.run("exec", running.id, "true", wrap=elsewhere, check=255),
    ):
        assert "/proc is not of this pid namespace" in result.stderr
    assert not record_of(box).parent.exists()


def test_from_another_pid_namespace(container):
    """The pid means nothing there, but the cgroup does."""
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.start()
    pid = box.pid
    result = box.runtime.run("state", box.id, wrap=INSIDE, check=1)
    assert "its pid namespace is another one" in result.stderr
    result = box.kill("KILL", wrap=INSIDE, check=1)
    assert "its pid namespace is another one" in result.stderr
    result = box.delete("--force", wrap=INSIDE, check=None)
    # By cgroup.kill of cgroup2 it can be killed from there.
    assert (result.code == 0) == (not is_alive(pid)) == (not record_of(box).parent.exists()), result
    if result.code:
        box.kill("KILL")
        box.wait()
        assert status(box, INSIDE) == "stopped"
        box.delete("--force", wrap=INSIDE)


def test_a_first_thread_that_has_ended(container):
    """proc(5) shows the process as a zombie then, and it is not one."""
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "ctypes.CDLL(None).syscall(60, 0)\n"
    )
    if os.uname().machine != "x86_64":
        pytest.skip("the number of exit(2) is x86-64's")
    process = subprocess.Popen(["/usr/bin/python3", "-c", code])
    try:
        for _ in range(1000):
            if proc.process_state(process.pid) == "Z":
                break
            os.sched_yield()
            subprocess.run(["sleep", "0.01"], check=True)
        box = container(["/bin/sleep", "1000"])
        box.create()
        text = record_of(box).read_text()
        stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        change(box, pid=process.pid, start=int(stat[19]), created="now")
        assert box.status() == "created"
        assert stat[0] == "Z"
        record_of(box).write_text(text)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


# Damaged records.

DAMAGE = {
    "empty": lambda text: "",
    "zeros": lambda text: "\0" * len(text),
    "half": lambda text: text[: len(text) // 2],
    "a pid beyond all numbers": lambda text: json.dumps({**json.loads(text), "pid": 2**70}),
    "a negative pid": lambda text: json.dumps({**json.loads(text), "pid": -1}),
    "no pid": lambda text: json.dumps({name: value for name, value in json.loads(text).items() if name != "pid"}),
    "no record": None,
}


def damage(box: Any, how: Any) -> None:
    path = record_of(box)
    if how is None:
        path.unlink()
    else:
        path.write_text(how(path.read_text()))


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("started", [False, True], ids=["created", "running"])
def test_a_damaged_record_of_a_living_container(container, how, started):
    """`delete --force` ends it, or says that it cannot tell, and then all is left as it was."""
    box = container(["/bin/sleep", "1000"])
    box.create()
    if started:
        box.start()
    pid, text = box.pid, record_of(box).read_text()
    damage(box, DAMAGE[how])
    assert box.runtime.run("list").stdout.count("\n") == 1
    box.runtime.run("state", box.id, check=1)
    result = box.delete("--force", check=None)
    assert "bug in pyruntime" not in result.stderr
    if result.code == 0:
        assert not is_alive(pid)
        assert not record_of(box).parent.exists()
        return
    assert "cannot determine" in result.stderr or "has no record" in result.stderr
    if not started:
        assert str(pid) in result.stderr or not json.loads(text)["cgroups"]
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)
    box.wait()
    box.delete("--force")
    assert not record_of(box).parent.exists()


def test_a_damaged_record_of_a_container_without_a_cgroup(container):
    """Nothing leads to its processes: nothing is claimed."""
    box = container(["/bin/sleep", "1000"])
    box.create()
    text = record_of(box).read_text()
    change(box, cgroups={}, pid=2**70)
    result = box.delete("--force", check=1)
    assert "cannot determine whether processes of container" in result.stderr
    assert record_of(box).exists()
    record_of(box).write_text(text)


def test_the_record_of_another_runtime(container):
    box = container(["/bin/sleep", "1000"])
    box.create()
    text = record_of(box).read_text()
    for other in ('{"id": "box", "init_process_pid": 1}', '{"version": 0, "pid": 1}', '{"version": "1"}'):
        record_of(box).write_text(other)
        box.delete("--force", check=1)
        assert record_of(box).read_text() == other
    record_of(box).write_text(text)
    assert is_alive(box.pid)
