"""Checkpoints by our containerd shim, and Create of what was checkpointed."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import proc
from support.shim import Containerd, Refused, Task, wait_for

from pyruntime.shim import wire

pytestmark = pytest.mark.ours


COUNTER = "i=0; { while :; do i=$((i+1)); echo $i >&7; sleep 0.1; done; } 7>&1 >/dev/null"


def checkpoint(one: Task, folder: Path, **options: Any) -> None:
    """Checkpoint, with options of containerd's message."""
    value = wire.encode("CheckpointOptions", options)
    any = {"type_url": "containerd.runc.v1.CheckpointOptions", "value": value}
    one.client.call("Checkpoint", "CheckpointTaskRequest", id=one.id, path=str(folder), options=any)


class Counter:
    """What a container with COUNTER writes into a fifo, as a client of containerd reads it."""

    def __init__(self, path: Path, terminal: bool) -> None:
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.rest = b""
        self.streams = {"stdout": str(path), "stderr": "" if terminal else str(path), "terminal": terminal}

    def read(self) -> list[int]:
        """What was counted since the last time, once there is a whole line."""
        lines: list[bytes] = []
        while not lines:  # a terminal passes on a line in any pieces
            wait_for(lambda: select.select([self.fd], [], [], 0)[0], "it counts", 10 * proc.SLOW)
            *lines, self.rest = (self.rest + os.read(self.fd, 1 << 16)).split(b"\n")
        found = [int(line) for line in lines]
        self.last = found[-1]
        return found


@pytest.mark.parametrize("how", ["exit", "leave", "terminal"])
def test_a_checkpoint_goes_on_in_another_container(
    task: Callable[..., Task], criu: None, containerd: Containerd, tmp_path: Path, how: str
) -> None:
    """A number in the memory of a process goes on where it was, in the streams of now, below the other shim."""
    leave, terminal = how == "leave", how == "terminal"
    one, two = task(sh=COUNTER), task(sh=COUNTER)
    for box in (one, two):
        box.config["process"]["terminal"] = terminal
        (box.path / "config.json").write_text(json.dumps(box.config))
    counters = [Counter(tmp_path / f"fifo{number}", terminal) for number in range(2)]
    one.create(**counters[0].streams)
    one.start()
    while counters[0].read()[-1] < 5:
        pass
    images = tmp_path / "images"
    checkpoint(one, images, exit=not leave)
    assert not (one.path / "criu-work").exists()
    wait_for(lambda: "checkpointed" in containerd.topics(), "the event")
    assert dict(containerd.events)["/tasks/checkpointed"] == {"container_id": one.id, "checkpoint": str(images)}
    last = counters[0].last
    if leave:
        assert one.state()["status"] == 2
        counters[0].read()
        assert counters[0].read()[0] > last
        one.kill()
    assert one.wait() == 137
    assert one.delete()["exit_status"] == 137

    assert two.create(**counters[1].streams, checkpoint=str(images)) == 0
    assert (two.state()["status"], two.state()["pid"]) == (1, 0)
    pid = two.start()
    assert two.state()["pid"] == pid
    wait_for(lambda: proc.parent(pid) == two.shim, "the child that restored it has exited, and the shim is its reaper")
    assert last < counters[1].read()[0] < last + 100
    two.exec("e", "true")
    two.start("e")
    assert two.wait("e") == 0
    two.delete("e")
    two.kill()
    assert two.wait() == 137
    assert two.delete() | {"exited_at": None} == {"pid": pid, "exit_status": 137, "exited_at": None}
    told = "create start exec-added exec-started exit exit delete".split()
    wait_for(lambda: containerd.topics()[-len(told) :] == told, "the events of the second")


def test_a_checkpoint_that_fails(task: Callable[..., Task], tmp_path: Path) -> None:
    """Without a criu that works, or room for the images: criu's reason is told, and the container runs on."""
    one = task(["/bin/sleep", "1000"])
    pid = one.create()
    with pytest.raises(Refused, match="in created state"):
        checkpoint(one, tmp_path / "images")
    one.start()
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="OCI runtime checkpoint failed: .*(criu|file)"):
        checkpoint(one, tmp_path / "file" / "images", exit=True)
    assert (one.state()["status"], one.state()["pid"]) == (2, pid)
    any = {"type_url": "something.Else", "value": b""}
    with pytest.raises(Refused, match=r"something\.Else are not known"):
        one.client.call("Checkpoint", "CheckpointTaskRequest", id=one.id, path="/nowhere", options=any)


def test_a_restore_that_fails(task: Callable[..., Task], containerd: Containerd, base: Path, tmp_path: Path) -> None:
    """Images that are not there: Start says so, nothing runs, and Delete takes the mounts away."""
    one = task(["/bin/sleep", "1000"])
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    options = [f"lowerdir={base}", f"upperdir={tmp_path}/upper", f"workdir={tmp_path}/work"]
    mounts = [{"type": "overlay", "source": "overlay", "options": options}]
    assert one.create(rootfs=mounts, checkpoint=str(tmp_path / "images")) == 0
    assert os.path.ismount(one.path / "rootfs")
    with pytest.raises(Refused, match="is not restored yet"):
        one.kill()
    with pytest.raises(Refused, match="OCI runtime restore failed: .*(criu|images)"):
        one.start()
    assert (one.state()["status"], one.state()["pid"]) == (1, 0)
    assert one.delete()["pid"] == 0
    assert not os.path.ismount(one.path / "rootfs")
    wait_for(lambda: containerd.topics() == ["create", "delete"], "both events, and no other")
    assert not os.path.exists(f"/run/containerd/pyruntime/{containerd.namespace}/{one.id}")
