"""--trace: what each command did and how long it took, of the parent and of init, also when it fails."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time

import pytest
from support import traces

pytestmark = pytest.mark.ours


def test_create_has_every_step_of_the_plan_in_order(container, tmp_path):
    box = container(["/bin/sleep", "100"])
    box.config["linux"]["resources"] = {"pids": {"limit": 20}}
    file = tmp_path / "trace.json"
    before = time.monotonic_ns()
    box.create("--trace", str(file))
    after = time.monotonic_ns()
    trace = traces.read(file)
    assert (trace.command, trace.id, trace.whole.result) == ("create", box.id, "ok")
    assert before <= trace.whole.start <= trace.whole.end <= after  # the host's CLOCK_MONOTONIC
    assert trace.pids["init"] == box.pid

    told = box.runtime.run("explain", "--format", "json", str(box.bundle.path)).stdout
    plan = [one for one in json.loads(told) if one["phase"] not in ("execute", "started", "stopped")]
    for track, actor in (("parent", "parent"), ("init", "init")):
        assert traces.steps(trace, track) == [one["step"] for one in plan if one["actor"] == actor]
    fields = {event.step: event.field for event in trace.events}
    assert fields["setting.write"] == "/linux/resources/pids/limit"
    phases = [event.phase for event in trace.on("init") if event.kind == "step"]
    assert list(dict.fromkeys(phases)) == ["build", "enter", "become"]
    assert {event.phase for event in trace.on("parent") if event.kind == "step"} <= {
        "prepare",
        "setup",
        "hooks",
        "ready",
    }
    names = [message.name for message in trace.messages]
    assert names == ["procHooks", "procHooksDone", "procReady", "procRun", "procWaiting"]


def test_start_has_what_init_does_past_the_exec_fifo(container, tmp_path):
    box = container(["/bin/sleep", "100"])
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "sleep 0.05"]}
    box.config["hooks"] = {"startContainer": [hook], "poststart": [hook]}
    box.create("--trace", str(tmp_path / "create.json"))
    time.sleep(0.1)
    box.start_flags = ("--trace", str(tmp_path / "start.json"))
    box.runtime.run("start", *box.start_flags, box.id)
    trace = traces.read(tmp_path / "start.json")
    assert traces.steps(trace, "init") == ["hooks.run", "program.execute"]
    hook_of_init, execute = (event for event in trace.on("init") if event.kind == "step")
    assert hook_of_init.field == "/hooks/startContainer/0"
    assert hook_of_init.duration > 40e6
    assert execute.start >= hook_of_init.end
    assert traces.steps(trace, "parent") == ["hooks.run"]
    assert trace.pids["init"] == box.pid


def test_start_of_a_container_that_was_created_without(container, tmp_path):
    box = container(["/bin/sleep", "100"])
    box.create()
    box.runtime.run("start", "--trace", str(tmp_path / "start.json"), box.id)
    trace = traces.read(tmp_path / "start.json")
    assert traces.steps(trace) == []
    assert any(event.name.startswith("open the exec fifo") for event in trace.events)


def test_run_is_one_trace_of_the_whole_life(container, tmp_path):
    box = container(["/bin/sh", "-c", "sleep 0.1; exit 3"])
    file = tmp_path / "trace.json"
    assert box.run("--trace", str(file), check=3).code == 3
    trace = traces.read(file)
    names = traces.steps(trace, "init")
    assert names[-1] == "program.execute"
    assert traces.step(trace, "program.execute").result == "ok"
    assert any(event.name == "remove the cgroups" for event in trace.events)
    # A picture does not show a tenth of a second of sleep at its size.
    box.runtime.run("trace", "--svg", str(tmp_path / "run.svg"), str(file))
    assert 'class="cut"' in (tmp_path / "run.svg").read_text()


def test_exec_and_delete(container, tmp_path):
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    box.runtime.run("exec", "--trace", str(tmp_path / "exec.json"), box.id, "/bin/sh", "-c", "exit 7", check=7)
    trace = traces.read(tmp_path / "exec.json")
    assert traces.steps(trace, "init")[-1] == "program.execute"
    assert "target.join" in traces.steps(trace, "init")
    box.delete("--force", "--trace", str(tmp_path / "delete.json"))
    trace = traces.read(tmp_path / "delete.json")
    assert any(event.name == "kill remaining processes" for event in trace.events)


def test_a_start_that_fails_in_init_says_in_which_step(container, tmp_path):
    box = container(["/bin/true"])
    box.config["mounts"].append({"destination": "/x", "type": "bind", "source": "/nowhere", "options": ["bind"]})
    file = tmp_path / "trace.json"
    said = box.create("--trace", str(file), check=1).stderr
    trace = traces.read(file)
    failed = [event for event in trace.events if event.kind == "step" and event.result != "ok"]
    assert [event.field for event in failed] == [f"/mounts/{len(box.config['mounts']) - 1}"]
    assert failed[0].result == "failed"
    assert "ENOENT" in failed[0].error["message"]
    assert trace.error == failed[0].error
    assert trace.error["message"] in said
    # And the way back is in it.
    assert any(event.name == "undo the resources of the record" for event in trace.events)
    assert not (box.runtime.root / box.id).exists()


def test_a_start_that_fails_in_the_parent(container, tmp_path):
    box = container(["/bin/true"])
    box.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    file = tmp_path / "trace.json"
    box.create("--trace", str(file), check=1)
    trace = traces.read(file)
    [failed] = [event for event in trace.events if event.kind == "step" and event.result != "ok"]
    assert (failed.track, failed.step, failed.phase) == ("parent", "hooks.run", "hooks")
    assert trace.error["kind"] == "HookError"


def test_a_start_whose_init_is_killed_shows_the_step_that_it_was_in(container, tmp_path):
    box = container(["/bin/true"])
    # In the host's pid namespace, since nobody can kill process 1 from inside one.
    box.config["linux"]["namespaces"] = [one for one in box.config["linux"]["namespaces"] if one["type"] != "pid"]
    box.config["hooks"] = {"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}]}
    file = tmp_path / "trace.json"
    box.create("--trace", str(file), check=1)
    trace = traces.read(file)
    [killed] = [event for event in trace.events if event.kind == "step" and event.result != "ok"]
    assert (killed.track, killed.step, killed.result) == ("init", "hooks.run", "unfinished")


def test_a_config_that_is_wrong_has_a_trace_too(container, tmp_path):
    box = container(["/bin/true"])
    box.config["linux"]["namespaces"].append({"type": "nonsense"})
    file = tmp_path / "trace.json"
    box.create("--trace", str(file), check=1)
    trace = traces.read(file)
    assert trace.whole.result == "failed"
    assert "nonsense" in json.dumps(trace.error)
    assert [event.name for event in trace.events if event.result == "failed" and event.kind == "call"] == [
        "check config.json"
    ]


def test_what_fails_past_the_exec_fifo_fails_in_start(container, tmp_path):
    box = container(["/bin/true"])
    box.config["hooks"] = {"startContainer": [{"path": "/bin/false"}]}
    box.create("--trace", str(tmp_path / "create.json"))
    box.runtime.run("start", "--trace", str(tmp_path / "start.json"), box.id, check=1)
    trace = traces.read(tmp_path / "start.json")
    failed = traces.step(trace, "hooks.run")
    assert (failed.track, failed.result, failed.phase) == ("init", "failed", "execute")
    assert "/bin/false" in json.dumps(failed.error)


@pytest.mark.parametrize("offset", [100_000, -1])
def test_the_clock_of_a_time_namespace_is_set_back(container, tmp_path, offset):
    box = container(["/bin/sleep", "100"])
    box.config["ociVersion"] = "1.1.0"
    box.config["linux"]["namespaces"].append({"type": "time"})
    box.config["linux"]["timeOffsets"] = {"monotonic": {"secs": offset, "nanosecs": 5}}
    box.create("--trace", str(tmp_path / "create.json"))
    box.start()
    assert f"{offset}" in box.proc("timens_offsets")
    trace = traces.read(tmp_path / "create.json")  # everything lies within the command, on the host's clock
    assert len(traces.steps(trace, "init")) > 20
    box.runtime.run("exec", "--trace", str(tmp_path / "exec.json"), box.id, "/bin/true")
    trace = traces.read(tmp_path / "exec.json")
    join = traces.step(trace, "target.join")
    assert 0 < join.duration < 5e9


def test_a_user_namespace(container, tmp_path):
    box = container(["/bin/sleep", "100"])
    linux = box.config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    box.bundle.chown(100000, 100000)
    box.create("--trace", str(tmp_path / "create.json"))
    trace = traces.read(tmp_path / "create.json")
    assert "id_maps.write_map" in traces.steps(trace, "parent")
    assert traces.steps(trace, "init")[-1] in ("program.find", "seccomp.load")
    box.runtime.run("start", "--trace", str(tmp_path / "start.json"), box.id)
    assert traces.steps(traces.read(tmp_path / "start.json"), "init") == ["program.execute"]
    box.runtime.run("exec", "--trace", str(tmp_path / "exec.json"), box.id, "/bin/true")
    assert traces.steps(traces.read(tmp_path / "exec.json"), "init")[-1] == "program.execute"


def test_before_the_command_and_into_a_directory(container, tmp_path):
    """An engine chooses the words after the command; what is before it can be configured."""
    box = container(["/bin/sleep", "100"])
    box.bundle.save()
    traced = ("--trace", str(tmp_path))
    box.runtime.run(*traced, "create", "--bundle", str(box.bundle.path), "--pid-file", str(box.pid_file), box.id)
    box.runtime.run(*traced, "state", box.id)  # has no steps, and takes it all the same
    box.runtime.run(*traced, "start", box.id)
    box.runtime.run(*traced, "exec", box.id, "/bin/true")
    box.runtime.run(*traced, "delete", "--force", box.id)
    names = sorted(os.listdir(tmp_path))
    assert [name.split("-")[0] if ".exec-" in name else name for name in names if ".exec-" not in name] == [
        f"{box.id}.create.json",
        f"{box.id}.delete.json",
        f"{box.id}.start.json",
    ]
    assert len([name for name in names if name.startswith(f"{box.id}.exec-")]) == 1
    for name in names:
        traces.read(tmp_path / name)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600  # arguments of programs are in it


def test_a_file_that_cannot_be_written_is_told_before_anything_is_done(container):
    box = container(["/bin/true"])
    said = box.create("--trace", "/nowhere/trace.json", check=1).stderr
    assert "cannot write the trace /nowhere/trace.json" in said
    assert not (box.runtime.root / box.id).exists()


def test_nothing_of_it_reaches_the_container(container, tmp_path):
    box = container(["/bin/ls", "-l", "/proc/self/fd"])
    with_it = box.run("--trace", str(tmp_path / "trace.json")).stdout
    assert "trace" not in with_it
    assert len(with_it.splitlines()) == len(box.run().stdout.splitlines())


def test_without_it_no_file_and_no_call(container, tmp_path):
    """strace is not needed: no module of the trace is loaded (tests/unit/test_imports.py), and no file is left."""
    box = container(["/bin/sleep", "100"])
    box.create()
    assert "exec.trace" not in os.listdir(box.runtime.root / box.id)


def test_the_picture_in_the_terminal(container, tmp_path):
    box = container(["/bin/true"])
    file = tmp_path / "trace.json"
    box.create("--trace", str(file))
    shown = box.runtime.run("trace", str(file)).stdout
    assert "\x1b" not in shown  # a pipe
    assert f"pyruntime create {box.id}: ok" in shown
    assert "mount proc on /proc" in shown
    assert "█" in shown
    shown = box.runtime.run("trace", "--longest", "3", str(file)).stdout
    assert len(shown.splitlines()) == 3


@pytest.mark.parametrize("forbidden", [False, True])
def test_colour_is_for_terminals_and_not_against_no_color(container, tmp_path, forbidden):
    box = container(["/bin/true"])
    file = tmp_path / "trace.json"
    box.create("--trace", str(file))
    ours, theirs = os.openpty()
    env = {"PATH": "/usr/bin:/bin", "TERM": "xterm"} | ({"NO_COLOR": "1"} if forbidden else {})
    command = [box.runtime.executable.path, "trace", "--longest", "0", str(file)]
    process = subprocess.Popen(command, stdout=theirs, env=env)
    os.close(theirs)
    data = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            data += chunk
    except OSError:
        pass  # EIO: the other end is closed
    assert process.wait(10) == 0
    os.close(ours)
    assert b"mount proc" in data
    assert (b"\x1b[" in data) is not forbidden
