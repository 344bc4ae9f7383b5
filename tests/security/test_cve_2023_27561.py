"""CVE-2023-27561 and CVE-2023-28642 (runc 1.0.0-rc95 to 1.1.4): /proc or /sys of the image is a link, so that masks
and labels go elsewhere. The same in youki as CVE-2025-54867 (before 0.5.5)."""

from __future__ import annotations

import pytest
from support import config, proc

LINK_ALLOWED = """
from pyruntime.features.rootfs import path
def follow(root_fd, destination, type):
    return path.make_directory(root_fd, destination)
replace("features.rootfs.destination._ordinary_directory", follow)
"""
NAMES = {"proc": config.PROC, "sys": config.SYSFS}


def create_with_link(box, name: str) -> list[str]:
    """Create with /NAME a link to /else of the image: where that filesystem is mounted now; [] when refused."""
    (box.rootfs / "else").mkdir()
    (box.rootfs / name).rmdir()
    (box.rootfs / name).symlink_to("else")
    box.config["linux"]["maskedPaths"] = ["/proc/kcore", "/sys/firmware"]
    if box.create(check=None).code != 0:
        return []
    kind = NAMES[name]["type"]
    return [one.target for one in box.mounts() if one.fstype == kind and one.root == "/"]


@pytest.mark.parametrize("name", NAMES)
def test_a_link_is_refused(container, name):
    box = container()
    assert create_with_link(box, name) == []
    error = box.created.stderr
    if box.runtime.is_ours:
        assert "must be mounted on ordinary directory" in error, error
        assert f"/{name}" in error


@pytest.mark.parametrize("name", NAMES)
def test_a_chain_of_links_out_of_the_rootfs_is_refused(container, host, name):
    """As image builders can make it: /proc -> ../../…/host."""
    box = container()
    (box.rootfs / name).rmdir()
    (box.rootfs / name).symlink_to("x/../../../../../.." + str(host))
    box.create(check=None)
    if box.created.code == 0:  # inside, then
        box.start()
    assert [path.name for path in host.iterdir()] == ["marker"]


@pytest.mark.ours
def test_a_followed_link_is_caught(container, weakened):
    box = container()
    box.runtime = weakened(LINK_ALLOWED)
    assert create_with_link(box, "proc") == ["/else"]
    assert proc.mount_at(box.mounts(), "/else").fstype == "proc"
