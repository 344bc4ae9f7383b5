"""What a container can do to the host through the streams that the containerd shim gives it.

A descriptor of a file or device of the host is that file: fchmod(2), fchown(2) and ftruncate(2) reach it, and
/proc/self/fd/N opens it again with other rights. runc's shim has always put a pipe in between.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.shim import Refused, Task, wait_for

from pyruntime.shim import wire

pytestmark = pytest.mark.ours
UID, GID = 1234, 1235
# Through its standard output: empty the file, run by anybody as root, and not root's.
ATTACK = "echo first; : >/proc/self/fd/1; chmod 4777 /proc/self/fd/1; chown 1000:1000 /proc/self/fd/1; echo second"


def owned() -> dict[str, Any]:
    """Options that give the streams to a user, as dockerd does with userns-remap."""
    value = wire.encode("Options", {"io_uid": UID, "io_gid": GID})
    return {"options": {"type_url": "containerd.runc.v1.Options", "value": value}}


def attributes(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid


def hostile(task: Callable[..., Task], sh: str, uid: int = 0) -> Task:
    """A container with the capabilities to change files that it holds."""
    one = task(sh=sh)
    one.config["process"]["user"] = {"uid": uid, "gid": uid}
    names = ["CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE", "CAP_KILL"]
    one.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    (one.path / "config.json").write_text(json.dumps(one.config))
    return one


def streams_of(pid: int) -> list[os.stat_result]:
    return [os.stat(f"/proc/{pid}/fd/{number}") for number in range(3)]


def exec_with(one: Task, exec_id: str, script: str, **streams: str) -> None:
    spec = b'{"args": ["sh", "-c", "%s"], "cwd": "/", "env": ["PATH=/bin"]}' % script.encode()
    any = {"type_url": "types.containerd.io/opencontainers/runtime-spec/1/Process", "value": spec}
    one.client.call("Exec", "ExecProcessRequest", id=one.id, exec_id=exec_id, spec=any, **streams)


@pytest.mark.parametrize("path", ["", "/dev/null"])
def test_the_hosts_null_device_keeps_its_owner(task: Callable[..., Task], null: os.stat_result, path: str) -> None:
    """io_uid and io_gid are for what was made for the container, not for what stands in for no stream."""
    one = task(["/bin/sleep", "1000"])
    pid = one.create(stdin=path, stdout=path, stderr=path, **owned())
    assert attributes(os.stat("/dev/null")) == attributes(null)
    one.start()
    exec_with(one, "e", "true", stdin=path, stdout=path)
    one.start("e")
    assert one.wait("e") == 0
    assert attributes(os.stat("/dev/null")) == attributes(null)
    assert pid > 0


def test_fifos_and_pipes_become_the_users(task: Callable[..., Task], tmp_path: Path) -> None:
    fifos = [tmp_path / name for name in ("in", "out", "err")]
    for path in fifos:
        os.mkfifo(path)
    log = tmp_path / "log"
    one = hostile(task, "sleep 1000", UID)
    streams = {"stdin": str(fifos[0]), "stdout": str(fifos[1]), "stderr": f"file://{log}"}
    found = streams_of(one.create(**streams, **owned()))
    assert [(one.st_uid, one.st_gid, stat.S_ISFIFO(one.st_mode)) for one in found] == [(UID, GID, True)] * 3
    assert os.stat(fifos[1]).st_ino == found[1].st_ino  # the fifo itself: nothing is copied
    assert (os.stat(log).st_uid, os.stat(log).st_gid) == (0, 0)


@pytest.mark.parametrize("form", ["file://{}", "{}"])
@pytest.mark.parametrize("process", ["init", "exec"])
def test_a_log_file_stays_as_it_is(task: Callable[..., Task], tmp_path: Path, form: str, process: str) -> None:
    """Its content, mode and owner, by a container whose root is the host's."""
    log = tmp_path / "log"
    log.write_text("before\n")
    log.chmod(0o640)
    streams = {"stdout": form.format(log), "stderr": ""}
    if process == "init":
        one = hostile(task, ATTACK)
        one.create(**streams)
        one.start()
        one.wait()
    else:
        one = hostile(task, "sleep 1000")
        one.create()
        one.start()
        exec_with(one, "e", ATTACK, **streams)
        one.start("e")
        one.wait("e")
        one.delete("e")
        one.kill()
        one.wait()
    one.delete()
    assert attributes(os.stat(log)) == (0o100640, 0, 0)
    text = log.read_text()
    assert text == "before\nfirst\nsecond\n" if form != "{}" else text == "first\nsecond\n"


def test_standard_input_is_not_a_file_of_the_host(task: Callable[..., Task], tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.write_text("word\n")
    source.chmod(0o600)
    one = hostile(task, "read line; echo changed >/proc/self/fd/0; chmod 4777 /proc/self/fd/0; echo $line")
    one.create(stdin=str(source))
    one.start()
    assert one.wait() == 0
    one.delete()
    assert source.read_text() == "word\n"
    assert attributes(os.stat(source)) == (0o100600, 0, 0)
    assert one.output.read_text() == "word\n"


def test_a_logging_program_gets_pipes(task: Callable[..., Task], tmp_path: Path) -> None:
    """binary://: the process has pipes of the user's, the program the other ends at 3 and 4."""
    program, log = tmp_path / "program", tmp_path / "log"
    program.write_text(f"#!/bin/sh\nexec 5>&-\nexec cat <&3 >>{log}\n")
    program.chmod(0o755)
    one = hostile(task, ATTACK, UID)
    pid = one.create(stdout=f"binary://{program}", stderr=f"binary://{program}", **owned())
    found = streams_of(pid)[1:]
    assert [(one.st_uid, stat.S_ISFIFO(one.st_mode)) for one in found] == [(UID, True)] * 2
    one.start()
    one.wait()
    one.delete()
    wait_for(lambda: log.read_text() == "first\nsecond\n", "the program has written everything")
    assert attributes(os.stat(log))[1:] == (0, 0)


def test_a_directory_is_refused(task: Callable[..., Task], tmp_path: Path) -> None:
    one = task(["/bin/true"])
    for streams in ({"stdin": str(tmp_path)}, {"stdout": str(tmp_path)}, {"stdout": f"file://{tmp_path}"}):
        with pytest.raises(Refused, match="is a directory"):
            one.create(**streams)


@pytest.mark.parametrize("path", ["", "/dev/null"])
def test_a_container_cannot_change_the_hosts_null_device(
    task: Callable[..., Task], null: os.stat_result, path: str
) -> None:
    change = "for number in 0 1 2; do chmod 600 /proc/self/fd/$number; chown 5 /proc/self/fd/$number; done; exit 7"
    one = hostile(task, change)
    one.create(stdin=path, stdout=path, stderr=path)
    one.start()
    assert one.wait() == 7
    assert attributes(os.stat("/dev/null")) == attributes(null)
