"""The streams of our containerd shim that are copied: log files, logging programs, what is no fifo."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import kernel
from support.shim import Client, Task, wait_for

pytestmark = pytest.mark.ours


def test_output_and_errors_of_one_file_keep_their_order(task: Callable[..., Task], tmp_path: Path) -> None:
    lines = "".join(f"echo {number}; echo {number} >&2; " for number in range(200))
    one = task(sh=lines)
    log = tmp_path / "new" / "log"
    one.create(stdout=f"file://{log}", stderr=f"file://{log}")
    one.start()
    assert one.wait() == 0
    one.delete()
    assert log.read_text().split() == [str(number) for number in range(200) for _ in "oe"]


def test_all_output_is_in_the_file_when_delete_answers(task: Callable[..., Task]) -> None:
    one = task(sh="head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2")
    one.create(stderr=f"file://{one.output}.err")
    one.start()
    assert one.wait() == 0
    one.delete()
    assert one.output.stat().st_size == 5_000_000
    assert Path(f"{one.output}.err").stat().st_size == 3_000_000


def test_a_full_disk_ends_no_process(task: Callable[..., Task], tmp_path: Path) -> None:
    """What has no room is dropped, with one warning; the process goes on, and is logged again when there is room."""
    kernel.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=64k,mode=755")
    try:
        one = task(sh="head -c 1000000 /dev/zero; echo written >&2; read line; echo $line")
        os.mkfifo(one.path / "input")
        one.create(stdin=str(one.path / "input"), stdout=f"file://{tmp_path}/log", stderr=f"file://{one.output}")
        one.start()
        wait_for(lambda: one.output.read_text() == "written\n", "the process goes on")
        assert (tmp_path / "log").stat().st_size < 1_000_000
        os.truncate(tmp_path / "log", 0)
        with (one.path / "input").open("w") as client:
            client.write("more\n")
        assert one.wait() == 0
        one.delete()
        assert (tmp_path / "log").read_text() == "more\n"
    finally:
        kernel.umount(str(tmp_path), kernel.MNT_DETACH)


def test_a_logging_program_of_a_shim_with_many_descriptors(task: Callable[..., Task], tmp_path: Path) -> None:
    """It gets its own pipes, whatever numbers these have in the shim."""
    program, log = tmp_path / "program", tmp_path / "log"
    program.write_text(f"#!/bin/sh\nexec 5>&-\ncat <&3 >{log}.out & exec cat <&4 >{log}.err\n")
    program.chmod(0o755)
    one = task(sh="echo out; echo err >&2")
    clients: list[Client] = []

    def open_in_shim() -> int:
        return len(os.listdir(f"/proc/{one.shim}/fd"))

    try:
        # The three that the program gets are now around 100, which the shim once used for itself.
        while open_in_shim() < 97:
            before = open_in_shim()
            clients.append(Client(one.address))
            wait_for(lambda before=before: open_in_shim() > before, "the shim has accepted the connection")
        one.create(stdout=f"binary://{program}", stderr=f"binary://{program}")
        one.start()
        assert one.wait() == 0
        one.delete()
    finally:
        for client in clients:
            client.close()
    for name, text in (("out", "out\n"), ("err", "err\n")):
        path = Path(f"{log}.{name}")
        wait_for(lambda path=path, text=text: path.exists() and path.read_text() == text, name)


def test_output_waits_for_a_client_that_opens_its_fifo_late(task: Callable[..., Task], tmp_path: Path) -> None:
    """Not for ever: Delete answers after a moment also when there is none."""
    one = task(sh="echo written")
    os.mkfifo(tmp_path / "out")
    one.create(stdout=str(tmp_path / "out"), stderr="")
    one.start()
    assert one.wait() == 0
    stream = one.client.send("Delete", "ProcessRequest", id=one.id)
    time.sleep(0.1)
    with (tmp_path / "out").open() as client:
        assert client.readline() == "written\n"
    assert one.client.receive("DeleteResponse")[0] == stream
    other = task(sh="echo never read")
    os.mkfifo(tmp_path / "other")
    other.create(stdout=str(tmp_path / "other"), stderr="")
    other.start()
    assert other.wait() == 0
    other.delete()


def test_a_terminal_into_a_file(task: Callable[..., Task]) -> None:
    one = task(sh="test -t 0 && test -t 1 && echo terminal")
    one.config["process"]["terminal"] = True
    (one.path / "config.json").write_text(json.dumps(one.config))
    one.create(terminal=True, stderr="")
    one.start()
    assert one.wait() == 0
    one.delete()
    assert one.output.read_bytes() == b"terminal\r\n"
