"""mounts[]: types, options as the kernel shows them, order, and destinations that stay inside the rootfs.

Source: runtime-spec config.md, "Mounts", "Linux mount options".
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support import kernel, proc
from support.config import add_mount, bind


@pytest.fixture
def source(runtime) -> Path:
    """A directory of the host with one file in it."""
    path = runtime.folder / "source"
    path.mkdir()
    (path / "file").write_text("of the host\n")
    return path


@pytest.fixture
def nested(source):
    """The same directory with a tmpfs mounted below it, at `sub`."""
    (source / "sub").mkdir()
    kernel.mount("tmpfs", str(source / "sub"), "tmpfs", 0)
    (source / "sub/below").write_text("below\n")
    yield source
    kernel.umount(str(source / "sub"), kernel.MNT_DETACH)


def created_mount(box, target: str) -> proc.Mount:
    box.create()
    return proc.mount_at(box.mounts(), target)


def test_bind_a_directory(container, source):
    box = container(sh="cat /data/file; echo written > /data/new")
    bind(box.config, source, "/data")
    assert box.run().stdout == "of the host\n"
    assert (source / "new").read_text() == "written\n"


def test_bind_a_file(container, source):
    box = container(sh="cat /etc/copied; cat /etc/passwd")
    bind(box.config, source / "file", "/etc/copied")
    bind(box.config, source / "file", "/etc/passwd", "ro")
    assert box.run().stdout == "of the host\n" * 2
    assert "root:x:0" in (box.rootfs / "etc/passwd").read_text()


def test_bind_without_a_type(container, source):
    """The option makes it a bind mount, whatever the type says, or does not say."""
    box = container(sh="cat /data/file /more/file")
    box.config["mounts"] += [
        {"destination": "/data", "source": str(source), "options": ["bind"]},
        {"destination": "/more", "type": "none", "source": str(source), "options": ["rbind", "ro"]},
    ]
    assert box.run().stdout == "of the host\n" * 2


def test_a_relative_source_is_below_the_bundle(container):
    """config.md: relative to the bundle."""
    box = container(sh="cat /data/file")
    (box.bundle.path / "here").mkdir()
    (box.bundle.path / "here/file").write_text("of the bundle\n")
    bind(box.config, "here", "/data")
    assert box.run(cwd="/").stdout == "of the bundle\n"


def test_readonly_bind(container, source):
    box = container(sh="touch /data/new")
    bind(box.config, source, "/data", "ro")
    assert "Read-only file system" in box.run(check=1).stderr
    (source / "host-may").touch()


def test_rbind_takes_what_is_below(container, nested):
    box = container(sh="cat /data/sub/below")
    add_mount(box.config, "/data", "bind", str(nested), ["rbind"])
    assert box.run().stdout == "below\n"


def test_bind_takes_the_one_mount(container, nested):
    box = container(sh="ls /data/sub")
    bind(box.config, nested, "/data")
    assert box.run().stdout == ""


def test_ro_is_for_the_top_and_rro_for_all(container, nested):
    """mount_setattr(2) with AT_RECURSIVE."""
    box = container(
        sh="touch /top/x; touch /top/sub/x && echo below ro; touch /all/x; touch /all/sub/x && echo below rro"
    )
    add_mount(box.config, "/top", "bind", str(nested), ["rbind", "ro"])
    add_mount(box.config, "/all", "bind", str(nested), ["rbind", "rro"])
    result = box.run(check=1)
    assert result.stdout == "below ro\n"
    assert result.stderr.count("Read-only file system") == 3


@pytest.mark.parametrize(
    "options, there, absent",
    [
        (["ro"], {"ro"}, {"rw"}),
        (["rw"], {"rw"}, {"ro"}),
        (["nosuid", "nodev", "noexec"], {"nosuid", "nodev", "noexec"}, set()),
        pytest.param(
            ["nosuid", "suid", "nodev", "dev", "noexec", "exec"],
            set(),
            {"nosuid", "nodev", "noexec"},
            marks=pytest.mark.differs(crun="crun 1.8.1 takes no flag back"),
        ),
        (["noatime"], {"noatime"}, {"relatime"}),
        (["relatime"], {"relatime"}, {"noatime"}),
        (["strictatime"], set(), {"relatime", "noatime"}),
        (["nodiratime"], {"nodiratime"}, set()),
        (["ro", "rw", "ro"], {"ro"}, {"rw"}),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_flag_options(container, source, kind, options, there, absent):
    box = container(["/bin/sleep", "100"])
    if kind == "bind":
        bind(box.config, source, "/data", *options)
    else:
        add_mount(box.config, "/data", "tmpfs", "tmpfs", options)
    shown = created_mount(box, "/data").options
    assert there <= shown
    assert not absent & shown


@pytest.mark.differs(crun="crun 1.8.1 does not know the word")
def test_nosymfollow(container, source):
    box = container(["/bin/sleep", "100"])
    bind(box.config, source, "/data", "nosymfollow")
    assert "nosymfollow" in created_mount(box, "/data").options


@pytest.mark.parametrize("options", [["sync"], ["dirsync"]], ids=str)
def test_options_of_the_filesystem(container, options):
    """They belong to the superblock, where mountinfo shows them."""
    box = container(["/bin/sleep", "100"])
    add_mount(box.config, "/data", "tmpfs", "tmpfs", options)
    assert set(options) <= created_mount(box, "/data").super_options


@pytest.mark.parametrize(
    "word, shown",
    [
        ("private", None),
        ("rprivate", None),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        pytest.param("rslave", "master:", marks=pytest.mark.differs(crun="crun 1.8.1 leaves it private")),
    ],
)
def test_propagation_options(container, source, word, shown):
    box = container(["/bin/sleep", "100"])
    box.config["linux"]["rootfsPropagation"] = "slave"
    bind(box.config, source, "/data", word)
    fields = created_mount(box, "/data").optional
    assert (fields == ()) if shown is None else any(field.startswith(shown) for field in fields), fields


@pytest.mark.differs(crun="crun 1.8.1 leaves it private")
def test_unbindable(container, source):
    box = container(["/bin/sleep", "100"])
    bind(box.config, source, "/data", "unbindable")
    assert "unbindable" in created_mount(box, "/data").optional


def test_tmpfs_size_mode_and_owner(container):
    box = container(sh="stat -c '%a %u:%g' /data; df -k /data | tail -n 1")
    add_mount(box.config, "/data", "tmpfs", "tmpfs", ["size=64k", "mode=1770", "uid=5", "gid=6", "nosuid"])
    lines = box.run().stdout.splitlines()
    assert lines[0] == "1770 5:6"
    assert lines[1].split()[1] == "64"


def test_tmpfs_size_is_a_limit(container):
    box = container(sh="head -c 100000 /dev/zero > /data/file; wc -c < /data/file")
    add_mount(box.config, "/data", "tmpfs", "tmpfs", ["size=64k"])
    assert 0 < int(box.run().stdout) <= 65536


def test_tmpcopyup(container):
    """What the rootfs has at the destination is copied into the new tmpfs."""
    box = container(sh="cat /data/deep/file; stat -c %a /data/deep; rm -r /data/deep; ls /data")
    box.bundle.write("data/deep/file", "of the rootfs\n")
    (box.rootfs / "data/deep").chmod(0o750)
    add_mount(box.config, "/data", "tmpfs", "tmpfs", ["tmpcopyup"])
    assert box.run().stdout == "of the rootfs\n750\n"
    assert (box.rootfs / "data/deep/file").read_text() == "of the rootfs\n"


def test_default_mounts(container):
    """Type and options of the mounts that every engine asks for."""
    box = container(["/bin/sleep", "100"])
    add_mount(box.config, "/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"])
    box.create()
    mounts = box.mounts()
    assert {one.target: one.fstype for one in mounts if one.target != "/"} == {
        "/proc": "proc",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",
        "/dev/mqueue": "mqueue",
        "/sys": "sysfs",
    }
    assert {"ro", "nosuid", "noexec", "nodev"} <= proc.mount_at(mounts, "/sys").options
    assert {"mode=620", "ptmxmode=666"} <= proc.mount_at(mounts, "/dev/pts").super_options
    assert "size=65536k" in proc.mount_at(mounts, "/dev/shm").super_options


def test_proc_and_sysfs_are_the_containers(container):
    box = container(sh="ls /proc | grep -c '^[0-9]'; ls /sys/class/net")
    processes, *interfaces = box.run().stdout.split()
    assert int(processes) <= 4
    assert interfaces == ["lo"]


def test_order(container, source):
    """Later ones lie on earlier ones, whatever their names."""
    box = container(sh="ls /data /data/inner")
    add_mount(box.config, "/data", "tmpfs", "tmpfs", [])
    bind(box.config, source, "/data/inner")
    assert box.run().stdout.split() == ["/data:", "inner", "/data/inner:", "file"]


def test_over_one_another(container, source):
    box = container(sh="ls /data")
    bind(box.config, source, "/data")
    add_mount(box.config, "/data", "tmpfs", "tmpfs", [])
    assert box.run().stdout == ""


def test_missing_destinations_are_made(container, source):
    """A directory for a directory, a file for a file, with the directories above."""
    box = container(sh="cat /a/b/dir/file /c/d/file; stat -c %F /a/b/dir /c/d/file")
    bind(box.config, source, "/a/b/dir")
    bind(box.config, source / "file", "/c/d/file")
    assert box.run().stdout.splitlines() == ["of the host"] * 2 + ["directory", "regular file"]
    assert (box.rootfs / "a/b/dir").is_dir()
    assert (box.rootfs / "c/d/file").is_file()


@pytest.mark.differs(crun="crun 1.8.1 does not make what a link points to")
@pytest.mark.parametrize("link", ["absolute", "relative"])
def test_a_symlinked_destination_stays_inside(container, runtime, source, link):
    """A link in the rootfs means what it would mean to the container: an absolute one begins at its root."""
    victim = runtime.folder / "victim"
    victim.mkdir()
    box = container(sh=f"cat /link/file {victim}/file")
    target = str(victim) if link == "absolute" else "../" * 20 + str(victim).lstrip("/")
    (box.rootfs / "link").symlink_to(target)
    bind(box.config, source, "/link")
    assert box.run().stdout == "of the host\n" * 2
    assert list(victim.iterdir()) == []
    assert (box.rootfs / str(victim).lstrip("/")).is_dir()


def test_dots_in_a_destination_stay_inside(container, runtime, source):
    victim = runtime.folder / "victim"
    victim.mkdir()
    box = container(sh=f"cat {victim}/file")
    bind(box.config, source, "/mnt/" + "../" * 20 + str(victim).lstrip("/"))
    assert box.run().stdout == "of the host\n"
    assert list(victim.iterdir()) == []


def test_a_symlink_to_a_file(container, source):
    box = container(sh="cat /etc/real")
    box.bundle.write("etc/real", "of the rootfs\n")
    (box.rootfs / "etc/link").symlink_to("real")
    bind(box.config, source / "file", "/etc/link")
    assert box.run().stdout == "of the host\n"
    assert (box.rootfs / "etc/real").read_text() == "of the rootfs\n"


def test_a_source_with_unusual_characters(container, runtime):
    folder = runtime.folder / "a b\\,ü'"
    folder.mkdir()
    (folder / "file").write_text("found\n")
    box = container(sh="cat '/c d,ü/file'")
    bind(box.config, folder, "/c d,ü")
    assert box.run().stdout == "found\n"


def refuse(box, index: int, *words: str) -> None:
    result = box.create(check=None)
    assert result.code != 0
    if box.runtime.is_ours:
        line = result.stderr.splitlines()[-1]
        assert f"/mounts/{index}" in line
        for word in words:
            assert word in line


def test_a_missing_source_is_refused(container):
    box = container()
    bind(box.config, "/nosuch/source", "/data")
    refuse(box, 5, "/nosuch/source")


def test_an_unknown_type_is_refused(container):
    box = container()
    add_mount(box.config, "/data", "nosuchfs", "none", [])
    refuse(box, 5, "nosuchfs")


def test_unknown_options_go_to_the_filesystem_which_refuses_them(container):
    box = container()
    add_mount(box.config, "/data", "tmpfs", "tmpfs", ["nosuchoption=1"])
    refuse(box, 5)


def test_a_directory_over_a_file_is_refused(container, source):
    box = container()
    bind(box.config, source, "/etc/passwd")
    refuse(box, 5)


@pytest.mark.parametrize("through", ["/mnt", "/link", "/dev"])
def test_a_file_over_a_directory_is_refused(container, source, through):
    """In the words that docker looks for."""
    box = container()
    (box.rootfs / "link").symlink_to("mnt")
    bind(box.config, source / "file", through)
    result = box.create(check=None)
    assert result.code != 0
    assert "not a directory" in result.stderr.splitlines()[-1].lower()


def test_many_mounts(container, source):
    """As a pod with a volume for each of its secrets has."""
    box = container(sh="cat /many/*/file | wc -l")
    for number in range(60):
        bind(box.config, source, f"/many/{number}", "ro", "nosuid")
    assert box.run().stdout.strip() == "60"
