"""Paths below a hostile root: whatever is there, what comes out is below the root. No root is needed."""

from __future__ import annotations

import ctypes
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyruntime.errors import KernelError
from pyruntime.features.rootfs import path

ELOOP, ENOENT, ENOTDIR = 40, 2, 20


class Tree:
    """A root directory, and a secret beside it."""

    def __init__(self, base: Path) -> None:
        self.top = base / "root"
        self.outside = base / "outside"
        for directory in (self.top, self.outside, self.top / "etc"):
            directory.mkdir()
        (self.outside / "secret").write_text("secret")
        (self.top / "etc/passwd").write_text("inside")
        self.fd = os.open(self.top, os.O_PATH | os.O_DIRECTORY)

    def place(self, fd: int) -> str:
        """Where a descriptor is, seen from the root; closes it."""
        found = os.readlink(f"/proc/self/fd/{fd}")
        os.close(fd)
        assert found == str(self.top) or found.startswith(f"{self.top}/"), found
        return found[len(str(self.top)) :] or "/"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path)
    before = sorted(os.listdir("/proc/self/fd"))
    yield made
    assert sorted(os.listdir("/proc/self/fd")) == before, "a descriptor is left"
    os.close(made.fd)
    assert sorted(os.listdir(made.outside)) == ["secret"]
    assert (made.outside / "secret").read_text() == "secret"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("/", "/"),
        ("", "/"),
        ("etc", "/etc"),
        ("/etc/passwd", "/etc/passwd"),
        ("//etc/./passwd", "/etc/passwd"),
        ("/etc/../etc/passwd", "/etc/passwd"),
        ("../../../etc/passwd", "/etc/passwd"),
        ("/..", "/"),
    ],
)
def test_plain_paths(tree: Tree, asked: str, found: str) -> None:
    if not asked:
        with pytest.raises(KernelError):
            path.resolve(tree.fd, asked)
        return
    assert tree.place(path.resolve(tree.fd, asked)) == found


@pytest.mark.parametrize(
    ("target", "asked", "found"),
    [
        ("etc", "/link/passwd", "/etc/passwd"),
        ("/etc", "/link/passwd", "/etc/passwd"),
        ("../../etc", "/link/passwd", "/etc/passwd"),
        ("/", "/link/etc/passwd", "/etc/passwd"),
        ("..", "/link", "/"),
    ],
)
def test_links_stay_inside(tree: Tree, target: str, asked: str, found: str) -> None:
    (tree.top / "link").symlink_to(target)
    assert tree.place(path.resolve(tree.fd, asked)) == found


def test_links_to_the_host_find_nothing(tree: Tree) -> None:
    (tree.top / "link").symlink_to(tree.outside)
    (tree.top / "up").symlink_to("../outside")
    for asked in ("/link/secret", "/up/secret", "/link"):
        with pytest.raises(KernelError) as caught:
            path.resolve(tree.fd, asked)
        assert caught.value.errno == ENOENT


