"""CVE-2026-41579 (runc), CVE-2026-47766 (crun): /dev of the image is a link to a directory of the host, where the
runtime then deletes `ptmx` and makes nodes and links."""

from __future__ import annotations

import pytest
from support.attack import tree

BY_STRING = """
import posix
def parent(init, shown):
    directory, _, name = shown.rpartition("/")
    return posix.open(init.rootfs + directory, posix.O_RDONLY), name
replace("features.rootfs.devices._parent", parent)
"""


def create_with_linked_dev(box, host) -> list[str]:
    """Run with /dev a link to the host's directory, nothing mounted there: what has changed there."""
    (host / "ptmx").write_text("precious\n")
    (box.rootfs / "dev").rmdir()
    (box.rootfs / "dev").symlink_to(host)
    box.config["mounts"] = [one for one in box.config["mounts"] if not one["destination"].startswith("/dev")]
    before = tree(host)
    box.run(check=None)
    after = tree(host)
    return sorted(set(before) ^ set(after))


@pytest.mark.differs(runc="runc 1.1.5 removes ptmx through the link", crun="crun 1.8.1 removes ptmx through the link")
def test_the_hosts_directory_stays(container, host):
    assert create_with_linked_dev(container(), host) == []


@pytest.mark.ours
def test_a_path_string_is_caught(container, host, weakened):
    box = container()
    box.runtime = weakened(BY_STRING)
    assert len(create_with_linked_dev(box, host)) > 2


BOUND = {"destination": "/data", "type": "bind", "options": ["rbind", "rw"]}


def changes(box, host, destination: str) -> list[str]:
    """Run with a directory of the host bound to a destination: what has changed there."""
    (host / "ptmx").write_text("precious\n")
    mounts = [one for one in box.config["mounts"] if not one["destination"].startswith("/dev")]
    box.config["mounts"] = [*mounts, {**BOUND, "destination": destination, "source": str(host)}]
    before = tree(host)
    box.run(check=None)
    return sorted(set(before) ^ set(tree(host)))


@pytest.mark.differs(runc="runc 1.1.5 makes devices in the volume", crun="crun 1.8.1 makes devices in the volume")
def test_a_link_into_a_volume(container, host):
    """The image's /dev is a link to a volume of the host's."""
    box = container()
    (box.rootfs / "dev").rmdir()
    (box.rootfs / "dev").symlink_to("data")
    assert changes(box, host, "/data") == []


CLEANS = "crun 1.8.1 compares the name"


@pytest.mark.parametrize(
    "destination",
    ["/dev", "/dev/", "//dev"]
    + [pytest.param(name, marks=pytest.mark.differs(crun=CLEANS)) for name in ("/dev/.", "/x/../dev")],
)
def test_a_bound_dev_is_left_alone(container, host, destination):
    """However it is written."""
    box = container()
    (box.rootfs / "x").mkdir()
    assert changes(box, host, destination) == []


@pytest.mark.ours
def test_a_link_inside_the_rootfs_is_followed(container):
    box = container(sh="stat -c %F /else/null && test -c /dev/zero && echo ok")
    (box.rootfs / "dev").rmdir()
    (box.rootfs / "else").mkdir()
    (box.rootfs / "dev").symlink_to("else")
    assert box.run().stdout == "character special file\nok\n"
