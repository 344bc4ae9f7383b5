"""mounts[].options, word by word, as the kernel shows them: on binds, on filesystems, on whole trees.

Source: runtime-spec config.md, "Linux mount options"; mount_setattr(2).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import kernel, proc
from support.config import add_mount, bind, drop_namespace, map_ids

SLEEP = ["/bin/sleep", "100"]
ATIME = "hands mount_setattr(2) a way of access times without clearing the field"


def differs(*values, **reasons):
    return pytest.param(*values, marks=pytest.mark.differs(**reasons))


@pytest.fixture
def nested(runtime):
    """A directory of the host with a tmpfs mounted below it, at `sub`."""
    source = runtime.folder / "source"
    (source / "sub").mkdir(parents=True)
    kernel.mount("tmpfs", str(source / "sub"), "tmpfs", 0)
    yield source
    kernel.umount(str(source / "sub"), kernel.MNT_DETACH)


def shown(box, *targets: str) -> list[proc.Mount]:
    """The mounts at these targets of the container, which is created."""
    box.create()
    mounts = box.mounts()
    return [proc.mount_at(mounts, target) for target in targets]


@pytest.mark.parametrize(
    "word, there, absent",
    [
        ("rro", {"ro"}, {"rw"}),
        ("rnosuid", {"nosuid"}, set()),
        ("rnodev", {"nodev"}, set()),
        ("rnoexec", {"noexec"}, set()),
        differs("rnodiratime", {"nodiratime"}, set(), crun=ATIME),
        differs("rnoatime", {"noatime"}, {"relatime"}, crun=ATIME),
        ("rrelatime", {"relatime"}, {"noatime"}),
        differs("rstrictatime", set(), {"relatime", "noatime"}, crun=ATIME),
        differs("rnosymfollow", {"nosymfollow"}, set(), crun="1.8.1 has no such word"),
    ],
)
def test_words_for_the_whole_tree(container, nested, word, there, absent):
    box = container(SLEEP)
    add_mount(box.config, "/data", "bind", str(nested), ["rbind", word])
    for mount in shown(box, "/data", "/data/sub"):
        assert there <= mount.options, mount
        assert not absent & mount.options, mount


@pytest.mark.parametrize(
    "word, gone",
    [
        ("rrw", "ro"),
        ("rsuid", "nosuid"),
        ("rdev", "nodev"),
        ("rexec", "noexec"),
        differs("rdiratime", "nodiratime", crun=ATIME),
        differs("ratime", "noatime", crun=ATIME, runc=ATIME),
        differs("rnorelatime", "noatime", crun=ATIME, runc=ATIME),
        differs("rnostrictatime", "noatime", crun=ATIME, runc=ATIME),
        differs("rsymfollow", "nosymfollow", crun="1.8.1 has no such word"),
    ],
)
def test_words_that_take_back_for_the_whole_tree(container, nested, word, gone):
    kernel.mount(None, str(nested / "sub"), None, 0x20 | 0x1000 | 0x1 | 0x2 | 0x4 | 0x8 | 0x100 | 0x400 | 0x800)
    box = container(SLEEP)
    add_mount(box.config, "/kept", "bind", str(nested), ["rbind"])
    add_mount(box.config, "/data", "bind", str(nested), ["rbind", word])
    kept, data = shown(box, "/kept/sub", "/data/sub")
    assert gone in kept.options
    assert gone not in data.options


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
@pytest.mark.differs(crun="1.8.1 does not know all of them")
def test_all_flag_words_at_once(container, nested, kind):
    words = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"]
    box = container(SLEEP)
    if kind == "bind":
        bind(box.config, nested, "/data", *words)
    else:
        add_mount(box.config, "/data", "tmpfs", "tmpfs", words)
    (mount,) = shown(box, "/data")
    assert set(words) <= mount.options


@pytest.mark.parametrize(
    "words, there",
    [
        (["sync"], {"sync"}),
        (["dirsync"], {"dirsync"}),
        (["lazytime"], {"lazytime"}),
        differs(["sync", "async"], set(), crun="1.8.1 takes no word back"),
        (["lazytime", "nolazytime"], set()),
        (["mand", "nomand"], set()),
        differs(["defaults"], set(), runc="1.1.5 hands it to the filesystem"),
        differs(["silent", "loud"], set(), crun="1.8.1 has no such word"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
def test_words_for_the_filesystem(container, words, there):
    box = container(SLEEP)
    add_mount(box.config, "/data", "tmpfs", "tmpfs", words)
    (mount,) = shown(box, "/data")
    assert mount.super_options & {"sync", "dirsync", "lazytime"} == there


@pytest.mark.differs(crun="1.8.1 has no such word")
@pytest.mark.parametrize("words", [["iversion"], ["iversion", "noiversion"]], ids=",".join)
def test_iversion(container, words):
    """No file of /proc shows it: the mount is there with everything else that was asked for."""
    box = container(sh="cat /data/file; stat -c %a /data")
    box.bundle.write("data/file", "copied\n")
    (box.rootfs / "data").chmod(0o751)
    add_mount(box.config, "/data", "tmpfs", "tmpfs", [*words, "sync", "nosuid", "size=64k", "tmpcopyup"])
    assert box.run().stdout == "copied\n751\n"
    box = container(SLEEP)
    add_mount(box.config, "/data", "tmpfs", "tmpfs", [*words, "sync", "nosuid", "size=64k", "shared"])
    box.config["linux"]["rootfsPropagation"] = "slave"
    (mount,) = shown(box, "/data")
    assert "nosuid" in mount.options
    assert {"sync", "size=64k"} <= mount.super_options
    assert any(field.startswith("shared:") for field in mount.optional)


@pytest.mark.differs(crun="1.8.1 makes no mount point in it", runc="1.1.5 makes no mount point in it")
def test_words_for_a_tree_on_a_filesystem(container):
    """A new filesystem is a tree of one mount; a read-only tmpfs can hold mount points all the same."""
    box = container(SLEEP)
    add_mount(box.config, "/data", "tmpfs", "tmpfs", ["rro", "rnoexec"])
    add_mount(box.config, "/data/below", "tmpfs", "tmpfs", [])
    data, below = shown(box, "/data", "/data/below")
    assert {"ro", "noexec"} <= data.options
    assert "rw" in below.options


@pytest.mark.differs(crun="1.8.1 asks for ro and rw at once", runc="1.1.5 asks for ro and rw at once")
def test_later_words_win(container, nested):
    box = container(SLEEP)
    add_mount(box.config, "/data", "bind", str(nested), ["rbind", "rro", "rrw", "rnoexec"])
    for mount in shown(box, "/data", "/data/sub"):
        assert {"rw", "noexec"} <= mount.options


@pytest.mark.differs(crun="1.8.1 wants a source")
def test_remount_changes_the_mount_that_is_there(container, nested):
    box = container(SLEEP)
    bind(box.config, nested, "/data")
    add_mount(box.config, "/data", "", "", ["bind", "remount", "ro", "nosuid", "nodev"])
    add_mount(box.config, "/dev/shm", "tmpfs", "shm", ["remount", "size=128k", "nosuid", "nodev", "noexec"])
    (data, shm) = shown(box, "/data", "/dev/shm")
    assert {"ro", "nosuid", "nodev"} <= data.options
    assert "size=128k" in shm.super_options
    targets = [mount.target for mount in box.mounts()]
    assert targets.count("/data") == targets.count("/dev/shm") == 1


@pytest.mark.ours
def test_filesystem_words_on_a_bind_are_told(container, nested):
    box = container()
    bind(box.config, nested, "/data", "sync", "size=1", "tmpcopyup", "iversion")
    result = box.create()
    assert "left out: sync size=1 tmpcopyup iversion" in result.stderr
    assert "/mounts/5/options" in result.stderr


@pytest.mark.ours
def test_a_relative_destination_is_told_and_taken_from_the_root(container, nested):
    (nested / "file").write_text("found\n")
    box = container(sh="cat /data/file")
    bind(box.config, nested, "data")
    result = box.run()
    assert result.stdout == "found\n"
    assert "/mounts/5/destination: is relative" in result.stderr


def test_bind_a_socket_and_a_fifo(container, runtime):
    """What is no directory is bound on an empty file that is made for it."""
    import socket

    place, fifo = runtime.folder / "s", runtime.folder / "fifo"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        box = container(sh="stat -c %F /run/socket /run/fifo; readlink -f /run/socket")
        bind(box.config, place, "/run/socket")
        bind(box.config, fifo, "/run/fifo")
        assert box.run().stdout == "socket\nfifo\n/run/socket\n"
        assert (box.rootfs / "run/socket").is_file()


def overlay(box, lower: list[Path], above: Path) -> None:
    for name in ("upper", "work"):
        (above / name).mkdir(parents=True)
    layers = ":".join(map(str, lower))
    words = [f"lowerdir={layers}", f"upperdir={above}/upper", f"workdir={above}/work"]
    add_mount(box.config, "/data", "overlay", "overlay", words)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_overlay(container, runtime, count):
    """Lower, upper and work; the first of several lowers is the top one. The list of 12 has more than 255 bytes."""
    lower = [runtime.folder / "layers" / f"layer-with-a-long-name-{number}" for number in range(count)]
    for number, path in enumerate(lower):
        path.mkdir(parents=True)
        (path / f"file{number}").touch()
        (path / "same").write_text(f"{number}\n")
    box = container(sh="ls /data | grep -c file; cat /data/same; echo written > /data/new; rm /data/file0")
    overlay(box, lower, runtime.folder / "above")
    assert len(box.config["mounts"][-1]["options"][0]) > 255 or count < 12
    assert box.run().stdout.split() == [str(count), "0"]
    assert (runtime.folder / "above/upper/new").read_text() == "written\n"
    assert (lower[0] / "file0").exists()


def test_overlay_without_an_upper_is_readonly(container, runtime):
    for name in "ab":
        (runtime.folder / name).mkdir()
        (runtime.folder / name / name).touch()
    box = container(sh="ls /data; touch /data/new")
    add_mount(box.config, "/data", "overlay", "overlay", [f"lowerdir={runtime.folder}/a:{runtime.folder}/b", "ro"])
    result = box.run(check=1)
    assert result.stdout.split() == ["a", "b"]
    assert "Read-only file system" in result.stderr


@pytest.mark.ours
def test_options_that_mount_would_cut_off_are_refused(container, runtime):
    """mount(2) takes a page; what is beyond it, runtimes lose in silence."""
    box = container()
    add_mount(box.config, "/data", "overlay", "overlay", ["lowerdir=" + ":".join(["/tmp/" + "x" * 100] * 50)])
    result = box.create(check=None)
    assert result.code != 0
    assert "/mounts/5" in result.stderr
    assert "would cut the rest off" in result.stderr


@pytest.fixture
def device(runtime):
    """A write-protected block device with an ext4 filesystem on it."""
    sbin = "/usr/sbin:/sbin:/usr/bin:/bin"
    mkfs, losetup = shutil.which("mkfs.ext4", path=sbin), shutil.which("losetup", path=sbin)
    if not mkfs or not losetup:
        pytest.skip("needs mkfs.ext4 (e2fsprogs) and losetup to make a device")
    image = runtime.folder / "image"
    content = runtime.folder / "content"
    content.mkdir()
    (content / "file").write_text("on the device\n")
    image.touch()
    os.truncate(image, 4 << 20)
    subprocess.run([mkfs, "-q", "-O", "^has_journal", "-d", content, image], check=True)
    found = subprocess.run([losetup, "-r", "-f", "--show", image], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"no loop device: {found.stderr.strip()}")
    yield found.stdout.strip()
    subprocess.run([losetup, "-d", found.stdout.strip()], check=True)


@pytest.mark.differs(crun="1.8.1 makes it read-only after the mount")
def test_a_filesystem_on_a_readonly_device(container, device):
    """`ro` is told to the filesystem too: on a write-protected device nothing else can be mounted."""
    box = container(sh="cat /data/file; grep ' /data ' /proc/self/mountinfo")
    add_mount(box.config, "/data", "ext4", device, ["ro", "noload"])
    first, second = box.run().stdout.splitlines()
    assert first == "on the device"
    assert second.rpartition(" ")[2].startswith("ro")


@pytest.fixture
def host_mqueue(machine):
    """A /dev/mqueue in the harness's own mount namespace, where the host has none mounted."""
    if os.path.ismount("/dev/mqueue"):
        yield
        return
    made = not os.path.isdir("/dev/mqueue")
    if made:
        os.mkdir("/dev/mqueue")
    kernel.mount("mqueue", "/dev/mqueue", "mqueue", 0)
    yield
    kernel.umount("/dev/mqueue", kernel.MNT_DETACH)
    if made:
        os.rmdir("/dev/mqueue")


