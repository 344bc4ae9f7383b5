"""Our containerd shim, asked as containerd asks it (tests/engines/test_shim.py has containerd itself)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import leaks, proc
from support.shim import PROGRAM, Client, Containerd, Refused, Task, wait_for

from pyruntime.shim import wire

CGROUP = f"/{leaks.PREFIX}-tests"
pytestmark = pytest.mark.ours
# How many processes the soak test runs; 10000 for the numbers of docs/shim.md.
CYCLES = int(os.environ.get("PYRUNTIME_TEST_SOAK", "150"))


def test_a_life(task: Callable[..., Task], containerd: Containerd) -> None:
    """Create, Start, Wait, Delete, Shutdown, and an event for each."""
    one = task(sh="echo hello; exit 3")
    pid = one.create()
    assert one.state()["status"] == 1
    assert one.start() == pid
    assert one.wait() == 3
    state = one.state()
    assert (state["status"], state["exit_status"], state["pid"]) == (3, 3, pid)
    gone = one.delete()
    assert (gone["pid"], gone["exit_status"]) == (pid, 3)
    assert gone["exited_at"]["seconds"] > 1_600_000_000
    assert one.output.read_text() == "hello\n"
    one.client.call("Shutdown", "ShutdownRequest", id=one.id)
    wait_for(lambda: proc.process_state(one.shim) in ("", "Z"), "the shim has ended")
    wait_for(lambda: containerd.topics() == ["create", "start", "exit", "delete"], "the events, in order")
    assert not os.path.exists(one.address.removeprefix("unix://"))


@pytest.mark.parametrize("layers", [1, 60])
def test_the_root_filesystem_is_mounted_and_taken_away(
    task: Callable[..., Task], base: Path, scratch: Path, layers: int
) -> None:
    """An overlay, also of more layers than one page of mount options can name."""
    one = task(sh="cat /layer1 && echo new >/file")
    place = scratch / f"{'long' * 20}{layers}"
    lower = [place / f"layer{number}" for number in range(1, layers + 1)]
    for path in (*lower, place / "upper", place / "work"):
        path.mkdir(parents=True)
    for path in lower:
        (path / path.name).write_text(f"{path.name}\n")
    (place / "base").symlink_to(base)
    options = [f"lowerdir={':'.join(str(path) for path in (*lower, place / 'base'))}"]
    options += [f"upperdir={place}/upper", f"workdir={place}/work"]
    rootfs = one.path / "rootfs"
    one.create(rootfs=[{"type": "overlay", "source": "overlay", "options": options}])
    assert os.path.ismount(rootfs)
    one.start()
    assert one.wait() == 0
    one.delete()
    assert not os.path.ismount(rootfs)
    assert one.output.read_text() == "layer1\n"
    assert (place / "upper/file").read_text() == "new\n"


def test_rootfs_with_other_owners(task: Callable[..., Task], base: Path, scratch: Path) -> None:
    """An overlay whose lower layers have their owners shifted, as containerd 2 asks for a user namespace."""
    one = task(sh="stat -c %u /bin/busybox /owned; echo new >/file")
    maps = [{"containerID": 0, "hostID": 400000, "size": 65536}]
    one.config["linux"] |= {"uidMappings": maps, "gidMappings": maps}
    one.config["linux"]["namespaces"].append({"type": "user"})
    (one.path / "config.json").write_text(json.dumps(one.config))
    for name in ("layer", "upper", "work"):
        (scratch / name).mkdir()
    os.chown(scratch / "upper", 400000, 400000)
    (scratch / "layer/owned").touch()
    os.chown(scratch / "layer/owned", 7, 7)
    scratch.chmod(0o711)
    options = ["uidmap=0:400000:65536", "gidmap=0:400000:65536", f"lowerdir={scratch}/layer:{base}"]
    options += [f"upperdir={scratch}/upper", f"workdir={scratch}/work"]
    before = leaks.mounts()
    with pytest.raises(Refused, match="gidmap of '0:1'"):
        one.create(rootfs=[{"type": "overlay", "source": "overlay", "options": ["gidmap=0:1", *options]}])
    one.create(rootfs=[{"type": "overlay", "source": "overlay", "options": options}])
    assert [mount.target for mount in leaks.mounts() if mount not in before] == [str(one.path / "rootfs")]
    one.start()
    assert one.wait() == 0
    one.delete()
    assert leaks.mounts() == before
    assert one.output.read_text() == "0\n7\n"
    assert (scratch / "upper/file").stat().st_uid == 400000


def test_the_exit_of_init_is_told_last(task: Callable[..., Task], containerd: Containerd) -> None:
    """Processes of exec die with init; their exits are told before its own, and each after its start."""
    one = task(["/bin/sleep", "1000"])
    one.create()
    one.start()
    for exec_id in "ab":
        one.exec(exec_id, "sleep", "1000")
        one.start(exec_id)
    one.kill()
    assert one.wait() == 137
    wait_for(lambda: containerd.topics().count("exit") == 3, "three exits")
    exits = [event["id"] for topic, event in containerd.events if topic == "/tasks/exit"]
    assert sorted(exits[:2]) == ["a", "b"]
    assert exits[2] == one.id
    with pytest.raises(Refused, match="stopped") as refused:
        one.exec("c", "true")
    assert refused.value.code == 9


def test_a_fast_exit_is_told_after_its_start(task: Callable[..., Task], containerd: Containerd) -> None:
    one = task(["/bin/sleep", "1000"])
    one.create()
    one.start()
    for number in range(20):
        one.exec(f"e{number}", "true")
        one.start(f"e{number}")
        assert one.wait(f"e{number}") == 0
        one.delete(f"e{number}")
    wait_for(lambda: containerd.topics().count("exit") == 20, "all exits")
    of_execs = [topic for topic in containerd.topics() if topic not in ("create", "start")]
    assert of_execs == ["exec-added", "exec-started", "exit"] * 20


def test_many_wait_at_once_on_one_connection(task: Callable[..., Task]) -> None:
    """A Wait that takes long does not hinder what comes after it."""
    one = task(["/bin/sleep", "1000"])
    one.create()
    one.start()
    streams = [one.client.send("Wait", "ProcessRequest", id=one.id) for _ in range(5)]
    asked = one.client.send("State", "ProcessRequest", id=one.id)
    assert one.client.receive("StateResponse")[0] == asked
    other = Client(one.address)
    other.call("Kill", "KillRequest", id=one.id, signal=signal.SIGTERM)
    other.call("Kill", "KillRequest", id=one.id, signal=signal.SIGKILL)
    answers = [one.client.receive("WaitResponse") for _ in streams]
    assert sorted(stream for stream, _ in answers) == streams
    assert {answer["exit_status"] for _, answer in answers} <= {137, 143}
    other.close()


@pytest.mark.parametrize(
    ("method", "message", "values", "code"),
    [
        ("State", "ProcessRequest", {"id": "other"}, 5),
        ("Start", "ProcessRequest", {"exec_id": "none"}, 5),
        ("Create", "CreateTaskRequest", {"bundle": "/nowhere"}, 6),
        ("Start", "ProcessRequest", {}, 9),
        ("Delete", "ProcessRequest", {}, 9),
        ("Checkpoint", "CheckpointTaskRequest", {}, 3),
        ("Nothing", "Empty", {}, 12),
    ],
)
def test_refusals(task: Callable[..., Task], method: str, message: str, values: dict[str, Any], code: int) -> None:
    one = task(["/bin/sleep", "1000"])
    one.create()
    one.start()
    with pytest.raises(Refused) as refused:
        one.client.call(method, message, **{"id": one.id, **values})
    assert refused.value.code == code
    assert one.state()["status"] == 2


def test_an_error_of_create_leaves_nothing(task: Callable[..., Task], containerd: Containerd) -> None:
    one = task(["/no/such"])
    with pytest.raises(Refused, match=r"OCI runtime create failed: .*/no/such: no such file or directory") as refused:
        one.create()
    assert refused.value.code == 2
    with pytest.raises(Refused):
        one.state()
    assert containerd.topics() == []
    wait_for(lambda: not [path for path in leaks.cgroups() if path.endswith(one.id)], "no cgroups")


RUBBISH = [b"x" * 100, b"\xff" * 10, b"\0\0\0\5\0\0\0\1\1\0rubbi", b"\0\0\0\1\0\0"]


@pytest.mark.parametrize("data", RUBBISH, ids=range(len(RUBBISH)))
def test_rubbish_harms_nobody(task: Callable[..., Task], data: bytes) -> None:
    one = task(["/bin/sleep", "1000"])
    with socket.socket(socket.AF_UNIX) as rubbish:
        rubbish.connect(one.address.removeprefix("unix://"))
        rubbish.sendall(data)
        one.create()
        one.start()
    assert one.state()["status"] == 2


def test_events_wait_for_containerd(task: Callable[..., Task], containerd: Containerd) -> None:
    """An event that is not answered is sent again, and those after it wait."""
    one = task(["/bin/sleep", "1000"])
    containerd.answering = False
    one.create()
    one.start()
    assert containerd.topics() == []
    containerd.answering = True
    wait_for(lambda: containerd.topics() == ["create", "start"], "both events, in order")


def test_a_pod_has_one_shim(containerd: Containerd, bundle: Any) -> None:
    """Containers with one sandbox id, each after the other; Shutdown ends nothing before the last is gone."""
    paths = []
    for number in (1, 2):
        one = bundle(["/bin/sleep", "1000"], annotations={"io.kubernetes.cri.sandbox-id": "pod"})
        one.config["linux"]["cgroupsPath"] = f"{CGROUP}/pod{number}"
        one.save()
        paths.append(one)
    tasks = [Task(containerd, one, f"{leaks.PREFIX}-pod{number}") for number, one in enumerate(paths)]
    try:
        assert tasks[0].address == tasks[1].address
        assert tasks[0].shim == tasks[1].shim
        # containerd finds each by its own bundle after a restart.
        assert [(one.path / "address").read_text() for one in tasks] == [tasks[0].address] * 2
        for one in tasks:
            one.create()
            one.start()
        tasks[0].kill()
        assert tasks[0].wait() == 137
        tasks[0].delete()
        tasks[0].client.call("Shutdown", "ShutdownRequest", id=tasks[0].id)
        assert tasks[1].state()["status"] == 2
        tasks[1].kill()
        tasks[1].wait()
        tasks[1].delete()
        tasks[1].client.call("Shutdown", "ShutdownRequest", id=tasks[1].id)
        wait_for(lambda: proc.process_state(tasks[0].shim) in ("", "Z"), "the shim has ended")
    finally:
        for one in tasks:
            one.end()


def test_containers_of_a_pod_may_begin_at_once(containerd: Containerd, bundle: Any) -> None:
    """Ten starts at the same moment leave one shim."""
    bundles = [bundle(["/bin/true"], annotations={"io.containerd.runc.v2.group": "crowd"}) for _ in range(10)]
    for one in bundles:
        one.save()
    with ThreadPoolExecutor(10) as pool:
        addresses = list(pool.map(lambda number: containerd.start(bundles[number].path, f"c{number}"), range(10)))
    assert len(set(addresses)) == 1
    clients = [Client(address) for address in addresses]
    shims = {client.call("Connect", "ContainerRequest", "ConnectResponse", id="c")["shim_pid"] for client in clients}
    assert len(shims) == 1
    clients[0].call("Shutdown", "ShutdownRequest", id="c")
    for client in clients:
        client.close()
    wait_for(lambda: proc.process_state(shims.copy().pop()) in ("", "Z"), "the shim has ended")


def test_delete_after_a_sigkill_of_the_shim(task: Callable[..., Task], containerd: Containerd) -> None:
    one = task(["/bin/sleep", "1000"])
    pid = one.create()
    one.start()
    os.kill(one.shim, signal.SIGKILL)
    gone = containerd.delete(one.path, one.id)
    assert gone["exit_status"] == 137
    assert proc.process_state(pid) in ("", "Z")
    assert not [path for path in leaks.cgroups() if path.endswith(one.id)]
    again = containerd.start(one.path, one.id)
    assert again == one.address
    client = Client(again)
    client.call("Shutdown", "ShutdownRequest", id=one.id)
    client.close()


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 6, 9, 12, 16, 20, 30])
def test_a_sigkill_at_any_moment_leaves_what_delete_removes(
    task: Callable[..., Task], containerd: Containerd, milliseconds: int
) -> None:
    """The shim is killed while a child of it creates the container: nothing is left, and nothing comes later."""
    one = task(["/bin/sleep", "1000"])
    request = {"id": one.id, "bundle": str(one.path), "stdout": f"file://{one.output}"}
    one.client.send("Create", "CreateTaskRequest", **request)
    time.sleep(milliseconds / 1000)
    os.kill(one.shim, signal.SIGKILL)
    containerd.delete(one.path, one.id)
    for _ in range(2):  # at once, and once whoever was late has had its time
        assert not [path for path in leaks.cgroups() if path.endswith(one.id)]
        assert not os.path.exists(f"/run/containerd/pyruntime/{containerd.namespace}/{one.id}")
        time.sleep(0.1)


def test_stats(task: Callable[..., Task]) -> None:
    """Stats in the message of this host's cgroup version, and pids by Pids."""
    one = task(["/bin/sleep", "1000"])
    pid = one.create()
    one.start()
    any = one.client.call("Stats", "ContainerRequest", "StatsResponse", id=one.id)["stats"]
    if any["type_url"] == "io.containerd.cgroups.v2.Metrics":
        found = wire.decode("MetricsV2", any["value"])
        assert found["cpu"]["usage_usec"] > 0
        assert found["memory"]["usage"] > 0
    else:
        assert any["type_url"] == "io.containerd.cgroups.v1.Metrics"
        found = wire.decode("MetricsV1", any["value"])
        assert found["cpu"]["usage"]["total"] > 0
        assert found["memory"]["usage"]["usage"] > 0
    assert found["pids"]["current"] == 1
    pids = one.client.call("Pids", "ContainerRequest", "PidsResponse", id=one.id)["processes"]
    assert [entry["pid"] for entry in pids] == [pid]


