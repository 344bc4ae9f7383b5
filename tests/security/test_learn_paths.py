"""learn looks at a rootfs that other containers may share: names that are replaced meanwhile lead nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyruntime.kernel import files
from pyruntime.learn import written


@pytest.mark.parametrize("nested", ["", "a/"])
def test_a_directory_that_becomes_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nested: str) -> None:
    """The attack at its moment: the directory has been listed, and is not opened yet."""
    outside, rootfs = tmp_path / "outside", tmp_path / "rootfs"
    (outside / "sub").mkdir(parents=True)
    for place in (outside, outside / "sub"):
        (place / "secret").touch()
    victim = rootfs / nested / "sub"
    (victim / "sub").mkdir(parents=True)
    open_resolved = files.open_resolved

    def swap(dirfd: int, path: str, *rest: int) -> int:
        if path == f"./{nested}sub":
            victim.rename(rootfs / "moved")
            victim.symlink_to(outside)
        return open_resolved(dirfd, path, *rest)

    monkeypatch.setattr(files, "open_resolved", swap)
    found, _, _ = written.changed(str(rootfs), 0)
    assert victim.is_symlink()
    assert not [path for path in found if "secret" in path]


def test_changed_paths_and_the_directories_of_them(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").touch()
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    times = [os.lstat(tmp_path / name).st_ctime_ns for name in ("a/b/file", "fifo")]
    assert written.changed(str(tmp_path), 0) == (["/", "/a", "/a/b", "/a/b/file", "/fifo", "/link"], ["/"], 0)
    assert written.changed(str(tmp_path), max(times) + 10**9) == ([], [], 0)
