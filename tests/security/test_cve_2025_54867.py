"""CVE-2025-54867 (youki before 0.5.5): /proc or /sys of the image is a link to a directory that the attacker
shares with another container, so that what the runtime masks and writes is not what the container uses."""

from __future__ import annotations

import pytest
from support import config

LINK_ALLOWED = """
from pyruntime.features.rootfs import path
def follow(root_fd, destination, type):
    return path.make_directory(root_fd, destination)
replace("features.rootfs.destination._ordinary_directory", follow)
"""


def with_shared_volume(box, host, name: str):
    """/proc or /sys is a link into a volume, which is mounted first."""
    volume = host / "volume"
    (volume / name).mkdir(parents=True)
    (box.rootfs / name).rmdir()
    (box.rootfs / name).symlink_to(f"/volume/{name}")
    (box.rootfs / "volume").mkdir()
    bind = {"destination": "/volume", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]}
    box.config["mounts"] = [bind, config.PROC, config.SYSFS, config.DEV]
    return box


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_link_into_a_volume_is_refused(container, host, name):
    box = with_shared_volume(container(), host, name)
    assert box.create(check=None).code != 0


@pytest.mark.ours
@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_followed_link_is_caught(container, host, weakened, name):
    box = with_shared_volume(container(), host, name)
    box.runtime = weakened(LINK_ALLOWED)
    box.create()
    assert f"/volume/{name}" in [one.target for one in box.mounts()]
