"""CVE-2026-88264 and CVE-2026-88265 (crun to 1.29.1): /dev/console was made without O_NOFOLLOW, and of a /dev/null in
the image only the device number was looked at."""

from __future__ import annotations

import os
import socket
import stat

import pytest
from support.attack import tree

FOLLOWED = """
import posix
from pyruntime.features.rootfs import path
def make_file(directory, name):
    if name != "/console":
        return old(directory, name)
    return posix.open(f"/proc/self/fd/{directory}{name}", posix.O_CREAT | posix.O_RDWR, 0o644)
old = replace("features.rootfs.path.make_file", make_file)
"""
NUMBER_ALONE = """
def is_device(found, kind, number):
    return found.st_rdev == number
replace("features.rootfs.devices._is_device", is_device)
"""


def without_dev(box):
    box.config["mounts"] = [one for one in box.config["mounts"] if one["destination"] != "/dev"]
    (box.rootfs / "dev/pts").mkdir()
    (box.rootfs / "dev/shm").mkdir()
    return box


def with_terminal(box):
    """Create with a terminal; its master is closed."""
    box.process["terminal"] = True
    path = box.runtime.folder / "console.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        one.listen()
        box.create("--console-socket", str(path), check=None)
    path.unlink()
    return box.created


@pytest.mark.parametrize(
    "target", [pytest.param("new", marks=pytest.mark.differs(crun="crun 1.8.1 makes the file")), "marker"]
)
def test_console_is_not_made_on_the_host(container, host, target):
    box = without_dev(container())
    (box.rootfs / "dev/console").symlink_to(host / target)
    before = tree(host)
    with_terminal(box)
    assert tree(host) == before


@pytest.mark.ours
def test_a_followed_console_is_caught(container, host, weakened):
    box = without_dev(container())
    box.runtime = weakened(FOLLOWED)
    (box.rootfs / "dev/console").symlink_to(host / "new")
    with_terminal(box)
    assert (host / "new").exists()


def null_of_another_kind(box) -> str:
    """Create with /dev/null of the image the block device 1:3: what the container gets for /dev/null, "" for a
    refusal."""
    os.mknod(box.rootfs / "dev/null", stat.S_IFBLK | 0o666, os.makedev(1, 3))
    result = without_dev(box).run(check=None)
    return result.stdout if result.code == 0 else ""


SCRIPT = "stat -c %F /dev/null"


def test_null_is_a_character_device(container):
    assert null_of_another_kind(container(sh=SCRIPT)) in ("", "character special file\n")


@pytest.mark.ours
def test_a_number_alone_is_caught(container, weakened):
    box = container(sh=SCRIPT)
    box.runtime = weakened(NUMBER_ALONE)
    assert null_of_another_kind(box) == "block special file\n"
