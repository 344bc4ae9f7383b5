"""What a hostile container may try while `mounts add` and `mounts remove` change its mounts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import kernel, proc
from support.container import Container

MS_SHARED = 0x100000
pytestmark = pytest.mark.ours


@pytest.fixture
def admin(container: Any) -> Container:
    """A running container whose processes may mount."""
    one: Container = container(["sleep", "100"])
    one.process["capabilities"] = {
        key: ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"] for key in ("bounding", "effective", "permitted")
    }
    one.create()
    one.start()
    return one


@pytest.fixture
def shared(machine: None, tmp_path: Path) -> Iterator[Path]:
    """A filesystem of the host whose mount is shared, as systemd makes all of them."""
    path = tmp_path / "shared"
    path.mkdir()
    kernel.mount("tmpfs", str(path), "tmpfs", 0)
    kernel.mount(None, str(path), None, MS_SHARED)
    (path / "inner").mkdir()
    yield path
    kernel.umount(str(path), kernel.MNT_DETACH)


def add(one: Container, spec: str, **options: Any) -> Any:
    return one.runtime.run("mounts", "add", "--mount", spec, one.id, **options)


def inside(one: Container, *command: str) -> str:
    return one.runtime.run("exec", one.id, *command).stdout


def host_mounts() -> set[str]:
    return {mount.target for mount in proc.parse_mountinfo(Path("/proc/self/mountinfo").read_text())}


@pytest.mark.parametrize("kind", ["bind", "rbind"])
def test_what_the_container_mounts_there_does_not_appear_on_the_host(admin: Container, shared: Path, kind: str) -> None:
    """A clone of a shared mount is its peer: a tmpfs of the container would cover the host's directory."""
    before = host_mounts()
    add(admin, f"type=bind,source={shared},destination=/place,options={kind}")
    inside(admin, "mount", "-t", "tmpfs", "tmpfs", "/place/inner")
    assert host_mounts() == before


@pytest.mark.parametrize("link", ["/etc", "../../../../../../etc", "/proc/1/root/etc", "/proc/self/cwd"])
def test_a_link_leads_to_no_directory_of_the_host(admin: Container, tmp_path: Path, link: str) -> None:
    before = host_mounts()
    (admin.rootfs / "link").symlink_to(link)
    (tmp_path / "word").touch()
    result = add(admin, f"type=bind,source={tmp_path},destination=/link/made", check=None)
    assert host_mounts() == before
    assert not os.path.lexists("/etc/made")
    if result.code == 0:
        assert (admin.root / "etc/made/word").exists()


def test_a_false_proc_fools_neither(admin: Container, tmp_path: Path) -> None:
    """The runtime looks at its descriptors through the host's /proc, not through what covers the container's."""
    inside(admin, "mount", "-t", "tmpfs", "tmpfs", "/proc")
    inside(admin, "sh", "-c", "mkdir -p /proc/self/fd; for n in 3 4 5 6 7 8 9; do ln -s /tmp /proc/self/fd/$n; done")
    (tmp_path / "word").touch()
    add(admin, f"type=bind,source={tmp_path},destination=/place")
    assert inside(admin, "ls", "/place") == "word\n"
    refused = add(admin, f"type=bind,source={tmp_path},destination=/", check=None)
    assert "root of the container" in refused.stderr
    admin.runtime.run("mounts", "remove", "--destination", "/place", admin.id)
    assert inside(admin, "ls", "/place") == ""


def test_a_root_that_was_left_does_not_matter(admin: Container, tmp_path: Path) -> None:
    """Of a mount that went elsewhere with its directory, the one that is at the old name now is not unmounted."""
    add(admin, f"type=bind,source={tmp_path},destination=/place")
    inside(admin, "sh", "-c", "mkdir /other; mount -o move /place /other; mount -t tmpfs own /place")
    result = admin.runtime.run("mounts", "remove", "--destination", "/place", admin.id)
    assert "was not found" in result.stderr
    assert {"/place", "/other"} <= {mount.target for mount in admin.mounts()}
