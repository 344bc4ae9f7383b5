"""--pid-file on what is not a regular file: it is written to or refused, and stays what it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from support.runtime import Result

# runc 1.1.5 renames a file over it; crun 1.8.1 opens it.
REPLACED = "runc 1.1.5 replaces it by a file"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


def make(box: Any, place: Path, verb: str = "create", **options: Any) -> Result:
    box.bundle.save()
    return box.runtime.run(verb, "--bundle", box.bundle.path, "--pid-file", place, box.id, **options)


def kind(path: Path) -> int:
    return stat.S_IFMT(path.lstat().st_mode)


@pytest.mark.differs(runc=REPLACED)
def test_a_device(container, place):
    """As /dev/null, which a run by root replaced by a file for all of the host."""
    os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    box = container(["/bin/sleep", "1000"])
    make(box, place)
    assert kind(place) == stat.S_IFCHR
    assert box.status() == "created"


@pytest.mark.differs(runc=REPLACED)
def test_a_fifo(container, place):
    os.mkfifo(place)
    reader = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
    box = container(["/bin/sleep", "1000"])
    make(box, place)
    assert int(os.read(reader, 100)) == box.state()["pid"]
    assert kind(place) == stat.S_IFIFO
    os.close(reader)


@pytest.mark.differs(runc=REPLACED)
def test_a_link_to_a_pipe(container, place):
    """As /dev/stdout: the pid goes there."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    place.symlink_to(f"/proc/self/fd/{writing}")
    box = container(["/bin/sleep", "1000"])
    make(box, place, pass_fds=(writing,))
    assert int(os.read(reading, 100)) == box.state()["pid"]
    assert place.is_symlink()
    os.close(reading)
    os.close(writing)


REFUSED = {
    "a FIFO without a reader": lambda place: os.mkfifo(place),
    "a block device": lambda place: os.mknod(place, stat.S_IFBLK | 0o600, os.makedev(7, 250)),
    "a link to a file": lambda place: place.symlink_to(place.parent / "file"),
    "a link to nothing": lambda place: place.symlink_to("nothing"),
    "a link to itself": lambda place: place.symlink_to(place),
    "a directory": lambda place: place.mkdir(),
}


@pytest.mark.ours
@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("verb", ["create", "run"])
def test_what_is_refused(container, place, what, verb):
    """And then no container is left."""
    (place.parent / "file").write_text("kept")
    REFUSED[what](place)
    before = kind(place)
    box = container(["/bin/sleep", "1000"])
    result = make(box, place, verb, check=1)
    assert f"--pid-file {place}: " in result.stderr
    assert result.stderr.count("\n") == 1
    assert kind(place) == before
    assert (place.parent / "file").read_text() == "kept"
    assert sorted(path.name for path in place.parent.iterdir()) == sorted({"file", "place"})
    assert not (box.runtime.root / box.id).exists()


@pytest.mark.ours
def test_of_exec(container, place):
    os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.start()
    box.runtime.run("exec", "--pid-file", place, box.id, "/bin/true")
    assert kind(place) == stat.S_IFCHR
    place.unlink()
    place.symlink_to("nothing")
    assert "--pid-file" in box.runtime.run("exec", "--pid-file", place, box.id, "/bin/true", check=255).stderr
    assert place.is_symlink()


def test_an_old_file_is_replaced(container, place):
    """As a whole: who has the old one open keeps it."""
    place.write_text("x" * 100)
    with place.open() as old:
        box = container(["/bin/sleep", "1000"])
        make(box, place)
        assert int(place.read_text()) == box.state()["pid"]
        if box.runtime.kind != "crun":
            assert old.read() == "x" * 100


# --log


@pytest.mark.parametrize("path", ["/nosuch/log", "/proc/version/log", "/"])
def test_a_log_that_cannot_be_opened(runtime, path):
    """An engine would wait for lines that never come."""
    result = runtime.run("list", flags=("--log", path), check=None, root=False)
    assert result.code != 0
    assert path in result.stderr
    assert result.stdout == ""


def test_a_log_with_nothing_to_say(runtime, tmp_path):
    runtime.root.mkdir()
    runtime.run("list", flags=("--log", str(tmp_path / "log")))
    assert (tmp_path / "log").read_text() == ""
