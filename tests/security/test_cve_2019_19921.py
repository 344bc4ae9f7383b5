"""CVE-2019-19921 (runc to 1.0.0-rc9): /proc lies in a tree that two containers share, and one of them swaps it for a
link while the other is made: proc is mounted here, masks and labels go there."""

from __future__ import annotations

import pytest
from support.attack import racing, rounds

MASKED = ["/proc/version", "/proc/devices", "/proc/filesystems", "/proc/misc"]
BY_PATH = """
import posix
from pyruntime.errors import KernelError
from pyruntime.features.rootfs import path
def open_target(init, name):
    try:
        return path.resolve(init.root_fd, name)
    except KernelError as error:
        if error.errno == 2:
            return -1
        raise
replace("features.rootfs.masks.open_path", open_target)
"""
LINK_ALLOWED = """
def follow(root_fd, destination, type):
    from pyruntime.features.rootfs import path
    return path.make_directory(root_fd, destination)
replace("features.rootfs.destination._ordinary_directory", follow)
"""


def unmasked(box) -> list[str]:
    """The masked files of each proc that the container has, where no mount covers them now. By ids: the names may be
    swapped at any moment (proc_pid_mountinfo(5))."""
    procs: set[str] = set()
    covered: set[tuple[str, str]] = set()
    for line in box.proc("mountinfo").splitlines():
        fields = line.split(" ")
        if " - proc " in line and fields[3] == "/":
            procs.add(fields[0])
        covered.add((fields[1], "/proc/" + fields[4].rpartition("/")[2]))
    return [f"{name} of mount {number}" for number in procs for name in MASKED if (number, name) not in covered]


def attack(box, exchange, most: int, seconds: float) -> tuple[list[str], int]:
    """Create with /proc swapped for a link to /other/proc, over and over: (what is not masked, containers made)."""
    other = box.rootfs / "other"
    (other / "proc").mkdir(parents=True)
    for name in MASKED:
        (other / "proc" / name.rpartition("/")[2]).touch()
    (box.rootfs / "link").symlink_to("other/proc")
    box.config["linux"]["maskedPaths"] = MASKED
    made = 0
    with racing(exchange, (box.rootfs / "proc", box.rootfs / "link")):
        for _ in rounds(most, seconds):
            if box.create(check=None).code == 0:
                made += 1
                found = unmasked(box)
                box.delete("--force")
                if found:
                    return found, made
    return [], made


def test_masked_without_an_attack(container):
    """So that the tests below can tell."""
    box = container()
    box.config["linux"]["maskedPaths"] = MASKED
    box.create()
    assert unmasked(box) == []
    box.delete("--force")
    box.config["linux"]["maskedPaths"] = MASKED[1:]
    box.create()
    assert len(unmasked(box)) == 1


@pytest.mark.differs(runc="runc 1.1.5 masks by path", crun="crun 1.8.1 masks by path", sometimes=True)
def test_masks_are_on_proc(container, exchange):
    """Refused, or whole."""
    found, _ = attack(container(), exchange, 300, 12)
    assert found == []


@pytest.mark.ours
def test_masks_by_path_are_caught(container, exchange, weakened):
    box = container()
    box.runtime = weakened(BY_PATH + LINK_ALLOWED)
    found, _ = attack(box, exchange, 100, 12)
    assert found