@pytest.mark.parametrize("kind", ["sysfs", "proc", "mqueue"])
@pytest.mark.differs(runc="1.1.5 leaves this to the engine", crun="1.8.1 binds /sys alone, writable")
def test_in_a_user_namespace_that_shares_what_it_shows(container, request, kind):
    """sysfs, proc and mqueue belong to who made the network, pid, ipc namespace: then the host's are bound."""
    namespace, target = {"sysfs": ("network", "/sys"), "proc": ("pid", "/proc"), "mqueue": ("ipc", "/dev/mqueue")}[kind]
    if kind == "mqueue":
        request.getfixturevalue("host_mqueue")
    box = container(SLEEP)
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    drop_namespace(box.config, namespace)
    if kind == "mqueue":
        add_mount(box.config, target, kind, kind, ["nosuid", "noexec", "nodev"])
    box.create()
    box.start()
    mount = proc.mount_at(box.mounts(), target)
    assert mount.fstype == kind
    if kind == "sysfs":
        below = [one for one in box.mounts() if one.target == "/sys" or one.target.startswith("/sys/")]
        assert all("ro" in one.options for one in below), below
        assert os.listdir(box.root / "sys/class/net") == os.listdir("/sys/class/net")
    if kind == "proc":
        assert str(os.getpid()) in os.listdir(box.root / "proc")


