"""What requests can do to the containerd shim, which serves all containers of a pod with one thread."""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import proc
from support.shim import SERVICE, Client, Containerd, Refused, Task

from pyruntime.shim import wire
from pyruntime.shim.ttrpc import frame

pytestmark = pytest.mark.ours
NAMES = ["", ".", "..", "../../etc", "a/b", "/etc", ".hidden", "a\n", "x" * 1025]


@pytest.fixture
def one(task: Callable[..., Task]) -> Task:
    """A container that runs."""
    made = task(["/bin/sleep", "1000"])
    made.create()
    made.start()
    return made


def seconds_of(pid: int) -> float:
    """CPU time of a process so far."""
    fields = proc.read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    return int(proc.parse_status(proc.read(pid, "status"))["VmRSS"].split()[0]) << 10


def request(stream: int, method: str, message: str, **values: Any) -> bytes:
    payload = wire.encode(message, values)
    return frame(stream, 1, wire.encode("Request", {"service": SERVICE, "method": method, "payload": payload}))


def flood(one: Task, data: bytes) -> tuple[Client, int]:
    """Send, and read no answer, until the shim takes no more: the connection, and how much it took."""
    client = Client(one.address)
    client.socket.setblocking(False)
    sent = 0
    while sent < len(data):
        try:
            sent += client.socket.send(data[sent : sent + (1 << 16)])
        except BlockingIOError:
            if not select.select([], [client.socket], [], 1.0 * proc.SLOW)[1]:
                break
    client.socket.setblocking(True)
    client.socket.settimeout(30 * proc.SLOW)
    return client, sent


@pytest.mark.parametrize(
    ("method", "message", "payload"),
    [
        ("Create", "CreateTaskRequest", b"\x1a\x00" * 80_000),  # 80,000 mounts
        ("Update", "UpdateTaskRequest", b"\x1a\x06\x0a\x04%04x" * 20_000),  # 20,000 annotations
    ],
    ids=["list", "map"],
)
def test_a_message_of_many_parts_takes_no_longer_than_its_size(
    one: Task, method: str, message: str, payload: bytes
) -> None:
    """Each element was once copied for each one after it: 160 kB blocked the shim for 92 s."""
    if b"%" in payload:
        payload = b"".join(b"\x1a\x06\x0a\x04%04x" % number for number in range(20_000))
    payload = wire.encode(message, {"id": one.id}) + payload
    began = time.monotonic()
    data = wire.encode("Request", {"service": SERVICE, "method": method, "payload": payload})
    one.client.socket.sendall(frame(1001, 1, data))
    other = Client(one.address)
    other.socket.settimeout(120)
    assert other.call("State", "ProcessRequest", "StateResponse", id=one.id)["status"] == 2
    assert time.monotonic() - began < 3 * proc.SLOW
    other.close()


