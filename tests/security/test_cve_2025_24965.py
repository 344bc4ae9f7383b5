"""CVE-2025-24965 (crun to 1.19, krun): a file that the runtime writes into the rootfs is a link of the image to a
place on the host. Every file, directory, node and link that a runtime makes below the rootfs is tried here."""

from __future__ import annotations

import pytest
from support.attack import tree

BY_STRING = """
import posix
def make_file(root_fd, name, mode=0o644):
    root = posix.readlink(f"/proc/self/fd/{root_fd}")
    try:
        posix.close(posix.open(root + name, posix.O_CREAT | posix.O_WRONLY, mode))
    except OSError:
        pass
    return old(root_fd, name, mode)
old = replace("features.rootfs.path.make_file", make_file)
"""
CASES = {
    "file bind": "/etc/hosts",
    "file bind in a linked directory": "/linked/hosts",
    "directory": "/data",
    "working directory": "/work",
    "device": "/dev/null",
    "configured device": "/dev/fuse",
    "device in a linked directory": "/linked/device",
    "link": "/dev/fd",
    "ptmx": "/dev/ptmx",
    "masked": "/masked",
}


def with_links(box, host):
    """An image whose every name above is a link to the host: to a file that is not there, or to the directory."""
    for name in CASES.values():
        path = box.rootfs / name.lstrip("/")
        if name.startswith("/linked/"):
            if not path.parent.is_symlink():
                path.parent.symlink_to(host)
        else:
            path.symlink_to(host / f"made-for-{path.name}")


def config_of(box, case: str) -> None:
    name = CASES[case]
    bind = {"type": "bind", "options": ["bind"]}
    if "device" in case or case in ("link", "ptmx"):
        box.config["mounts"] = [one for one in box.config["mounts"] if not one["destination"].startswith("/dev")]
    if "file bind" in case:
        box.config["mounts"].append({"destination": name, "source": "/etc/hosts", **bind})
    elif case == "directory":
        box.config["mounts"].append({"destination": name, "source": "tmpfs", "type": "tmpfs"})
    elif case == "working directory":
        box.process["cwd"] = name
    elif case in ("configured device", "device in a linked directory"):
        box.config["linux"]["devices"] = [{"path": name, "type": "c", "major": 10, "minor": 229}]
    elif case == "masked":
        box.config["linux"]["maskedPaths"] = [name]
        box.config["linux"]["readonlyPaths"] = [name]


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_made_on_the_host(container, host, case):
    box = container()
    with_links(box, host)
    config_of(box, case)
    before = tree(host)
    box.run(check=None)
    assert tree(host) == before


@pytest.mark.ours
@pytest.mark.parametrize("case", ["file bind", "file bind in a linked directory"])
def test_a_path_string_is_caught(container, host, weakened, case):
    box = container()
    box.runtime = weakened(BY_STRING)
    with_links(box, host)
    config_of(box, case)
    before = tree(host)
    box.run(check=None)
    assert tree(host) != before
