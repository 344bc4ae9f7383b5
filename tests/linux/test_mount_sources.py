"""Sources of mounts that root of a container's user namespace may not reach: Kubernetes' volumes with hostUsers: false,
podman's with --uidmap, docker's with userns-remap lie below directories of mode 0700.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import kernel
from support.config import add_mount, bind, map_ids, set_namespace
from support.refusal import create_refused

SLEEP = ["/bin/sleep", "100"]
KINDS = ("bounding", "effective", "permitted")


@pytest.fixture
def closed(runtime) -> Path:
    """A directory that only the host's root may search, with a volume of the container's owner in it."""
    path = runtime.folder / "closed"
    (path / "volume").mkdir(parents=True)
    (path / "volume/file").write_text("of the volume\n")
    os.chown(path / "volume", 200000, 200000)
    (path / "config").write_text("of the host\n")
    path.chmod(0o700)
    return path


def in_user_namespace(container, *arguments, **fields):
    box = container(*arguments, **fields)
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    return box


def test_a_source_below_a_closed_directory(container, closed):
    box = in_user_namespace(container, sh="cat /data/file /etc/config; echo x > /data/new; echo x > /etc/config")
    add_mount(box.config, "/data", "bind", str(closed / "volume"), ["rbind", "rprivate", "rw"])
    add_mount(box.config, "/etc/config", "bind", str(closed / "config"), ["rbind", "ro"])
    result = box.run(check=1)
    assert result.stdout == "of the volume\nof the host\n"
    assert "Read-only file system" in result.stderr
    assert (closed / "volume/new").stat().st_uid == 200000


@pytest.mark.differs(runc="runc 1.1.5 opens it before")
def test_what_an_earlier_mount_made_below_a_closed_directory(container, closed):
    """Opened among the container's mounts, not the host's."""
    box = in_user_namespace(container, sh="cat /again/file")
    bind(box.config, closed / "volume", "/data")
    bind(box.config, f"{box.rootfs}/data", "/again")
    assert box.run().stdout == "of the volume\n"


@pytest.mark.differs(crun="crun 1.8.1 leaves it unlocked")
def test_what_the_host_has_locked_stays_locked(container, closed):
    """Root of the container, with all rights there, cannot make the host's read-only mount writable."""
    kernel.mount(str(closed / "volume"), str(closed / "volume"), None, kernel.MS_BIND)
    kernel.mount(None, str(closed / "volume"), None, kernel.MS_BIND | 0x20 | kernel.MS_RDONLY)
    try:
        box = in_user_namespace(container, sh="mount -o remount,bind,rw /data || echo locked; echo x > /data/new")
        bind(box.config, closed / "volume", "/data")
        box.process["capabilities"] = {kind: ["CAP_SYS_ADMIN"] for kind in KINDS}
        result = box.run(check=1)
        assert "locked" in result.stdout
        assert not (closed / "volume/new").exists()
    finally:
        kernel.umount(str(closed / "volume"), kernel.MNT_DETACH)


def test_a_mapped_source_below_a_closed_directory(container, closed):
    box = in_user_namespace(container, sh="cat /data/file")
    bind(box.config, closed / "volume", "/data", "idmap")
    os.chown(closed / "volume", 0, 0)
    if box.runtime.kind == "runc":
        pytest.skip("runc 1.1.5 has no mapped mounts")
    assert box.run().stdout == "of the volume\n"


@pytest.mark.differs(runc="runc fails: EACCES", crun="crun fails: EACCES")
def test_a_rootfs_below_a_closed_directory(container, closed):
    box = in_user_namespace(container, sh="echo ran")
    box.rootfs.rename(closed / "rootfs")
    box.config["root"]["path"] = str(closed / "rootfs")
    assert box.run().stdout == "ran\n"


@pytest.mark.differs(runc="runc 1.1.5 fails: EACCES")
def test_a_user_namespace_that_is_joined(container, closed):
    first = in_user_namespace(container, SLEEP)
    first.create()
    box = container(sh="cat /data/file")
    set_namespace(box.config, "user", f"/proc/{first.pid}/ns/user")
    box.bundle.chown(200000, 200000)
    bind(box.config, closed / "volume", "/data")
    assert box.run().stdout == "of the volume\n"


@pytest.mark.differs(crun="crun 1.8.1 writes it into the bundle")
def test_the_parent_is_where_it_was(container, closed, runtime):
    """It has been in another mount namespace meanwhile: files of the command line are still the caller's."""
    box = in_user_namespace(container, SLEEP)
    bind(box.config, closed / "volume", "/data")
    (runtime.folder / "here").mkdir()
    box.bundle.save()
    runtime.run("create", "--bundle", box.bundle.path, "--pid-file", "pid", box.id, cwd=runtime.folder / "here")
    pid = int((runtime.folder / "here/pid").read_text())
    assert (Path(f"/proc/{pid}/root/data/file")).read_text() == "of the volume\n"


def test_a_missing_source_is_named(container, closed):
    box = in_user_namespace(container, ["/bin/true"])
    bind(box.config, closed / "nosuch", "/data")
    create_refused(box, "/mounts/5", "closed/nosuch", "no such file")


def test_a_link_of_the_image_leads_nowhere_else(container, closed):
    """A source below the rootfs is looked up with the container's rights only: its links are the image's."""
    box = in_user_namespace(container, sh="cat /data/file")
    (box.rootfs / "link").symlink_to(closed / "volume")
    bind(box.config, f"{box.rootfs}/link", "/data")
    if box.runtime.is_ours:
        create_refused(box, "/mounts/5", "permission denied")
    else:
        pytest.skip("runc and crun open it with the rights of the host")