def test_a_shim_out_of_descriptors_waits_for_one(one: Task) -> None:
    """accept(2) fails while poll(2) says that there is a connection: no reason to try again at once, and for ever."""
    before = resource.prlimit(one.shim, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{one.shim}/fd"))
    resource.prlimit(one.shim, resource.RLIMIT_NOFILE, (used, before[1]))
    try:
        waiting = Client(one.address)
        waiting.send("State", "ProcessRequest", id=one.id)
        time.sleep(0.2)
        began = seconds_of(one.shim)
        time.sleep(1.5)
        assert seconds_of(one.shim) - began < 0.3
        assert one.client.call("Connect", "ContainerRequest", "ConnectResponse", id=one.id)["shim_pid"] == one.shim
    finally:
        resource.prlimit(one.shim, resource.RLIMIT_NOFILE, before)
    assert waiting.receive("StateResponse")[1]["status"] == 2
    waiting.close()


def test_answers_that_nobody_reads_are_bounded(one: Task) -> None:
    """The shim stops to read from such a client, serves the others, and answers all once the client reads."""
    count = 100_000
    data = b"".join(request(2 * number + 1, "State", "ProcessRequest", id=one.id) for number in range(count))
    before = resident(one.shim)
    client, sent = flood(one, data)
    assert one.state()["status"] == 2
    assert resident(one.shim) - before < 8 << 20
    assert sent < len(data)
    whole = sent // (len(data) // count) - 100  # requests vary by a byte or two in length
    for number in range(whole):
        stream, answer = client.receive("StateResponse")
        assert (stream, answer["status"]) == (2 * number + 1, 2)
    client.close()


def test_requests_without_an_answer_are_bounded(one: Task) -> None:
    """Each Wait is kept until the process ends."""
    count = 100_000
    data = b"".join(request(2 * number + 1, "Wait", "ProcessRequest", id=one.id) for number in range(count))
    before = resident(one.shim)
    client, sent = flood(one, data)
    assert sent < len(data)
    assert one.state()["status"] == 2
    assert resident(one.shim) - before < 8 << 20
    one.kill()
    assert one.wait() == 137
    whole = sent // (len(data) // count) - 100
    assert whole > 4096  # also those that were not read before
    for number in range(whole):
        stream, answer = client.receive("WaitResponse")
        assert (stream, answer["exit_status"]) == (2 * number + 1, 137)
    client.close()


@pytest.mark.parametrize("id", NAMES)
def test_a_name_that_is_a_path_is_refused(task: Callable[..., Task], id: str) -> None:
    """By Create, which has written nothing then, and by Exec."""
    one = task(["/bin/sleep", "1000"])
    before = sorted(os.listdir(one.path))
    with pytest.raises(Refused, match="container id") as refused:
        one.client.call("Create", "CreateTaskRequest", "PidResponse", id=id, bundle=str(one.path))
    assert refused.value.code == 3
    assert sorted(os.listdir(one.path)) == before
    with pytest.raises(Refused) as refused:
        one.client.call("Delete", "ProcessRequest", "DeleteResponse", id=id)
    assert refused.value.code == 5
    one.create()
    one.start()
    with pytest.raises(Refused, match="exec id") as refused:
        one.exec(id, "true")
    assert refused.value.code == 3
    assert one.state()["status"] == 2


def test_nothing_is_written_where_no_bundle_is(one: Task, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    for bundle in (str(place), "relative", "", f"{place}/none", f"{place}\0"):
        with pytest.raises(Refused, match="bundle") as refused:
            one.client.call("Create", "CreateTaskRequest", "PidResponse", id="other", bundle=bundle)
        assert refused.value.code == 3
    assert os.listdir(place) == []


def test_options_that_are_no_options_are_refused_first(task: Callable[..., Task]) -> None:
    one = task(["/bin/true"])
    before = sorted(os.listdir(one.path))
    value = wire.encode("Options", {"root": "relative"})
    for any in (
        {"type_url": "containerd.runc.v1.Options", "value": value},
        {"type_url": "something.Else", "value": b""},
        {"type_url": "containerd.runc.v1.Options", "value": b"\xff"},
    ):
        with pytest.raises(Refused) as refused:
            one.create(options=any)
        assert refused.value.code == 3
    assert sorted(os.listdir(one.path)) == before


@pytest.mark.parametrize("verb", ["start", "delete"])
@pytest.mark.parametrize(
    ("id", "namespace"), [("..", "space"), ("", "space"), ("id", ".."), ("id", "../x"), ("id", "")]
)
def test_start_and_delete_stay_in_their_directory(
    containerd: Containerd, tmp_path: Path, verb: str, id: str, namespace: str
) -> None:
    """An id or namespace of `..` would name a directory above the one of all containers."""
    bundle, above = tmp_path / "bundle", tmp_path / "above"
    (above / "root").mkdir(parents=True)
    (above / "marker").touch()
    (above / "state.json").touch()
    bundle.mkdir()
    (bundle / "config.json").write_text("{}")
    note = {"root": f"{above}/root", "systemd_cgroup": False, "mounted": False}
    (bundle / "pyruntime.json").write_text(json.dumps(note))
    words = [containerd.program, "-namespace", namespace, "-address", "/none", "-id", id, "-bundle", str(bundle), verb]
    result = subprocess.run(words, cwd=bundle, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert (above / "marker").exists()
    assert result.returncode == 1
    assert sorted(os.listdir(bundle)) == ["config.json", "pyruntime.json"]
    assert any(word in result.stderr for word in (b"invalid", b"cannot be empty", b"needs"))


def test_a_wait_for_an_exec_that_is_deleted_ends(one: Task) -> None:
    one.exec("never", "true")
    other = Client(one.address)
    try:
        other.send("Wait", "ProcessRequest", id=one.id, exec_id="never")
        assert other.call("State", "ProcessRequest", "StateResponse", id=one.id)["status"] == 2  # so it has both
        one.delete("never")
        with pytest.raises(Refused, match="is deleted") as refused:
            other.receive("WaitResponse")
        assert refused.value.code == 5
    finally:
        other.close()
