"""CVE-2019-18837 (crun before 0.10.5): a link of the image at a mount's destination was followed on the host."""

from __future__ import annotations

import pytest
from support.attack import mounts_astray, watch_mounts

BY_STRING = """
from pyruntime.kernel.call import lib
def attach(init, fd, target, destination, propagation):
    lib.shim_move_mount(fd, b"", -100, (init.rootfs + destination).encode(), 0x14)
replace("features.rootfs.mounts._attach", attach)
"""


def mount_on_a_link(box, host):
    """Mount a tmpfs on /data, a link to a directory of the host: (what is mounted outside, the container's
    words)."""
    (box.rootfs / "data").symlink_to(host)
    box.config["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "tmpfs"})
    seen = watch_mounts(box)
    result = box.run(check=None)
    return (mounts_astray(box, seen) if seen.exists() else []), result


SCRIPT = "echo inside >/data/marker && cat /data/marker"


def test_stays_inside(container, host):
    astray, result = mount_on_a_link(container(sh=SCRIPT), host)
    assert astray == []
    assert (host / "marker").read_text() == "untouched\n"
    # Refused, or mounted on what the link means inside.
    assert result.code != 0 or result.stdout == "inside\n", result


@pytest.mark.ours
def test_a_path_string_is_caught(container, host, weakened):
    box = container(sh=SCRIPT)
    box.runtime = weakened(BY_STRING)
    astray, _ = mount_on_a_link(box, host)
    assert astray == [f"tmpfs on {host}"]
