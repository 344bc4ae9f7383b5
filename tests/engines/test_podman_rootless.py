"""podman as an ordinary user."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import proc

from engines.podman import Podman

USER = "games"


@pytest.fixture(scope="session")
def rootless(candidate, folder: Path, archive: Path, subordinate_ids):
    """The podman of a user with subordinate ids."""
    engine = Podman(folder / f"p-{candidate.name}", candidate, USER)
    try:
        engine.load(archive)
        yield engine
    finally:
        engine.stop()


@pytest.fixture
def engine(rootless: Podman):
    """The podman of the user; a test's containers are removed after it."""
    yield rootless
    if rootless("ps", "--all", "--quiet").stdout:
        rootless.remove_all()


@pytest.mark.parametrize("network", ["none", "host"])
def test_run(engine, network):
    """run: output and exit status"""
    flags = [f"--network={network}"]
    assert engine.run("sh", "-c", "id -u; exit 7", flags=flags, check=7).stdout == "0\n"


def test_missing_command(engine):
    """run: 127 for a missing command"""
    assert "executable file not found in $PATH" in engine.run("nosuch", check=127).stderr


def test_terminal(engine):
    """run -it: a terminal"""
    words = engine.words("sh", "-c", "tty; read line; echo got $line; exit 5", flags=["--rm", "-it"])
    result = engine.on_terminal(*words, talk=[("/dev/pts/0", "typed\n")], check=5)
    assert "got typed" in result.stdout


def test_identity(engine, subordinate_ids):
    """run -d, exec: root inside is the user outside, others are subordinate ids"""
    name = engine.run_detached()
    status = proc.parse_status(proc.read(engine.state(name)["Pid"], "status"))
    assert status["Uid"].split() == ["5"] * 4
    assert engine.exec(name, "id", "-un", flags=["--user=alice"]).stdout == "alice\n"
    mapped = engine.exec(name, "cat", "/proc/self/uid_map").stdout.split()
    assert mapped == ["0", "5", "1", "1", str(subordinate_ids["games"]), "65536"]


def test_exec(engine):
    """exec, logs, kill, rm"""
    name = engine.run_detached("sh", "-c", "echo out; sleep 1000")
    engine.exec(name, "sh", "-c", "exit 9", check=9)
    proc.wait_until(lambda: engine("logs", name).stdout == "out\n", "it has written")
    engine("kill", name)
    assert engine.await_exit(name) == 137
    engine("rm", name)


def test_user_namespace(engine):
    """--userns=keep-id: the user is itself inside"""
    assert engine.run("id", "-u", flags=["--userns=keep-id"]).stdout == "5\n"


def test_volume(engine):
    """--volume, --tmpfs, --read-only"""
    flags = ["--volume=named:/data", "--read-only", "--tmpfs=/scratch"]
    engine.run("sh", "-c", "echo kept >/data/file && touch /scratch/new && ! touch /new", flags=flags)
    assert engine.run("cat", "/data/file", flags=["--volume=named:/data"]).stdout == "kept\n"


def test_capabilities(engine):
    """--cap-add, --privileged: over what belongs to the user's namespace only"""
    engine.run("mount", "-t", "tmpfs", "x", "/tmp", check=1)
    engine.run("mount", "-t", "tmpfs", "x", "/tmp", flags=["--cap-add=sys_admin"])
    engine.run("mount", "-t", "tmpfs", "x", "/tmp", flags=["--privileged"])
