"""Links of the image that lead a mount, a device or a masked path somewhere else: over /proc, over the root, or into a
volume of the host's."""

from __future__ import annotations

import pytest
from support.attack import tree
from support.refusal import create_refused

NULL = {"type": "c", "major": 1, "minor": 3, "fileMode": 0o666}
NO_CHECK = """
replace("features.rootfs.destination._refuse_root", lambda *arguments: None)
"""


def volume(box, host, destination: str) -> None:
    box.config["mounts"].append(
        {"destination": destination, "type": "bind", "source": str(host), "options": ["rbind", "rw"]}
    )


# Mounts of cgroups.


@pytest.mark.differs(crun="crun 1.8.1 mounts them there")
@pytest.mark.parametrize("destination", ["/proc", "/proc/self/attr", "/proc/sys", "/link"])
def test_cgroups_over_proc(container, destination):
    """They are made in another way than the rest, and cover as much."""
    box = container(["/bin/true"])
    (box.rootfs / "link").symlink_to("proc")
    box.config["mounts"].append({"destination": destination, "type": "cgroup", "source": "cgroup", "options": ["ro"]})
    create_refused(box, "/mounts/5", "inside /proc")


# Devices.


@pytest.mark.parametrize("path", ["/link/null", "/dev/net/null", "/link/new/null", "/dangling/null"])
@pytest.mark.differs(
    runc="runc 1.1.5 makes devices in the volume", crun="crun 1.8.1 makes devices in the volume", sometimes=True
)
def test_a_device_behind_a_link_into_a_volume(container, host, path):
    """No node and no directory is made in a directory of the host that only the image leads to."""
    box = container(["/bin/true"])
    (box.rootfs / "link").symlink_to("data")
    (box.rootfs / "dangling").symlink_to("data/missing")
    (box.rootfs / "dev/net").symlink_to("../data")
    box.config["mounts"] = [one for one in box.config["mounts"] if not one["destination"].startswith("/dev")]
    volume(box, host, "/data")
    box.config["linux"]["devices"] = [{"path": path, **NULL}]
    before = tree(host)
    result = box.run(check=None)
    assert tree(host) == before
    if box.runtime.is_ours:
        assert result.code != 0
        assert "/linux/devices/0" in result.stderr
        assert "link into another mount" in result.stderr


@pytest.mark.ours
def test_a_device_in_a_volume_that_the_config_names(container, host):
    """What config.json says without any link is its own wish; so is a link inside the image."""
    box = container(sh="test -c /data/here/null && test -c /inside/null && echo both")
    (box.rootfs / "real").mkdir()
    (box.rootfs / "inside").symlink_to("real")
    volume(box, host, "/data")
    box.config["linux"]["devices"] = [{"path": "/data/here/null", **NULL}, {"path": "/inside/null", **NULL}]
    assert box.run().stdout == "both\n"


# The root.


@pytest.mark.parametrize("kind", ["bind", "tmpfs", "cgroup"])
@pytest.mark.parametrize("destination", ["/link", "/", "/link/../link"])
def test_a_mount_over_the_root(container, host, destination, kind):
    """A link in the image puts a volume over the root: `exec` would enter that one, without masks."""
    box = container(["/bin/true"])
    (box.rootfs / "link").symlink_to("/")
    entry = {"destination": destination, "type": kind, "source": str(host), "options": ["rbind"] * (kind == "bind")}
    box.config["mounts"].append(entry)
    create_refused(box, "/mounts/5", "root of the container")


def exec_root(box, host) -> str:
    """What a process of exec sees of a container whose image leads a volume over its root."""
    (host / "bin").mkdir()
    (host / "bin/busybox").write_bytes((box.rootfs / "bin/busybox").read_bytes())
    (host / "bin/busybox").chmod(0o755)
    (box.rootfs / "link").symlink_to("/")
    volume(box, host, "/link")
    if box.create(check=None).code:
        return "refused"
    box.start()
    result = box.runtime.run("exec", box.id, "/bin/busybox", "ls", "/", check=None)
    assert result.code == 0, f"{result}"
    return str(result.stdout)


def test_exec_sees_the_containers_root(container, host):
    box = container(["/bin/sleep", "100"])
    assert "marker" not in exec_root(box, host)


@pytest.mark.ours
def test_a_mount_over_the_root_is_caught(container, host, weakened):
    box = container(["/bin/sleep", "100"])
    box.runtime = weakened(NO_CHECK)
    assert "marker" in exec_root(box, host)


@pytest.mark.ours
@pytest.mark.parametrize("path", ["/", "/link"])
def test_the_root_cannot_be_masked(container, path):
    """A mask over it would hide nothing."""
    box = container(["/bin/true"])
    (box.rootfs / "link").symlink_to("/")
    box.config["linux"]["maskedPaths"] = [path]
    create_refused(box, "/linux/maskedPaths/0", "root of the container")


# What becomes read-only at the end.


@pytest.mark.ours
def test_a_readonly_mount_whose_name_is_swapped(container):
    """Who shares the rootfs puts a link in its place while hooks run: the mount becomes read-only all the same."""
    box = container(sh="touch /moved/new; touch /dev/shm/new && echo writable")
    (box.rootfs / "data").mkdir()
    box.config["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]})
    swap = f"cd {box.rootfs} && mv data moved && ln -s dev/shm data"
    box.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", swap]}]}
    result = box.run()
    assert result.stdout == "writable\n"
    assert "/moved/new: Read-only file system" in result.stderr
