"""buildah run --isolation oci."""

from __future__ import annotations

import pytest
from support import leaks, proc

from engines.buildah import Buildah


@pytest.fixture
def engine(buildah: Buildah):
    """The buildah of the candidate; a test's working containers are removed after it."""
    yield buildah
    buildah("rm", "--all")


def test_run(engine):
    """run: output, and what it writes stays"""
    name = engine.container()
    assert engine.run(name, "echo", "hello").stdout == "hello\n"
    engine.run(name, "sh", "-c", "echo kept >/new")
    assert engine.run(name, "cat", "/new").stdout == "kept\n"


@pytest.mark.parametrize("code", [1, 42])
def test_exit_code(engine, code):
    """run: exit status"""
    engine.run(engine.container(), "sh", "-c", f"exit {code}", check=code)


def test_missing_command(engine):
    """run: a missing command is told"""
    result = engine.run(engine.container(), "nosuch", check=None)
    assert result.code != 0
    assert "executable file not found in $PATH" in result.stderr, result


def test_terminal(engine):
    """run --terminal: a terminal"""
    script = "tty; read line; echo got $line; exit 5"
    talk = [("/dev/pts/0", "typed\n")]
    result = engine.on_terminal(engine.container(), "sh", "-c", script, talk=talk, check=5)
    assert "got typed" in result.stdout


def test_user_and_volume(engine):
    """run --user, --workingdir, --volume"""
    folder = engine.folder / "shared"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("host\n")
    flags = ["--user=alice", "--workingdir=/tmp", f"--volume={folder}:/mnt:ro"]
    result = engine.run(engine.container(), "sh", "-c", "id -u; pwd; cat /mnt/file", flags=flags)
    assert result.stdout == "1000\n/tmp\nhost\n"


def test_capabilities(engine):
    """run --cap-add, --cap-drop"""
    name = engine.container()
    engine.run(name, "mount", "-t", "tmpfs", "x", "/tmp", flags=["--cap-add=CAP_SYS_ADMIN"])
    engine.run(name, "chown", "1000", "/tmp", flags=["--cap-drop=CAP_CHOWN"], check=1)


def test_memory(engine):
    """from --memory: who exceeds it is killed"""
    name = engine.container("--memory=16m")
    engine.run(name, "sh", "-c", "tail -c 90000000 /dev/zero >/dev/null; exit $?", check=137)


def test_user_namespace(engine):
    """from --userns-uid-map: root inside is an ordinary user outside"""
    name = engine.container("--userns-uid-map=0:400000:65536", "--userns-gid-map=0:400000:65536")
    assert engine.run(name, "cat", "/proc/self/uid_map").stdout.split() == ["0", "400000", "65536"]
    status = proc.parse_status(engine.run(name, "cat", "/proc/self/status").stdout)
    assert status["Uid"].split() == ["0"] * 4


def test_nothing_is_left(engine):
    """removed containers leave no cgroups"""
    engine.run(engine.container(), "true")
    assert not [path for path in leaks.cgroups() if "buildah-buildah" in path]
