"""How the words of mounts[].options are read, what a bind mount keeps of its source, and where a mount comes to lie.

Expected is what runc does, and crun where the two agree. Source: runtime-spec config.md, "Linux mount options".
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import kernel, proc
from support.config import add_mount, bind, map_ids
from support.refusal import create_refused

SLEEP = ["/bin/sleep", "100"]
MS_REMOUNT = 0x20
RDONLY, NOSUID, NODEV, NOEXEC, NOATIME, NODIRATIME, STRICTATIME = 0x1, 0x2, 0x4, 0x8, 0x400, 0x800, 0x1000000


def differs(*values, **reasons):
    return pytest.param(*values, marks=pytest.mark.differs(**reasons))


@pytest.fixture
def source(runtime):
    """`source(flags)`: a mount of the host with MS_* flags and a file in it."""
    made: list[Path] = []

    def make(flags: int) -> Path:
        path = runtime.folder / f"source{len(made)}"
        path.mkdir()
        kernel.mount("tmpfs", str(path), "tmpfs", 0)
        path.chmod(0o755)
        made.append(path)
        (path / "file").write_text("of the host\n")
        kernel.mount(None, str(path), None, kernel.MS_BIND | MS_REMOUNT | flags)
        return path

    yield make
    for path in made:
        kernel.umount(str(path), kernel.MNT_DETACH)


def shown(box, target: str) -> proc.Mount:
    box.create()
    return proc.mount_at(box.mounts(), target)


# Words.


@pytest.mark.differs(
    runc="runc 1.1.5 hands the word to the filesystem",
    crun="crun 1.8.1 hands the word to the filesystem",
    sometimes=True,
)
@pytest.mark.parametrize("words", [["", "size=64k", "ro"], ["size=64k,ro"], ["", "size=64k,,ro,"]], ids=str)
@pytest.mark.parametrize("by_string", [False, True], ids=["fsconfig", "mount"])
def test_words_with_commas_and_empty_ones(container, words, by_string):
    box = container(SLEEP)
    add_mount(box.config, "/data", "tmpfs", "tmpfs", words + ["iversion"] * by_string)
    mount = shown(box, "/data")
    assert "ro" in mount.options
    assert "size=64k" in mount.super_options


@pytest.mark.differs(crun="crun 1.8.1 drops it", runc="runc 1.1.5 drops it")
def test_a_bind_in_one_word(container, source):
    box = container(SLEEP)
    path = source(0)
    add_mount(box.config, "/data", "none", str(path), ["bind,ro", "nosuid,nodev"])
    mount = shown(box, "/data")
    assert mount.fstype == "tmpfs"
    assert {"ro", "nosuid", "nodev"} <= mount.options


@pytest.mark.ours
def test_a_dev_bound_in_one_word_is_left_alone(container, runtime):
    (runtime.folder / "dev").mkdir()
    box = container(["/bin/true"])
    box.config["mounts"] = [one for one in box.config["mounts"] if not one["destination"].startswith("/dev")]
    add_mount(box.config, "/dev", "none", str(runtime.folder / "dev"), ["rbind,ro"])
    box.run()
    assert os.listdir(runtime.folder / "dev") == []


def test_a_comma_in_a_value(container, runtime):
    """Behind a backslash it belongs to the path of a layer, as the kernel has it."""
    for name in ("a,b", "c"):
        (runtime.folder / name).mkdir()
        (runtime.folder / name / f"from-{name[0]}").touch()
    box = container(sh="ls /data")
    add_mount(box.config, "/data", "overlay", "overlay", [f"lowerdir={runtime.folder}/a\\,b:{runtime.folder}/c,ro"])
    assert box.run().stdout.split() == ["from-a", "from-c"]


# Attributes of a bind mount.


@pytest.mark.parametrize(
    "flags, words, options",
    [
        (RDONLY | NOSUID | NODEV | NOEXEC, [], "ro,nosuid,nodev,noexec,relatime"),
        (RDONLY | NOSUID | NODEV | NOEXEC, ["rprivate"], "ro,nosuid,nodev,noexec,relatime"),
        (RDONLY | NOSUID | NODEV | NOEXEC, ["nosuid"], "rw,nosuid,relatime"),
        (RDONLY | NOSUID | NODEV | NOEXEC, ["ro"], "ro,relatime"),
        differs(RDONLY | NOSUID, ["rw"], "rw,relatime", runc="1.1.5 keeps all"),
        differs(RDONLY | NOSUID, ["suid"], "rw,relatime", runc="1.1.5 keeps all"),
        (NOEXEC, ["exec", "nodev"], "rw,nodev,relatime"),
        (NOATIME | NODIRATIME, [], "rw,noatime,nodiratime"),
        (NOATIME | NODIRATIME, ["nosuid"], "rw,nosuid,noatime,nodiratime"),
        (NOATIME | NODIRATIME, ["atime"], "rw,noatime,nodiratime"),
        (NOATIME | NODIRATIME, ["diratime"], "rw,noatime,nodiratime"),
        (NOATIME | NODIRATIME, ["relatime"], "rw,relatime"),
        (NOATIME | NODIRATIME, ["relatime", "norelatime"], "rw,noatime,nodiratime"),
        (NOATIME, ["nodiratime"], "rw,nodiratime,relatime"),
        (NOATIME, ["strictatime"], "rw"),
        (STRICTATIME, ["atime", "nosuid"], "rw,nosuid"),
    ],
    ids=lambda value: ",".join(value) or "none" if isinstance(value, list) else None,
)
@pytest.mark.differs(crun="crun 1.8.1 clears them for any word, and takes none back", sometimes=True)
def test_what_a_bind_mount_keeps(container, source, flags, words, options):
    """Without a word all of its source; with one, those that are not named go, but for access times."""
    box = container(SLEEP)
    bind(box.config, source(flags), "/data", *words)
    assert shown(box, "/data").options == set(options.split(","))


@pytest.mark.differs(crun="crun 1.8.1 clears what the host has locked", sometimes=True, runc="runc 1.1.5 clears none")
@pytest.mark.parametrize("words, options", [([], "ro,nosuid,relatime"), (["nodev"], "ro,nosuid,nodev,relatime")])
def test_locked_attributes_stay(container, source, words, options):
    """In a user namespace: those of the host that nobody named."""
    box = container(SLEEP)
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    bind(box.config, source(RDONLY | NOSUID), "/data", *words)
    assert shown(box, "/data").options == set(options.split(","))


@pytest.mark.differs(
    crun="crun 1.8.1 clears what the host has locked", runc="runc 1.1.5 leaves it read-only", sometimes=True
)
@pytest.mark.parametrize("word", ["rw", "suid", "rrw"])
def test_a_locked_attribute_cannot_be_taken_back(container, source, word):
    """Nothing is ignored: the container would find a read-only volume that was asked to be writable."""
    box = container(SLEEP)
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    bind(box.config, source(RDONLY | NOSUID), "/data", word)
    create_refused(box, "/mounts/5", "locked", "EPERM")


def test_rw_of_a_writable_source_in_a_user_namespace(container, source):
    """As containerd writes it for every volume."""
    box = container(SLEEP)
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    bind(box.config, source(NOSUID | NODEV), "/data", "rw")
    assert shown(box, "/data").options == {"rw", "nosuid", "nodev", "relatime"}


# tmpfs.


@pytest.mark.differs(crun="crun 1.8.1 leaves it to the kernel", sometimes=True)
@pytest.mark.parametrize("mode", [0o7777, 0o700, 0o1777, 0o755])
@pytest.mark.parametrize("word", ["size=64k", "iversion"])
def test_a_tmpfs_takes_the_mode_of_the_directory(container, mode, word):
    box = container(sh="stat -c %a /data")
    (box.rootfs / "data").mkdir()
    (box.rootfs / "data").chmod(mode)
    add_mount(box.config, "/data", "tmpfs", "tmpfs", [word] if box.runtime.kind != "crun" else [])
    assert box.run().stdout == f"{mode:o}\n"


@pytest.mark.differs(runc="runc 1.1.5 takes the mode of the directory that it has made")
def test_a_tmpfs_where_no_directory_was(container):
    """And one below another mount."""
    box = container(sh="stat -c %a /new /new/er /dev/deep; stat -c %a /data")
    (box.rootfs / "data").mkdir(mode=0o700)
    add_mount(box.config, "/new", "tmpfs", "tmpfs", [])
    add_mount(box.config, "/new/er", "tmpfs", "tmpfs", ["mode=751"])
    add_mount(box.config, "/dev/deep", "tmpfs", "tmpfs", [])
    add_mount(box.config, "/data", "tmpfs", "tmpfs", ["mode=1777"])
    assert box.run().stdout.split() == ["1777", "751", "1777", "1777"]


# Places.


@pytest.mark.differs(
    crun="crun 1.8.1 makes the host's path in the rootfs", runc="runc 1.1.5 makes it before it leaves it out"
)
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_a_destination_that_begins_with_the_rootfs(container, source, kind):
    box = container(SLEEP)
    path = source(0) if kind == "bind" else "tmpfs"
    add_mount(box.config, f"{box.rootfs}/data", kind, str(path), ["bind"] * (kind == "bind"))
    assert shown(box, "/data").fstype == "tmpfs"
    assert not (box.rootfs / "tmp" / box.rootfs.parts[2]).exists()


def test_a_destination_that_only_looks_like_it(container):
    box = container(SLEEP)
    add_mount(box.config, f"{box.rootfs}-data", "tmpfs", "tmpfs", [])
    assert shown(box, f"{box.rootfs}-data").fstype == "tmpfs"


def test_a_source_that_an_earlier_mount_made(container, source):
    box = container(sh="cat /again/file; echo x > /other/new; cat /scratch/sub/new")
    bind(box.config, source(0), "/data")
    bind(box.config, f"{box.rootfs}/data", "/again")
    add_mount(box.config, "/scratch", "tmpfs", "tmpfs", [])
    add_mount(box.config, "/scratch/sub", "tmpfs", "tmpfs", [])
    bind(box.config, f"{box.rootfs}/scratch/sub", "/other")
    assert box.run().stdout == "of the host\nx\n"


@pytest.mark.differs(runc="runc 1.1.5 has no mapped mounts", crun="crun 1.8.1 opens it before")
@pytest.mark.parametrize("user", [False, True], ids=["", "user namespace"])
def test_a_mapped_source_that_an_earlier_mount_made(container, runtime, user):
    """idmap: opened by the parent, where the mounts of the container are seen."""
    volume = runtime.folder / "volume"
    volume.mkdir()
    (volume / "file").write_text("of the host\n")
    os.chown(volume / "file", 7, 8)
    box = container(sh="stat -c %u:%g /again/file; cat /again/file")
    maps = [{"containerID": 0, "hostID": 200000 if user else 10000, "size": 100}]
    if user:
        map_ids(box.config)
        box.bundle.chown(200000, 200000)
    add_mount(box.config, "/data", "bind", str(volume), ["rbind"])
    add_mount(box.config, "/again", "bind", f"{box.rootfs}/data", ["rbind"])
    box.config["mounts"][-1] |= {"uidMappings": maps, "gidMappings": maps}
    (volume / "file").chmod(0o644)
    assert box.run().stdout.split("\n")[:2] == ["7:8" if user else "10007:10008", "of the host"]


# crun's words for links.


LINKS = pytest.mark.differs(runc="runc has no such words", crun="crun 1.8.1 has no such words", sometimes=True)


@pytest.fixture
def links(runtime) -> Path:
    """A directory with a file and links to it, to nothing, and to a directory."""
    path = runtime.folder / "links"
    (path / "directory").mkdir(parents=True)
    (path / "file").write_text("of the host\n")
    for name, target in (("link", "file"), ("dangling", "nowhere"), ("linked", "directory")):
        (path / name).symlink_to(target)
    return path


@LINKS
@pytest.mark.parametrize("user", [False, True], ids=["", "user namespace"])
def test_copy_symlink(container, links, user):
    """A source that is a link becomes a link in the rootfs; any other is bound."""
    box = container(sh="readlink /new/link; readlink /old; cat /bound; readlink /new/dangling")
    if user:
        map_ids(box.config)
        box.bundle.chown(200000, 200000)
        links.chmod(0o700)
    (box.rootfs / "old").symlink_to("file")
    bind(box.config, links / "link", "/new/link", "copy-symlink")
    bind(box.config, links / "link", "/old", "copy-symlink")
    bind(box.config, links / "file", "/bound", "copy-symlink")
    bind(box.config, links / "dangling", "/new/dangling", "copy-symlink")
    assert box.run().stdout.split("\n") == ["file", "file", "of the host", "nowhere", ""]


@pytest.mark.ours
def test_copy_symlink_on_something_else(container, links):
    box = container(["/bin/true"])
    bind(box.config, links / "link", "/etc/passwd", "copy-symlink")
    create_refused(box, "/mounts/5", "/etc/passwd exists and is not a symbolic link to file")


@LINKS
@pytest.mark.parametrize("name", ["link", "dangling", "linked"])
def test_src_nofollow(container, links, name):
    box = container(SLEEP)
    bind(box.config, links / name, "/data", "src-nofollow")
    assert shown(box, "/data").root.endswith(f"/{name}")
    assert os.readlink(box.root / "data") == os.readlink(links / name)


@LINKS
def test_dest_nofollow(container, links):
    """The link of the image is covered, and what it leads to stays."""
    box = container(sh="cat /link; cat /etc/passwd | head -n 1; cat /etc/made")
    (box.rootfs / "link").symlink_to("etc/passwd")
    bind(box.config, links / "file", "/link", "dest-nofollow")
    bind(box.config, links / "file", "/etc/made", "dest-nofollow")
    assert box.run().stdout.split("\n")[:3] == ["of the host", "root:x:0:0:root:/root:/bin/sh", "of the host"]
