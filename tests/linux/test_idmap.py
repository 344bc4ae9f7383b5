"""Mounts whose owners are shifted (mounts[].uidMappings, idmap, ridmap), and maps that an ordinary user may not write.

Source: runtime-spec config.md, "Mounts"; config-linux.md, "User namespace mappings"; mount_setattr(2); newuidmap(1).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support import kernel
from support.config import add_mount, bind, map_ids, set_namespace
from support.refusal import create_refused

LACKS = pytest.mark.differs(runc="1.1.5 has no mapped mounts")
HERE = [{"containerID": 0, "hostID": 10000, "size": 100}]


@pytest.fixture
def owned(runtime) -> Path:
    """A directory of the host with files of several owners, and another mount below it: of the same filesystem, since
    those that allow mapped mounts vary with the kernel (tmpfs: Linux 6.3)."""
    path, other = runtime.folder / "owned", runtime.folder / "other"
    (path / "sub").mkdir(parents=True)
    other.mkdir()
    kernel.mount(str(other), str(path / "sub"), None, kernel.MS_BIND)
    for name in ("file", "sub/file"):
        (path / name).touch()
        os.chown(path / name, 7, 8)
    yield path
    kernel.umount(str(path / "sub"), kernel.MNT_DETACH)


def mapped(box, source: object, destination: str, *options: str, maps=HERE) -> None:
    add_mount(box.config, destination, "bind", str(source), list(options))
    box.config["mounts"][-1] |= {"uidMappings": maps, "gidMappings": maps}


OWNERS = "stat -c %u:%g /data/file; echo x > /data/new"


@LACKS
@pytest.mark.parametrize("word", [[], ["idmap"]], ids=["mappings alone", "idmap"])
def test_mappings_of_the_mount(container, owned, word):
    """Id 7 of the disk is 10007 in the container; what its root writes has no owner on the disk, and is refused."""
    box = container(sh=OWNERS)
    mapped(box, owned, "/data", "bind", *word)
    result = box.run(check=1)
    assert result.stdout == "10007:10008\n"
    assert "too large" in result.stderr  # EOVERFLOW: the container's 0 is no id of the mount
    assert not (owned / "new").exists()


@LACKS
def test_what_is_written_gets_the_owner_of_the_disk(container, owned):
    box = container(sh="echo x > /data/new && stat -c %u:%g /data/new")
    owned.chmod(0o777)
    mapped(box, owned, "/data", "bind")
    box.process["user"].update(uid=10042, gid=10043)
    assert box.run().stdout == "10042:10043\n"
    assert ((owned / "new").stat().st_uid, (owned / "new").stat().st_gid) == (42, 43)


@LACKS
def test_uids_and_gids_apart(container, owned):
    box = container(sh="stat -c %u:%g /data/file")
    mapped(box, owned, "/data", "bind")
    box.config["mounts"][-1]["gidMappings"] = [
        {"containerID": 0, "hostID": 300, "size": 8},
        {"containerID": 8, "hostID": 5000, "size": 1},
    ]
    assert box.run().stdout == "10007:5000\n"


@LACKS
@pytest.mark.differs(crun="1.8.1 binds only the top of a mapped tree")
@pytest.mark.parametrize("word, below", [("idmap", "7:8"), ("ridmap", "10007:10008")])
def test_one_mount_or_the_whole_tree(container, owned, word, below):
    box = container(sh="stat -c %u:%g /data/file /data/sub/file")
    mapped(box, owned, "/data", "rbind", word)
    assert box.run().stdout.split() == ["10007:10008", below]


@LACKS
@pytest.mark.parametrize(
    "word", ["idmap", pytest.param("ridmap", marks=pytest.mark.differs(crun="1.8.1 has no ridmap"))]
)
def test_mappings_of_the_container(container, owned, word):
    """Files of the host's 7:8 are 7:8 inside too, and what root inside makes is root's on the disk."""
    box = container(sh="stat -c %u:%g /data/file; echo x > /data/new && stat -c %u:%g /data/new")
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    bind(box.config, owned, "/data", word)
    assert box.run().stdout.split() == ["7:8", "0:0"]
    assert ((owned / "new").stat().st_uid, (owned / "new").stat().st_gid) == (0, 0)


@LACKS
def test_mappings_of_both(container, owned):
    """The mount's own mappings count, seen through the container's: 7 becomes the host's 200107, its 107."""
    box = container(sh="stat -c %u:%g /data/file; cat /data/file")
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    mapped(box, owned, "/data", "bind", maps=[{"containerID": 0, "hostID": 200100, "size": 50}])
    assert box.run().stdout.split() == ["107:108"]


@LACKS
@pytest.mark.differs(crun="1.8.1 fails to open it")
def test_a_relative_source(container):
    """Below the bundle, whatever the caller's directory."""
    box = container(sh="stat -c %u:%g /data/file")
    (box.bundle.path / "here").mkdir()
    (box.bundle.path / "here/file").touch()
    os.chown(box.bundle.path / "here/file", 7, 8)
    mapped(box, "here", "/data", "bind")
    assert box.run(cwd="/").stdout == "10007:10008\n"