def test_magic_links_are_refused(tree: Tree) -> None:
    """/proc/self/fd/N of a proc mounted in the root leads anywhere (CVE-2019-16884 and the like)."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    for asked in ("self/fd/0", "self/root", "self/cwd", "self/exe"):
        with pytest.raises(KernelError) as caught:
            path.resolve(proc, asked)
        assert caught.value.errno == ELOOP
    os.close(proc)


@pytest.mark.parametrize("asked", ["/new", "/a/b/c", "/etc/deep/er", "/./x//y/"])
def test_directories_are_made(tree: Tree, asked: str) -> None:
    made = tree.place(path.make_directory(tree.fd, asked))
    assert made == "/" + "/".join(name for name in asked.split("/") if name not in ("", "."))
    assert (tree.top / made[1:]).is_dir()


def test_directories_that_are_there_are_left_alone(tree: Tree) -> None:
    (tree.top / "there").mkdir(mode=0o700)
    assert tree.place(path.make_directory(tree.fd, "/there", 0o755)) == "/there"
    assert stat.S_IMODE((tree.top / "there").stat().st_mode) == 0o700


def test_files_are_made_empty_and_with_their_directories(tree: Tree) -> None:
    assert tree.place(path.make_file(tree.fd, "/a/b/file")) == "/a/b/file"
    assert (tree.top / "a/b/file").read_bytes() == b""
    assert tree.place(path.make_file(tree.fd, "/etc/passwd")) == "/etc/passwd"
    assert (tree.top / "etc/passwd").read_text() == "inside"


@pytest.mark.parametrize(
    ("target", "made"),
    [
        ("there", "/there"),
        ("/over/there", "/over/there"),
        ("../../../there", "/there"),
        ("etc/../there", "/there"),
        ("{outside}/there", None),
    ],
)
def test_a_dangling_link_is_followed_inside_the_root(tree: Tree, target: str, made: str | None) -> None:
    target = target.format(outside=tree.outside)
    (tree.top / "link").symlink_to(target)
    found = tree.place(path.make_directory(tree.fd, "/link/below"))
    # An absolute target is below the root: the host's path is made there, not on the host.
    assert found == (made if made is not None else target) + "/below"


def test_a_dangling_link_as_the_last_name(tree: Tree) -> None:
    (tree.top / "file").symlink_to("/var/real")
    assert tree.place(path.make_file(tree.fd, "/file")) == "/var/real"
    assert (tree.top / "var/real").is_file()


def test_links_in_a_circle(tree: Tree) -> None:
    (tree.top / "a").symlink_to("b")
    (tree.top / "b").symlink_to("a")
    for make in (path.make_directory, path.make_file):
        with pytest.raises(KernelError) as caught:
            make(tree.fd, "/a/new")
        assert caught.value.errno == ELOOP


def test_a_dangling_circle_grows_for_ever(tree: Tree) -> None:
    (tree.top / "a").symlink_to("x/../a")
    with pytest.raises(KernelError) as caught:
        path.make_directory(tree.fd, "/a/new")
    assert caught.value.errno in (ELOOP, ENOTDIR, ENOENT)


def test_a_file_where_a_directory_is_needed(tree: Tree) -> None:
    for asked in ("/etc/passwd", "/etc/passwd/below"):
        with pytest.raises(KernelError) as caught:
            path.make_directory(tree.fd, asked)
        assert caught.value.errno == ENOTDIR


class Refused(Exception):
    """Raised for where a link leads."""


def refuse(fd: int) -> None:
    raise Refused(os.readlink(f"/proc/self/fd/{fd}"))


@pytest.mark.parametrize("asked", ["/etc", "/etc/new/er", "/new", "/etc/../etc/new"])
def test_without_links_nothing_is_asked(tree: Tree, asked: str) -> None:
    os.close(path.make_directory(tree.fd, asked, linked=refuse))


@pytest.mark.parametrize("asked", ["/link", "/link/new", "/link/a/b", "/dangling", "/dangling/a", "/etc/up/etc/new"])
def test_a_link_is_asked_about_before_anything_is_made_behind_it(tree: Tree, asked: str) -> None:
    (tree.top / "link").symlink_to("etc")
    (tree.top / "dangling").symlink_to("etc/missing")
    (tree.top / "etc/up").symlink_to("/")
    with pytest.raises(Refused):
        path.make_directory(tree.fd, asked, linked=refuse)
    assert sorted(os.listdir(tree.top / "etc")) == ["passwd", "up"]


def test_descriptors_are_close_on_exec(tree: Tree) -> None:
    for fd in (path.resolve(tree.fd, "/etc"), path.make_directory(tree.fd, "/new/er"), path.make_file(tree.fd, "/f")):
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_the_umask_is_the_callers(tree: Tree) -> None:
    before = os.umask(0)
    try:
        os.close(path.make_directory(tree.fd, "/a/b", 0o700))
        os.close(path.make_file(tree.fd, "/f", 0o600))
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tree.top / name).stat().st_mode) for name in ("a", "a/b", "f")] == [0o755, 0o700, 0o600]


def test_a_race_with_somebody_inside(tree: Tree) -> None:
    """CVE-2021-30465: a directory that becomes a link to the host between the look and the use.

    While paths are made and resolved, another thread exchanges their first component, a directory, with a link
    that points outside. Every descriptor must be of something below the root, and nothing may appear outside."""
    (tree.top / "swap").mkdir()
    (tree.top / "evil").symlink_to(tree.outside)
    libc = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(tree.top / "swap"), -100, os.fsencode(tree.top / "evil"))
    stop = threading.Event()
    swaps = 0

    def exchange() -> None:
        nonlocal swaps
        while not stop.is_set():
            # renameat2(2), RENAME_EXCHANGE: there is always something of that name.
            assert libc.renameat2(-100, *names, 2) == 0
            swaps += 1

    thread = threading.Thread(target=exchange)
    thread.start()
    made = 0
    try:
        for turn in range(1500):
            for make in (path.make_directory, path.make_file):
                try:
                    fd = make(tree.fd, f"/swap/{make.__name__}{turn % 20}/x")
                except (KernelError, OSError):
                    continue
                made += 1
                # Below the root even if its name has changed meanwhile.
                assert os.readlink(f"/proc/self/fd/{fd}").startswith(f"{tree.top}/")
                os.close(fd)
    finally:
        stop.set()
        thread.join()
    assert made > 0 and swaps > 100
