"""containerd and our own shim, driven by ctr: the tests of the runc shim, and more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import proc

from engines import command
from engines.containerd import SHIM_TYPE, ShimContainerd
from engines.test_containerd import *  # noqa: F403  # the same tests, by the other route


@pytest.fixture
def engine(shim_containerd: ShimContainerd) -> Iterator[ShimContainerd]:
    """The containerd with our shim; a test's containers are removed after it."""
    yield shim_containerd
    for name in shim_containerd.containers():
        shim_containerd.remove(name)


def test_pid_file_and_shim(engine):
    """run -d: init is the shim's child, and no other process of ours is there"""
    name = engine.run_detached()
    shim = engine.shim(name)
    assert proc.read(shim, "cmdline").split("\0")[1:2] == ["shim"] or "shim" in proc.read(shim, "cmdline")
    assert proc.children(shim) == [engine.pid(name)]


def test_version(engine):
    """-v: the shim's version"""
    shim = Path(engine.candidate.path).parent / "containerd-shim-pyruntime-v1"
    assert "containerd-shim-pyruntime-v1" in command.run([str(shim), "-v"]).stdout


def test_what_it_can_do(engine):
    """plugins inspect-runtime: the shim's name and version, and the features of its containers"""
    if "inspect-runtime" not in engine.ctr("plugins", "--help").stdout:
        pytest.skip("this ctr has no `plugins inspect-runtime`")
    found = json.loads(engine.ctr("plugins", "inspect-runtime", "--runtime", SHIM_TYPE).stdout)
    assert found["Name"] == SHIM_TYPE
    assert "CAP_CHOWN" in found["Features"]["linux"]["capabilities"]


def test_events(engine):
    """events: create, start, exec-added, exec-started, exit, delete, in order"""
    listener = subprocess.Popen([*engine.client, "events"], stdout=subprocess.PIPE, env=command.ENVIRONMENT, text=True)
    lines: list[str] = []
    assert listener.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(iter(listener.stdout.readline, "")))
    reader.start()
    try:
        time.sleep(0.3)
        name = engine.run_detached()
        engine.exec(name, "sh", "-c", "exit 7", check=7)
        engine.ctr("task", "pause", name)
        engine.ctr("task", "resume", name)
        engine.ctr("task", "kill", "--signal", "SIGKILL", name)
        engine.reap(name)
        proc.wait_until(lambda: any("/tasks/delete" in line for line in lines), "the delete event")
    finally:
        listener.terminate()
        listener.wait()
        reader.join(5)
        listener.stdout.close()
    ours = [line for line in lines if "/tasks/" in line and name in line]
    found = [next(word for word in line.split() if word.startswith("/tasks/")) for line in ours]
    wanted = "create start exec-added exec-started exit paused resumed exit delete"
    assert found == [f"/tasks/{word}" for word in wanted.split()]
    exits = [json.loads(line[line.index("{") :]) for line in lines if "/tasks/exit" in line and name in line]
    assert [one.get("exit_status", 0) for one in exits] == [7, 137]


