"""Our containerd shim without descriptors or processes to be had: a request fails, and the next one works."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import leaks, proc
from support.shim import Client, Containerd, Refused, Task, wait_for

pytestmark = pytest.mark.ours
CGROUP = f"/{leaks.PREFIX}-tests"
# How many descriptors are left to the shim: from none to more than a request takes.
LEFT = range(13)


@contextmanager
def descriptors(shim: int, left: int) -> Iterator[None]:
    """Meanwhile the shim can open no more than `left`."""
    before = resource.prlimit(shim, resource.RLIMIT_NOFILE)
    taken = {int(name) for name in os.listdir(f"/proc/{shim}/fd")}
    free = (number for number in range(1 << 16) if number not in taken)
    limit = next(number for index, number in enumerate(free) if index == left)
    resource.prlimit(shim, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(shim, resource.RLIMIT_NOFILE, before)


@contextmanager
def no_processes(shim: int) -> Iterator[None]:
    """Meanwhile the shim can have no more children: fork(2) is EAGAIN."""
    tops = [Path(top) for top in leaks.hierarchies()]
    own = proc.cgroups(proc.read(shim, "cgroup"))
    for top in tops:
        group = top / f"{leaks.PREFIX}-pressure"
        group.mkdir()
        if (group / "pids.max").exists():
            break
        group.rmdir()
    else:
        pytest.skip("no hierarchy of cgroups counts processes")
    (group / "cgroup.procs").write_text(str(shim))
    (group / "pids.max").write_text("1")
    try:
        yield
    finally:
        (group / "pids.max").write_text("max")
        back = own.get("pids", own.get("", "/"))
        (top / back.strip("/") / "cgroup.procs").write_text(str(shim))
        for pid in (group / "cgroup.procs").read_text().split():
            (top / back.strip("/") / "cgroup.procs").write_text(pid)
        wait_for(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
        group.rmdir()


def refused(call: Callable[..., Any], *args: Any, **values: Any) -> bool:
    """Whether a request fails; in any case it is answered soon."""
    began = time.monotonic()
    try:
        call(*args, **values)
    except Refused:
        return True
    finally:
        assert time.monotonic() - began < 8 * proc.SLOW
    return False


def open_in(shim: int) -> int:
    return len(os.listdir(f"/proc/{shim}/fd"))


def at_rest(one: Task, init: int) -> int:
    """How many descriptors are open once the children have ended."""
    wait_for(lambda: proc.children(one.shim) in ([init], []), "no children but init")
    return open_in(one.shim)


@pytest.fixture
def crowd(task: Callable[..., Task]) -> Iterator[Callable[..., Task]]:
    """As `task`, with a shim that has many descriptors open: its children, which close them, have enough."""
    clients: list[Client] = []

    def make(*args: Any, **values: Any) -> Task:
        one = task(*args, **values)
        clients.extend(Client(one.address) for _ in range(100))
        for client in clients:
            client.call("Connect", "ContainerRequest", "ConnectResponse", id=one.id)
        return one

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def one(crowd: Callable[..., Task]) -> Task:
    """A container that is created."""
    made = crowd(["/bin/sleep", "1000"])
    made.init = made.create()
    return made


def end(one: Task) -> None:
    one.kill()
    assert one.wait() == 137
    one.delete()


def test_create(crowd: Callable[..., Task], tmp_path: Path) -> None:
    failures = 0
    one = crowd(["/bin/sleep", "1000"])
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    streams = {"stdin": str(tmp_path / "in"), "stdout": str(tmp_path / "out"), "stderr": f"file://{tmp_path}/err"}
    before = open_in(one.shim)
    for left in LEFT:
        with descriptors(one.shim, left):
            if not refused(one.create, **streams):
                break
        failures += 1
    else:
        one.create(**streams)
    assert failures > 3
    one.start()
    end(one)
    wait_for(lambda: open_in(one.shim) <= before, "no descriptor is left open")


def test_create_with_a_terminal(crowd: Callable[..., Task], tmp_path: Path) -> None:
    failures = 0
    one = crowd(["/bin/sleep", "1000"])
    one.config["process"]["terminal"] = True
    (one.path / "config.json").write_text(json.dumps(one.config))
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    streams = {"stdin": str(tmp_path / "in"), "stdout": str(tmp_path / "out"), "stderr": "", "terminal": True}
    before = open_in(one.shim)
    for left in LEFT:
        with descriptors(one.shim, left):
            if not refused(one.create, **streams):
                break
        failures += 1
    else:
        one.create(**streams)
    assert failures > 3
    one.start()
    end(one)
    wait_for(lambda: open_in(one.shim) <= before, "no descriptor is left open")


def test_start(one: Task) -> None:
    for left in LEFT:
        with descriptors(one.shim, left):
            if not refused(one.start):
                break
    else:
        one.start()
    assert one.state()["status"] == 2
    one.exec("e", "true")
    one.start("e")
    assert one.wait("e") == 0
    end(one)


@pytest.mark.parametrize("terminal", [False, True])
def test_exec(one: Task, terminal: bool) -> None:
    one.start()
    before = at_rest(one, one.init)
    failures = 0
    for left in LEFT:
        name = f"e{left}"
        with descriptors(one.shim, left):
            exec_with(one, name, terminal)
            failed = refused(one.start, name)
        failures += failed
        if failed:
            assert one.state(name)["status"] == 1
            one.start(name)
        assert one.wait(name) == 0
        with descriptors(one.shim, left):
            again = refused(one.delete, name)
        if again:
            one.delete(name)
    assert failures > 2
    assert at_rest(one, one.init) <= before
    end(one)


def exec_with(one: Task, name: str, terminal: bool) -> None:
    spec = {"args": ["true"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    type = "types.containerd.io/opencontainers/runtime-spec/1/Process"
    any = {"type_url": type, "value": json.dumps(spec).encode()}
    streams = {"terminal": terminal, "stdout": f"file://{one.output}"}
    one.client.call("Exec", "ExecProcessRequest", id=one.id, exec_id=name, spec=any, **streams)


def await_quiet(pid: int) -> None:
    """Wait until a process neither opens nor closes descriptors: else more may be left than a test has counted."""
    quiet, before = 0, -1
    while quiet < 10:
        now = len(os.listdir(f"/proc/{pid}/fd"))
        quiet = quiet + 1 if now == before else 0
        before = now
        time.sleep(0.03)


def test_delete(one: Task, containerd: Containerd) -> None:
    one.start()
    one.kill()
    assert one.wait() == 137
    wait_for(lambda: not proc.children(one.shim), "no children")
    await_quiet(one.shim)
    failures = 0
    for left in LEFT:
        with descriptors(one.shim, left):
            if not refused(one.delete):
                break
        failures += 1
    else:
        one.delete()
    assert failures > 0
    wait_for(lambda: containerd.topics().count("delete") == 1, "the event")
    assert not os.path.exists(f"/run/containerd/pyruntime/{containerd.namespace}/{one.id}")


def test_what_looks_and_signals(one: Task) -> None:
    """State, Pids, Stats, Kill, Pause, Resume, Update."""
    one.start()
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("State", "ProcessRequest", {}),
        ("Pids", "ContainerRequest", {}),
        ("Stats", "ContainerRequest", {}),
        ("Pause", "ContainerRequest", {}),
        ("Resume", "ContainerRequest", {}),
        ("Update", "UpdateTaskRequest", {}),
        ("Kill", "KillRequest", {"signal": 0}),
    ]
    for method, message, values in calls:
        for left in (0, 1, 2):
            with descriptors(one.shim, left):
                refused(one.client.call, method, message, id=one.id, **values)
        if method == "Resume" and one.state()["status"] == 4:
            one.client.call(method, message, id=one.id, **values)
    assert one.state()["status"] == 2
    end(one)


def test_the_end_of_a_process_is_reported(task: Callable[..., Task], containerd: Containerd) -> None:
    """Also where what init leaves behind is killed by its cgroup, which has to be opened; once that is possible."""
    one = task(sh="sleep 1000 & exec sleep 1000")
    namespaces = one.config["linux"]["namespaces"]
    one.config["linux"]["namespaces"] = [entry for entry in namespaces if entry["type"] != "pid"]
    (one.path / "config.json").write_text(json.dumps(one.config))
    pid = one.create()
    one.start()
    wait_for(lambda: len(proc.children(pid)) == 1, "it runs")
    left = proc.children(pid)
    stream = one.client.send("Wait", "ProcessRequest", id=one.id)
    with descriptors(one.shim, 0):
        os.kill(pid, 9)
        time.sleep(0.3)
    answered, answer = one.client.receive("WaitResponse")
    assert (answered, answer["exit_status"]) == (stream, 137)
    wait_for(lambda: all(proc.process_state(one) in ("", "Z") for one in left), "the rest is killed")
    one.delete()
    wait_for(lambda: containerd.topics() == ["create", "start", "exit", "delete"], "the events")


def test_no_process_can_be_forked(task: Callable[..., Task], containerd: Containerd) -> None:
    """EAGAIN by pids.max, at each request that takes a child."""
    one = task(["/bin/sleep", "1000"])
    wait_for(lambda: len(proc.children(one.shim)) == 1, "the container is planned")
    os.kill(proc.children(one.shim)[0], 9)
    wait_for(lambda: not proc.children(one.shim), "and the child that has done so is gone")
    with no_processes(one.shim), pytest.raises(Refused, match=r"OCI runtime create failed: .*EAGAIN"):
        one.create()
    one.create()
    with no_processes(one.shim):
        refused(one.start)  # which takes no child
    if one.state()["status"] == 1:
        one.start()
    with no_processes(one.shim):
        one.exec("e", "true")
        with pytest.raises(Refused, match=r"OCI runtime exec failed: .*EAGAIN"):
            one.start("e")
    one.start("e")
    assert one.wait("e") == 0
    with no_processes(one.shim), pytest.raises(Refused, match=r"OCI runtime pause failed: .*EAGAIN"):
        one.client.call("Pause", "ContainerRequest", id=one.id)
    one.kill()
    assert one.wait() == 137
    with no_processes(one.shim), pytest.raises(Refused, match=r"OCI runtime delete failed: .*EAGAIN"):
        one.delete()
    one.delete()
    kinds = "create start exec-added exec-started exit exit delete".split()
    wait_for(lambda: containerd.topics() == kinds, "the events")


def test_a_failing_start_keeps_no_lock(one: Task) -> None:
    """The exec fifo that Start opens is gone, or is another file: the container can still be removed."""
    directory = Path(f"/run/containerd/pyruntime/{one.containerd.namespace}/{one.id}")
    fifo = directory / "exec.fifo"
    fifo.rename(directory / "moved")
    before = open_in(one.shim)
    for _ in range(3):
        with pytest.raises(Refused, match="OCI runtime start failed: "):
            one.start()
    assert open_in(one.shim) == before
    (directory / "moved").rename(fifo)
    one.start()
    end(one)


def test_an_exec_fifo_that_cannot_be_read_spins_not(one: Task) -> None:
    """What init has to say cannot be read once the exec fifo has an error to report for ever."""
    directory = Path(f"/run/containerd/pyruntime/{one.containerd.namespace}/{one.id}")
    (directory / "exec.error").unlink()
    with pytest.raises(Refused, match=r"OCI runtime start failed: .*exec\.error"):
        one.start()
    fields = proc.read(one.shim, "stat").rpartition(")")[2].split()
    time.sleep(1)
    later = proc.read(one.shim, "stat").rpartition(")")[2].split()
    assert int(later[11]) - int(fields[11]) < 30
    one.kill()
    assert one.wait() == 137
    one.delete()