def test_a_kill_for_want_of_memory_is_told(containerd: Containerd, bundle: Any) -> None:
    one = bundle(sh="head -c 100000000 /dev/zero | tail -c 90000000 >/dev/null")
    one.config["linux"]["cgroupsPath"] = f"{CGROUP}/memory"
    one.config["linux"]["resources"] = {"memory": {"limit": 16 << 20, "swap": 16 << 20}}
    one.save()
    hungry = Task(containerd, one, f"{leaks.PREFIX}-memory")
    try:
        hungry.create()
        hungry.start()
        hungry.wait()
        wait_for(lambda: "oom" in containerd.topics(), "the event")
    finally:
        hungry.end()


# A shell that is in a loop with a redirection: its standard output is not what it was when the shell began.
def test_the_interpreter_is_sealed(task: Callable[..., Task]) -> None:
    """What the shim and, at the exec fifo, init execute is on a read-only mount of its own (CVE-2019-5736)."""
    one = task(["/bin/sleep", "1000"])
    pid = one.create()
    for process in (one.shim, pid):
        assert os.statvfs(f"/proc/{process}/exe").f_flag & os.ST_RDONLY


@pytest.mark.parametrize("newest", [2, 3])
def test_what_newer_containerd_is_answered(containerd: Containerd, bundle: Any, newest: int) -> None:
    """JSON where the environment tells of versions, with the newest that both know; -info."""
    one = bundle(["/bin/true"])
    one.save()
    words = [str(PROGRAM), *containerd.flags("two"), "start"]
    environment = {"MAX_SHIM_VERSION": str(newest)}
    result = subprocess.run(
        words, cwd=one.path, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=30
    )
    answer = json.loads(result.stdout)
    assert (answer["version"], answer["protocol"]) == (newest, "ttrpc")
    client = Client(answer["address"])
    client.send("Connect", "ContainerRequest", service=f"containerd.task.v{newest}.Task", id="two")
    assert client.receive("ConnectResponse")[1]["shim_pid"] > 0
    client.call("Shutdown", "ShutdownRequest", id="two")
    client.close()
    info = subprocess.run([str(PROGRAM), "-info"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert b"io.containerd.pyruntime.v1" in info.stdout
    assert info.returncode == 0


@pytest.mark.parametrize("newest", [False, True])
def test_what_start_reads(containerd: Containerd, bundle: Any, newest: bool) -> None:
    """Options on standard input: as they are, or, from containerd 2.3 on, in BootstrapParams. They are heeded."""
    one = bundle(["/bin/true"])
    one.save()
    group = f"{leaks.PREFIX}-shim"
    options = {"type_url": "containerd.runc.v1.Options", "value": wire.encode("Options", {"shim_cgroup": f"/{group}"})}
    given = wire.encode("Any", options)
    if newest:
        fields = {"instance_id": "boot", "namespace": "x", "log_level": 4, "containerd_version": "2.3.0"}
        given = wire.encode("BootstrapParams", {**fields, "extensions": [{"value": options}]})
    made = [Path(top, group) for top in leaks.hierarchies()]
    for folder in made:
        folder.mkdir()
    try:
        words = [str(PROGRAM), *containerd.flags("boot"), "start"]
        result = subprocess.run(words, cwd=one.path, input=given, capture_output=True, env={}, timeout=30)
        client = Client(result.stdout.decode())
        request = {"id": "boot"}
        shim = client.call("Connect", "ContainerRequest", "ConnectResponse", **request)["shim_pid"]
        groups = set(proc.cgroups(proc.read(shim, "cgroup")).values())
        client.call("Shutdown", "ShutdownRequest", **request)
        client.close()
        assert f"/{group}" in groups  # cpuset takes nobody before it has cpus
    finally:
        for folder in made:
            wait_for(lambda folder=folder: _removed(folder), f"{folder} can be removed")


def _removed(folder: Path) -> bool:
    leaks.reap()
    try:
        folder.rmdir()
    except OSError:
        return False  # somebody is in it
    return True


def test_cycles_leave_nothing(task: Callable[..., Task], record_property: Callable[..., None]) -> None:
    """Exec after exec: no descriptor, no zombie, no memory."""
    one = task(["/bin/sleep", "1000"])
    pid = one.create()
    one.start()

    def cycle(number: int) -> None:
        one.exec(f"e{number}", "true")
        one.start(f"e{number}")
        assert one.wait(f"e{number}") == 0
        one.delete(f"e{number}")

    def look() -> tuple[int, int]:
        kib = int(proc.parse_status(proc.read(one.shim, "status"))["VmRSS"].split()[0])
        return len(os.listdir(f"/proc/{one.shim}/fd")), kib

    for number in range(20):
        cycle(number)
    wait_for(lambda: proc.children(one.shim) == [pid], "no children but init")
    before = look()
    for number in range(20, CYCLES):
        cycle(number)
    wait_for(lambda: proc.children(one.shim) == [pid], "no children but init")
    after = look()
    record_property("measured", f"{CYCLES} cycles: {before} -> {after} (descriptors, KiB)")
    print(f"{CYCLES} cycles: {before} -> {after} (descriptors, KiB)")
    assert after[0] <= before[0]
    assert after[1] - before[1] < 600


def test_containers_that_come_and_go_leave_nothing(containerd: Containerd, bundle: Any) -> None:
    """One after the other in the shim of a pod that stays: no descriptor, no zombie, no memory."""
    pod = {"annotations": {"io.kubernetes.cri.sandbox-id": "stays"}}
    made: list[Task] = []

    def begin(number: int, *args: str) -> Task:
        one = bundle(list(args), **pod)
        id = f"{leaks.PREFIX}-stays{number}"
        one.config["linux"]["cgroupsPath"] = f"{CGROUP}/{id}"
        one.save()
        made.append(Task(containerd, one, id))
        return made[-1]

    def look(shim: int) -> tuple[int, int]:
        kib = int(proc.parse_status(proc.read(shim, "status"))["VmRSS"].split()[0])
        return len(os.listdir(f"/proc/{shim}/fd")), kib

    try:
        first = begin(0, "/bin/sleep", "1000")
        pid = first.create()
        first.start()
        before = 0, 0
        for number in range(1, 4 + CYCLES // 8):
            one = begin(number, "/bin/sh", "-c", "exit 3")
            fifos = {name: f"{one.path}/{name}" for name in ("stdin", "stdout", "stderr")}
            for path in fifos.values():
                os.mkfifo(path)
            one.create(**fifos)
            one.start()
            assert one.wait() == 3
            one.delete()
            one.client.call("Shutdown", "ShutdownRequest", id=one.id)
            one.client.close()
            if number == 3:
                wait_for(lambda: proc.children(first.shim) == [pid], "no children but init")
                before = look(first.shim)
        wait_for(lambda: proc.children(first.shim) == [pid], "no children but init")
        # It learns a moment later that a client has gone.
        wait_for(lambda: look(first.shim)[0] <= before[0], f"descriptors are {before[0]} again")
        assert look(first.shim)[1] - before[1] < 600
    finally:
        made[0].end()
