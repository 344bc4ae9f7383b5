"""mounts add, remove and list: a running container gets mounts, and loses those and no others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support import config as configs
from support import kernel, proc
from support.container import Container

pytestmark = pytest.mark.ours


def running(one: Container) -> Container:
    one.create()
    one.start()
    return one


@pytest.fixture
def volume(tmp_path: Path, scratch: Path) -> Path:
    """A directory of the host that only root may pass to, with a file in it."""
    hidden = scratch / f"hidden-{tmp_path.name}"
    hidden.mkdir(mode=0o700)
    path = hidden / "volume"
    path.mkdir(mode=0o777)
    path.chmod(0o777)
    (path / "word").write_text("hello\n")
    return path


def add(one: Container, *specs: str, **options: Any) -> Any:
    words = [word for spec in specs for word in ("--mount", spec)]
    return one.runtime.run("mounts", "add", *words, one.id, **options)


def inside(one: Container, *command: str) -> str:
    return one.runtime.run("exec", one.id, *command).stdout


def options_at(one: Container, place: str) -> set[str]:
    found = [mount for mount in one.mounts() if mount.target == place]
    assert found, one.mounts()
    return set(found[-1].options)


def test_a_bind_appears_and_goes(container: Any, volume: Path) -> None:
    one = running(container(["sleep", "100"]))
    before = len(one.mounts())
    add(one, f"type=bind,source={volume},destination=/new/place,options=rbind:ro:nosuid")
    assert inside(one, "cat", "/new/place/word") == "hello\n"
    assert {"ro", "nosuid"} <= options_at(one, "/new/place")
    rows = json.loads(one.runtime.run("mounts", "list", "--format", "json", one.id).stdout)
    assert rows[-1] == {
        "destination": "/new/place",
        "type": "bind",
        "source": str(volume),
        "options": ["rbind", "ro", "nosuid"],
        "added": True,
        "mounted": True,
    }
    assert [row["added"] for row in rows[:-1]] == [False] * (len(rows) - 1)
    assert one.runtime.run("audit", "--drift", one.id).code == 0
    diff = one.runtime.run("explain", "--diff", str(one.bundle.path), one.id, check=None)
    assert diff.code == 2
    assert f"bind {volume} on /new/place" in diff.stdout
    one.runtime.run("mounts", "remove", "--destination", "/new/place", one.id)
    assert one.runtime.run("explain", "--diff", str(one.bundle.path), one.id).code == 0
    assert len(one.mounts()) == before
    assert inside(one, "ls", "/new/place") == ""
    assert (volume / "word").exists()


def test_the_form_of_crun(container: Any, volume: Path, tmp_path: Path) -> None:
    one = running(container(["sleep", "100"]))
    file = tmp_path / "mounts.json"
    entries = [
        {"destination": "/a", "type": "bind", "source": str(volume), "options": ["bind"]},
        {"destination": "/b", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "size=64k"]},
    ]
    file.write_text(json.dumps({"mounts": entries}))
    one.runtime.run("mounts", "add", one.id, str(file))
    assert inside(one, "cat", "/a/word") == "hello\n"
    assert "ro" in options_at(one, "/b")
    one.runtime.run("mounts", "remove", one.id, str(file))
    assert not {"/a", "/b"} & {mount.target for mount in one.mounts()}


def test_a_file_on_a_read_only_root(container: Any, volume: Path) -> None:
    one = container(["sleep", "100"])
    one.config["root"]["readonly"] = True
    (one.rootfs / "here").touch()
    running(one)
    add(one, f"type=bind,source={volume}/word,destination=/here,options=bind:ro")
    assert inside(one, "cat", "/here") == "hello\n"
    failed = add(one, f"type=bind,source={volume},destination=/missing", check=None)
    assert failed.code == 1
    assert "EROFS" in failed.stderr


def test_all_or_none(container: Any, volume: Path) -> None:
    one = running(container(["sleep", "100"]))
    before = len(one.mounts())
    failed = add(
        one,
        f"type=bind,source={volume},destination=/first",
        "type=tmpfs,source=tmpfs,destination=/second,options=size=bad",
        check=None,
    )
    assert failed.code == 1
    assert len(one.mounts()) == before
    assert not any(row["added"] for row in json.loads(_list(one)))


def _list(one: Container) -> str:
    return one.runtime.run("mounts", "list", "--format", "json", one.id).stdout


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("type=proc,source=proc,destination=/p", "cannot be added"),
        ("type=bind,source=/nowhere,destination=/p", "ENOENT"),
        ("type=tmpfs,source=tmpfs,destination=/p,options=tmpcopyup", "create only"),
        ("type=tmpfs,source=tmpfs", "destination"),
        ("type=tmpfs,source=tmpfs,destination=/", "root of the container"),
        ("type=bind,source=/etc,destination=/proc/sys", "inside /proc"),
        ("kind=bind", "unknown member"),
    ],
)
def test_refused(container: Any, spec: str, words: str) -> None:
    one = running(container(["sleep", "100"]))
    before = len(one.mounts())
    failed = add(one, spec, check=None)
    assert failed.code == 1
    assert words in failed.stderr
    assert len(one.mounts()) == before


def test_only_what_was_added_is_removed(container: Any) -> None:
    one = running(container(["sleep", "100"]))
    for place in ("/dev/shm", "/nothing"):
        failed = one.runtime.run("mounts", "remove", "--destination", place, one.id, check=None)
        assert failed.code == 1
        assert "no mount was added" in failed.stderr
    assert "/dev/shm" in {mount.target for mount in one.mounts()}


def test_a_mount_that_is_covered_or_gone_stays_as_it_is(container: Any, volume: Path) -> None:
    one = container(["sleep", "100"])
    one.process["capabilities"] = {key: ["CAP_SYS_ADMIN"] for key in ("bounding", "effective", "permitted")}
    running(one)
    add(one, f"type=bind,source={volume},destination=/place")
    inside(one, "mount", "-t", "tmpfs", "tmpfs", "/place")
    assert str(volume) not in {mount.target for mount in proc.parse_mountinfo(Path("/proc/self/mountinfo").read_text())}
    result = one.runtime.run("mounts", "remove", "--destination", "/place", one.id)
    assert "was not found" in result.stderr
    assert options_at(one, "/place")  # the container's own tmpfs
    assert not any(row["added"] for row in json.loads(_list(one)))


def test_without_a_mount_namespace(container: Any, volume: Path) -> None:
    one = container(["sleep", "100"])
    configs.drop_namespace(one.config, "mount")
    one.config["mounts"] = []
    one.config["linux"].pop("maskedPaths", None)
    running(one)
    failed = add(one, f"type=bind,source={volume},destination=/place", check=None)
    assert failed.code == 1
    assert "shares the mount namespace" in failed.stderr


def test_in_a_user_namespace_the_attributes_are_locked(container: Any, volume: Path) -> None:
    """Below a directory that only root may search; and root of the container, with all capabilities, cannot undo ro."""
    one = container(["sleep", "100"])
    configs.map_ids(one.config)
    every = [f"CAP_{name}" for name in ("SYS_ADMIN", "DAC_OVERRIDE", "CHOWN")]
    one.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), every)
    os.chown(one.rootfs, 200000, 200000)
    running(one)
    add(
        one,
        f"type=bind,source={volume},destination=/place,options=rbind:ro:nosuid:nodev",
        f"type=bind,source={volume}/word,destination=/file,options=bind:ro",
        "type=tmpfs,source=tmpfs,destination=/scratch",
    )
    assert inside(one, "cat", "/place/word", "/file") == "hello\nhello\n"
    assert os.stat(one.root / "place").st_dev == os.stat(volume).st_dev
    tried = one.runtime.run("exec", one.id, "mount", "-o", "remount,bind,rw,suid,dev", "/place", check=None)
    assert tried.code != 0
    assert {"ro", "nosuid", "nodev"} <= options_at(one, "/place")
    assert os.stat(one.root / "scratch").st_uid == 200000
    one.runtime.run("mounts", "remove", "--destination", "/place", "--destination", "/file", one.id)
    assert not {"/place", "/file"} & {mount.target for mount in one.mounts()}
    assert [row["destination"] for row in json.loads(_list(one)) if row["added"]] == ["/scratch"]


def test_the_host_sees_nothing_of_it(container: Any, volume: Path) -> None:
    one = running(container(["sleep", "100"]))
    before = proc.parse_mountinfo(Path("/proc/self/mountinfo").read_text())
    add(one, f"type=bind,source={volume},destination=/place")
    assert proc.parse_mountinfo(Path("/proc/self/mountinfo").read_text()) == before
    assert kernel  # the fixture `machine` has given this process mounts of its own


def test_a_paused_and_a_stopped_container(container: Any, volume: Path) -> None:
    one = running(container(["sleep", "100"]))
    one.runtime.run("pause", one.id)
    add(one, f"type=bind,source={volume},destination=/place")
    one.runtime.run("resume", one.id)
    assert inside(one, "cat", "/place/word") == "hello\n"
    one.kill("KILL")
    one.wait()
    failed = add(one, f"type=bind,source={volume},destination=/other", check=None)
    assert "not running" in failed.stderr