@LACKS
def test_a_mapped_file_read_only(container, owned):
    box = container(sh="stat -c %u:%g /etc/mapped; echo x > /etc/mapped")
    mapped(box, owned / "file", "/etc/mapped", "bind", "ro")
    result = box.run(check=1)
    assert result.stdout == "10007:10008\n"
    assert "Read-only file system" in result.stderr


@LACKS
def test_in_a_user_namespace_that_is_joined(container, owned):
    first = container(["/bin/sleep", "100"])
    map_ids(first.config)
    first.bundle.chown(200000, 200000)
    first.create()
    box = container(sh="stat -c %u:%g /data/file")
    set_namespace(box.config, "user", f"/proc/{first.pid}/ns/user")
    box.bundle.chown(200000, 200000)
    bind(box.config, owned, "/data", "idmap")
    assert box.run().stdout.split() == ["7:8"]


@pytest.mark.ours
def test_mappings_of_a_new_filesystem_are_refused(container):
    box = container()
    add_mount(box.config, "/data", "tmpfs", "tmpfs", [])
    box.config["mounts"][-1] |= {"uidMappings": HERE, "gidMappings": HERE}
    create_refused(box, "/mounts/5", "only a bind mount")


@pytest.mark.ours
def test_idmap_without_any_mappings_is_refused(container, owned):
    box = container()
    bind(box.config, owned, "/data", "idmap")
    create_refused(box, "/mounts/5/options", "no mappings to use")


@pytest.mark.ours
def test_a_filesystem_that_cannot_be_mapped(container):
    """proc has no files of anybody: the error says that it is the filesystem."""
    box = container()
    mapped(box, "/proc", "/data", "bind")
    create_refused(box, "/mounts/5", "does not allow mapped mounts")


# An ordinary user.

USER, SUBORDINATE = 54321, 600000


@pytest.fixture
def as_user(runtime, container):
    """Make a container of an ordinary user with subordinate ids; `box.as_user(verb, …)` runs the runtime as that user.

    The user exists in a mount namespace only, where /etc/passwd, /etc/subuid and /etc/subgid are others."""
    if shutil.which("newuidmap") is None:
        pytest.skip("newuidmap is not installed (package uidmap)")
    files = runtime.folder / "etc"
    files.mkdir()
    (files / "passwd").write_text(Path("/etc/passwd").read_text() + f"hamlet:x:{USER}:{USER}::/:/bin/sh\n")
    for name in ("subuid", "subgid"):
        (files / name).write_text(f"hamlet:{SUBORDINATE}:65536\n")
    binds = " && ".join(f"mount --bind {files}/{name} /etc/{name}" for name in os.listdir(files))
    become = f"exec setpriv --reuid {USER} --regid {USER} --clear-groups --inh-caps=-all --bounding-set=-all"
    # The bounding set of newuidmap must have what its file gives: it is setuid root.
    become = become.removesuffix(" --bounding-set=-all")
    wrap = ["unshare", "--mount", "sh", "-c", f'{binds} && {become} "$@"', "sh"]

    def make(sh: str, uids: list[dict], gids: list[dict]):
        box = container(sh=sh)
        set_namespace(box.config, "user")
        set_namespace(box.config, "cgroup")
        box.config["linux"] |= {"uidMappings": uids, "gidMappings": gids}
        del box.config["linux"]["cgroupsPath"]
        owner = SUBORDINATE if len(uids) > 1 else USER
        box.bundle.chown(USER, USER)
        for folder in (runtime.folder, runtime.output, runtime.root):
            folder.mkdir(exist_ok=True)
            os.chown(folder, USER, USER)
        box.owner = owner
        box.wrap = wrap
        return box

    return make


def test_newuidmap_writes_what_a_user_may_not(as_user):
    one = {"containerID": 0, "hostID": USER, "size": 1}
    more = {"containerID": 1, "hostID": SUBORDINATE, "size": 1000}
    box = as_user("cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g", [one, more], [one, more])
    box.process["user"].update(uid=5, gid=6)
    words = box.run(wrap=box.wrap).stdout.split()
    lines = ["0", str(USER), "1", "1", str(SUBORDINATE), "1000"]
    assert words == [*lines, *lines, "5", "6"]


def test_one_id_needs_no_helper(as_user):
    one = [{"containerID": 0, "hostID": USER, "size": 1}]
    box = as_user("cat /proc/self/uid_map; cat /proc/self/setgroups; id -u", one, one)
    box.process["user"].pop("additionalGids", None)
    words = box.run(wrap=box.wrap).stdout.split()
    assert words == ["0", str(USER), "1", "deny", "0"]


@pytest.mark.ours
def test_ids_that_are_not_granted_are_named(as_user):
    other = [{"containerID": 0, "hostID": SUBORDINATE + 65536, "size": 10}]
    box = as_user("true", other, other)
    result = box.run(check=None, wrap=box.wrap)
    assert result.code > 0
    last = result.stderr.splitlines()[-1]
    assert "/linux/uidMappings" in last
    assert "newuidmap" in last
    assert "/etc/subuid" in last
