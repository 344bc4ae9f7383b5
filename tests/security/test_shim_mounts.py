"""The mounts that an engine gives with Create, at a place in the image: its links lead nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import kernel, leaks, proc
from support.shim import Refused, Task

pytestmark = pytest.mark.ours


def mounted(place: Path) -> bool:
    return str(place) in [one.target for one in proc.parse_mountinfo(proc.read("self", "mountinfo"))]


@pytest.mark.parametrize("link", ["{host}", "../../../../../../../../..{host}", "link2"])
def test_a_link_in_the_image(task: Callable[..., Task], scratch: Path, host: Path, link: str) -> None:
    one = task(["/bin/true"])
    image = scratch / "image"
    image.mkdir()
    (image / "data").symlink_to(link.format(host=host))
    (image / "link2").symlink_to(host)
    mounts = [
        {"type": "bind", "source": str(image), "options": ["rbind", "rw"]},
        {"type": "tmpfs", "source": "tmpfs", "target": "data", "options": []},
    ]
    try:
        with pytest.raises(Refused, match="no such file"):
            one.create(rootfs=mounts)
        assert not mounted(host)
        assert not mounted(one.path / "rootfs")
        assert (host / "marker").exists()
    finally:
        if mounted(host):
            kernel.umount(str(host), kernel.MNT_DETACH)
        leaks.remove_tree(image)


@pytest.mark.parametrize("target", ["data", "link", "/link", "link/below"])
def test_a_place_in_the_image(task: Callable[..., Task], base: Path, scratch: Path, target: str) -> None:
    """Also by a link that stays inside."""
    one = task(sh=f"grep -c ' /{target.strip('/').replace('link', 'data')} tmpfs' /proc/self/mounts")
    upper = scratch / "upper"
    for path in (upper / "data/below", scratch / "work"):
        path.mkdir(parents=True)
    (upper / "link").symlink_to("/data")
    layers = [f"lowerdir={base}", f"upperdir={upper}", f"workdir={scratch / 'work'}"]
    mounts = [
        {"type": "overlay", "source": "overlay", "options": layers},
        {"type": "tmpfs", "source": "tmpfs", "target": target, "options": []},
    ]
    try:
        one.create(rootfs=mounts)
        one.start()
        assert one.wait() == 0
        one.delete()
    finally:
        leaks.remove_tree(upper)
        leaks.remove_tree(scratch / "work")