def test_standard_input(engine):
    """run: what is written to standard input arrives, and its end"""
    words = engine.run_words(engine.name(), ["sh", "-c", "cat; echo end"], ["--rm"])
    process = subprocess.Popen(
        [*engine.client, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=command.ENVIRONMENT, text=True
    )
    assert process.stdin is not None
    process.stdin.write("some text\n")
    process.stdin.flush()
    time.sleep(1)  # ctr 1.6 may never tell of an end that comes at once
    output, _ = process.communicate(timeout=20)
    assert output == "some text\nend\n"


def test_much_output(engine):
    """run: 20 MB of output arrive whole, with and without a terminal"""
    size = 20_000_000
    script = f"head -c {size} /dev/zero | tr '\\0' x"
    assert len(engine.run("sh", "-c", script).stdout) == size
    # ctr gives up what is under way when a container ends, with containerd's shim, too.
    words = engine.run_words(engine.name(), ["sh", "-c", f"{script}; sleep 1"], ["--rm", "--tty"])
    assert len(engine.ctr_on_terminal(*words).stdout) == size


def test_a_client_that_goes_away(engine):
    """run: a client that is killed neither blocks nor ends the container"""
    script = "i=0; while [ $i -lt 300 ]; do echo line; i=$((i+1)); sleep 0.01; done; touch /done; sleep 99"
    words = engine.run_words(engine.name(), ["sh", "-c", script], [])
    process = subprocess.Popen([*engine.client, *words], stdout=subprocess.PIPE, env=command.ENVIRONMENT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"line\n"
    process.kill()
    process.communicate()
    name = words[-4]
    file = Path(f"/proc/{engine.pid(name)}/root/done")
    proc.wait_until(file.exists, "it went on", 10)
    assert engine.tasks()[name][1] == "RUNNING"


def test_a_slow_reader_stops_nobody_else(engine):
    """run: output that nobody reads stops its writer only"""
    words = engine.run_words(engine.name(), ["sh", "-c", "yes"], [])
    process = subprocess.Popen([*engine.client, *words], stdout=subprocess.PIPE, env=command.ENVIRONMENT)
    name = words[-4]
    try:
        proc.wait_until(lambda: engine.tasks().get(name, ("", ""))[1] == "RUNNING", "it runs")
        start = time.monotonic()
        assert engine.exec(name, "echo", "hi").stdout == "hi\n"
        assert engine.run("echo", "other").stdout == "other\n"
        assert time.monotonic() - start < 5
        engine.ctr("task", "kill", "--signal", "SIGKILL", name)
    finally:
        process.kill()
        process.communicate()


def test_out_of_memory_is_told(engine):
    """events: oom"""
    listener = subprocess.Popen([*engine.client, "events"], stdout=subprocess.PIPE, env=command.ENVIRONMENT, text=True)
    try:
        time.sleep(0.3)
        engine.run("sh", "-c", "head -c 100000000 /dev/zero | tail -c 90000000 >/dev/null; exit $?", check=137,
                   flags=("--memory-limit", str(16 << 20)))  # fmt: skip
        time.sleep(0.3)
    finally:
        listener.terminate()
        output, _ = listener.communicate(timeout=10)
    assert "/tasks/oom" in output


def test_a_logging_program(engine):
    """--log-uri binary://: a program gets both outputs"""
    program = engine.folder / "logger.sh"
    program.write_text('#!/bin/sh\nexec 5>&-\n(cat <&3; cat <&4) >"$2.$CONTAINER_ID"\n')
    program.chmod(0o755)
    log = engine.folder / "logged"
    uri = f"binary://{program}?file={log}"
    name = engine.run_detached("sh", "-c", "echo to the log; echo and this >&2", flags=("--log-uri", uri))
    engine.await_status(name, "STOPPED")
    file = Path(f"{log}.{name}")
    proc.wait_until(lambda: file.exists() and len(file.read_text().splitlines()) == 2, "both lines")
    assert sorted(file.read_text().splitlines()) == ["and this", "to the log"]


def test_exec_many_times(engine):
    """exec: 100 in a row leave no descriptor, no zombie and little memory in the shim"""
    name = engine.run_detached()
    shim = engine.shim(name)
    for _ in range(5):
        engine.exec(name, "true")
    before = len(os.listdir(f"/proc/{shim}/fd")), _resident(shim)
    for _ in range(100):
        engine.exec(name, "true")
    proc.wait_until(lambda: proc.children(shim) == [engine.pid(name)], "no zombies")
    after = len(os.listdir(f"/proc/{shim}/fd")), _resident(shim)
    assert after[0] <= before[0]
    assert after[1] - before[1] < 500


def test_a_group_shares_a_shim(engine):
    """run: containers of one sandbox id are served by one shim"""
    flags = ("--annotation", f"io.kubernetes.cri.sandbox-id={engine.name()}")
    help = engine.ctr("run", "--help").stdout
    if "--annotation" not in help:
        flags = ("--label", "io.containerd.runc.v2.group=x")
        pytest.skip("this ctr cannot set annotations")
    names = [engine.run_detached(flags=flags) for _ in range(2)]
    assert engine.shim(names[0]) == engine.shim(names[1])


def test_a_shim_that_was_stopped_is_given_up(engine):
    """a shim that hangs (SIGSTOP) does not stop other containers"""
    name = engine.run_detached()
    shim = engine.shim(name)
    os.kill(shim, signal.SIGSTOP)
    try:
        assert engine.run("echo", "other").stdout == "other\n"
    finally:
        os.kill(shim, signal.SIGCONT)
    assert engine.exec(name, "echo", "again").stdout == "again\n"


def _resident(pid: int) -> int:
    """Resident memory of a process in KiB."""
    return int(proc.parse_status(proc.read(pid, "status"))["VmRSS"].split()[0])
