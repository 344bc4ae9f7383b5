"""dockerd in modes that need a daemon of their own."""

from __future__ import annotations

import signal
from itertools import count
from pathlib import Path

import pytest
from support import proc

from engines.docker import Docker

_numbers = count(1)


@pytest.fixture
def start(candidate, folder: Path, archive: Path):
    """Start a dockerd with flags: `start("--live-restore")`; it is stopped after the test."""
    started: list[Docker] = []

    def make(*flags: str) -> Docker:
        engine = Docker(folder / f"docker-{next(_numbers)}", candidate, flags)
        started.append(engine)
        engine.start()
        engine.load(archive)
        return engine

    yield make
    for engine in started:
        engine.stop()


def test_user_namespaces(start, subordinate_ids):
    """--userns-remap: root inside is an ordinary user outside"""
    engine = start("--userns-remap=daemon")
    name = engine.run_detached(flags=["--network=bridge", "--volume=named:/data", "--memory=64m"])
    status = proc.parse_status(proc.read(engine.state(name)["Pid"], "status"))
    assert status["Uid"].split() == [str(subordinate_ids["daemon"])] * 4
    assert (
        engine.exec(name, "sh", "-c", "id -u; touch /new /data/new && stat -c %u /new /data/new").stdout == "0\n0\n0\n"
    )
    assert engine.cgroup_file(name, "memory", "memory.limit_in_bytes") == str(64 << 20)
    assert engine.run("id", "-u", flags=["--userns=host"]).stdout == "0\n"
    engine("stop", "--time=0", name)


def test_a_private_volume_in_a_user_namespace(start, subordinate_ids, tmp_path):
    """--userns-remap with -v of a directory below one of mode 0700"""
    private = tmp_path / "private"
    (private / "data").mkdir(parents=True)
    (private / "data" / "file").write_text("readable\n")
    private.chmod(0o700)
    engine = start("--userns-remap=daemon")
    assert engine.run("cat", "/data/file", flags=[f"--volume={private}/data:/data:ro"]).stdout == "readable\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_live_restore(start, number):
    """--live-restore: containers outlive the daemon and obey the next one"""
    engine = start("--live-restore")
    name = engine.run_detached(flags=["--network=bridge"])
    pid = engine.state(name)["Pid"]
    if number == signal.SIGKILL:
        engine.kill_daemon()
    else:
        engine.daemon.stop(number)
    assert proc.process_state(pid) == "S"
    engine.start()
    assert engine.state(name)["Pid"] == pid
    assert engine.exec(name, "echo", "still here").stdout == "still here\n"
    engine("kill", name)
    assert engine.await_exit(name) == 137