def test_in_a_user_namespace_with_its_own(container):
    """Then they are mounted anew."""
    look = "ls /proc | grep -c '^[0-9]'; ls /sys/class/net; ls /dev/mqueue"
    box = container(sh=look + "; touch /dev/mqueue/x && ls /dev/mqueue")
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    add_mount(box.config, "/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"])
    words = box.run().stdout.split()
    assert int(words[0]) <= 4
    assert words[1:] == ["lo", "x"]


@pytest.mark.differs(runc="1.1.5 fails: EINVAL", crun="1.8.1 maps gid 5 by force, or fails")
def test_devpts_with_a_group_that_is_not_mapped(container):
    """Engines write `gid=5` by habit; in a user namespace with few ids there may be no such group."""
    box = container(sh="grep devpts /proc/self/mountinfo")
    map_ids(box.config, size=2)
    box.bundle.chown(200000, 200000)
    pts = next(one for one in box.config["mounts"] if one["type"] == "devpts")
    pts["options"] = [*pts["options"], "gid=5"]
    result = box.run()
    assert "mode=620" in result.stdout
    assert "gid=" not in result.stdout
    if box.runtime.is_ours:
        assert "gid=5 is left out" in result.stderr


def test_devpts_with_a_group_that_is_mapped(container):
    box = container(sh="grep devpts /proc/self/mountinfo")
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    pts = next(one for one in box.config["mounts"] if one["type"] == "devpts")
    pts["options"] = [*pts["options"], "gid=5"]
    assert "gid=200005" in box.run().stdout, "the host's number of the group is shown"


SELINUX = os.path.isdir("/sys/fs/selinux")


@pytest.mark.skipif(SELINUX, reason="SELinux is on here: the next test is the one")
@pytest.mark.ours
def test_without_selinux_a_mount_label_is_warned_about(container):
    box = container(sh="grep -c context= /proc/self/mountinfo")
    box.config["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0:c1,c2"
    result = box.run(check=1)
    assert result.stdout == "0\n"
    assert "SELinux" in result.stderr
    assert "container_file_t" in result.stderr


@pytest.mark.skipif(not SELINUX, reason="SELinux is off here")
def test_a_mount_label(container):
    box = container(SLEEP)
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    box.config["linux"]["mountLabel"] = label
    shm, pts = shown(box, "/dev/shm", "/dev/pts")
    for mount in (shm, pts):
        assert any(word.startswith("context=") for word in mount.super_options)
