"""What is served of crun's own flags and annotations (docs/compatibility.md, "From crun")."""

from __future__ import annotations

import json
import os
import socket

import pytest
from support.refusal import refused

pytestmark = pytest.mark.ours

SLEEP = ["/bin/sleep", "1000"]


def running(container):
    box = container(SLEEP)
    box.create()
    box.start()
    return box


def test_kill_and_delete_by_a_regular_expression(container):
    boxes = [running(container) for _ in range(3)]
    runtime = boxes[0].runtime
    pattern = "^(" + "|".join(box.id for box in boxes[:2]) + ")$"
    runtime.run("kill", "--regex", pattern, "KILL")
    for box in boxes[:2]:
        box.wait()
    assert [box.status() for box in boxes] == ["stopped", "stopped", "running"]
    result = runtime.run("delete", "-r", ".", check=1)
    assert f"{boxes[2].id}: cannot delete container" in result.stderr
    assert runtime.run("list", "-q").stdout.split() == [boxes[2].id]
    runtime.run("delete", "--force", "--regex", ".")
    assert runtime.run("list", "-q").stdout == ""


def test_a_regular_expression_that_is_none(container):
    box = running(container)
    for verb in ("kill", "delete"):
        result = box.runtime.run(verb, "--regex", "(", check=1)
        refused(box.runtime, result, "--regex: '(' is not a regular expression")
    assert box.status() == "running"


def test_the_config_of_another_file(container, scratch):
    box = container(sh="echo of the bundle")
    box.bundle.save()
    other = json.loads(box.bundle.config_file.read_text())
    other["process"]["args"] = ["/bin/echo", "of the file"]
    (scratch / "other.json").write_text(json.dumps(other))
    assert box.run("-f", "other.json", cwd=scratch).stdout == "of the file\n"


def test_the_manager_of_cgroups(container):
    box = container(["/bin/true"])
    box.run(flags=["--cgroup-manager", "cgroupfs"])
    result = box.run(check=1, flags=["--cgroup-manager=disabled"])
    refused(box.runtime, result, "invalid cgroup-manager: 'disabled'; use cgroupfs or systemd")
    box.config["linux"]["cgroupsPath"] = "/not/of/systemd"
    assert box.run(check=1, flags=["--cgroup-manager=systemd"]).stderr


@pytest.mark.parametrize(("value", "kept"), [("1", True), ("0", False)])
def test_the_original_groups_are_kept(container, value, kept):
    box = container(SLEEP)
    box.config["annotations"] = {"run.oci.keep_original_groups": value}
    wrap = ["setpriv", "--groups=1234,5678", "--"]
    box.create(wrap=wrap)
    box.start()
    expected = "1234 5678" if kept else ""
    assert box.process_status()["Groups"].strip() == expected
    result = box.runtime.run("exec", box.id, "/bin/grep", "Groups", "/proc/self/status", wrap=wrap)
    assert result.stdout.partition(":")[2].strip() == expected


def test_a_pidfd_to_whom_the_annotation_names(container, scratch):
    path = str(scratch / "pidfd.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    listener.settimeout(10)
    box = container(SLEEP)
    box.config["annotations"] = {"run.oci.pidfd_receiver": path}
    box.create()
    connection, _ = listener.accept()
    data, fds, _, _ = socket.recv_fds(connection, 100, 4)
    with open(f"/proc/self/fdinfo/{fds[0]}") as info:
        assert f"Pid:\t{box.pid}\n" in info.read()
    assert data == b" "  # as crun sends it
    for one in (connection, listener):
        one.close()
    os.close(fds[0])


def test_the_output_of_hooks_goes_into_files(container, scratch):
    out, err = scratch / "out", scratch / "err"
    out.write_text("before\n")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo word; echo wrong >&2"]}
    box = container(["/bin/true"])
    box.config["hooks"] = {kind: [hook] for kind in ("createRuntime", "poststart", "poststop")}
    box.config["annotations"] = {"run.oci.hooks.stdout": str(out), "run.oci.hooks.stderr": str(err)}
    box.create()
    box.start()
    box.wait()
    box.delete()
    assert (out.read_text(), err.read_text()) == ("before\nword\nword\nword\n", "wrong\nwrong\nwrong\n")


def test_files_for_hooks_that_cannot_be_opened(container, scratch):
    os.mkfifo(scratch / "fifo")  # which nobody reads: it must not be waited for
    box = container(["/bin/true"])
    box.config["hooks"] = {"createRuntime": [{"path": "/bin/true"}]}
    for path in ("/nosuch/x", str(scratch / "fifo")):
        box.config["annotations"] = {"run.oci.hooks.stdout": path}
        result = box.create(check=1)
        refused(box.runtime, result, f"/annotations/run.oci.hooks.stdout: open {path}: no such")


def test_what_is_not_served_is_said(container):
    box = container(["/bin/true"])
    box.config["annotations"] = {"run.oci.handler": "krun", "run.oci.systemd.subgroup": "", "run.oci.unknown": "x"}
    result = box.run()
    assert result.stderr.count("level=warning") == 1
    assert "/annotations/run.oci.handler: is not served" in result.stderr
