"""The root filesystem: what is in /dev, what is hidden or read-only, and that the host's root is out of
reach.

Source: runtime-spec config.md, "Root"; config-linux.md, "Default Devices", "Dev symbolic links", "Devices",
"Masked Paths", "Readonly Paths", "Rootfs Mount Propagation".
"""

from __future__ import annotations

import os
import stat

import pytest
from support import kernel, proc
from support.config import add_mount, bind, map_ids

DEVICES = {
    "null": "1:3",
    "zero": "1:5",
    "full": "1:7",
    "random": "1:8",
    "urandom": "1:9",
    "tty": "5:0",
}


def test_default_devices(container):
    """config-linux.md, "Default Devices": type, numbers, mode and owner."""
    names = " ".join(f"/dev/{name}" for name in DEVICES)
    box = container(sh=f"stat -c '%n %F %t:%T %a %u:%g' {names}")
    assert box.run().stdout.splitlines() == [
        f"/dev/{name} character special file {number} 666 0:0" for name, number in DEVICES.items()
    ]


def test_default_devices_work(container):
    script = """
        echo gone > /dev/null
        head -c 2 /dev/zero | od -An -tx1
        head -c 4 /dev/urandom | wc -c
        echo x > /dev/full
    """
    result = container(sh=script).run(check=1)
    assert result.stdout.split() == ["00", "00", "4"]
    assert "No space left" in result.stderr


def test_device_links(container):
    box = container(sh="for name in fd stdin stdout stderr ptmx; do readlink /dev/$name; done")
    lines = box.run().stdout.splitlines()
    assert lines[:4] == ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"]
    assert lines[4] in ("pts/ptmx", "/dev/pts/ptmx")


def test_configured_devices(container):
    """linux.devices: nodes with a mode and an owner, in directories that are made for them."""
    box = container(sh="stat -c '%n %F %t:%T %a %u:%g' /dev/one /dev/deep/er/two /dev/pipe")
    box.config["linux"]["devices"] = [
        {"path": "/dev/one", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6},
        {"path": "/dev/deep/er/two", "type": "b", "major": 7, "minor": 0, "fileMode": 0o600},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
    ]
    lines = box.run().stdout.splitlines()
    assert lines[0] == "/dev/one character special file 1:3 640 5:6"
    assert lines[1] == "/dev/deep/er/two block special file 7:0 600 0:0"
    assert lines[2].startswith("/dev/pipe fifo")
    assert " 622 " in lines[2]


def test_a_bound_dev_is_left_alone(container, runtime):
    """Then /dev is somebody else's: no node is made in it, or on the host."""
    source = runtime.folder / "dev"
    source.mkdir()
    os.mknod(source / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    box = container()
    box.config["mounts"] = [one for one in box.config["mounts"] if not one["destination"].startswith("/dev")]
    bind(box.config, source, "/dev", "rw")
    box.run()
    assert os.listdir(source) == ["null"]


def test_root_is_the_bundles(container):
    box = container(sh="ls -a /; stat -c %i /")
    lines = box.run().stdout.split()
    assert {name for name in lines[:-1] if name not in (".", "..")} == set(os.listdir(box.rootfs))
    assert int(lines[-1]) == box.rootfs.stat().st_ino


def test_absolute_root_path(container):
    box = container(sh="ls /etc")
    box.config["root"]["path"] = str(box.rootfs)
    assert box.run().stdout.split() == ["group", "passwd"]


@pytest.mark.parametrize("flags", [(), ("--no-pivot",)])
def test_the_hosts_root_is_out_of_reach(container, flags):
    """Nothing of the host is mounted, `..` of the root is the root, and no descriptor leads out."""
    box = container(sh="ls -a /..; ls -l /proc/self/fd; ls -id / /.. /../..; echo done; sleep 100")
    box.create(*flags)
    box.start()
    text = box.await_output("done")
    assert "etc" in text
    assert not any(name in text.split() for name in ("boot", "lib64", "media", "srv"))
    assert len({line.split()[0] for line in text.splitlines() if line.endswith((" /", " /..", " /../.."))}) == 1
    targets = [one.target for one in box.mounts()]
    assert sorted(targets) == sorted(["/", *(one["destination"] for one in box.config["mounts"])])


def test_pivot_leaves_a_root_that_moves_with_init(container):
    """pivot_root(2) makes the rootfs the root of the namespace: its parent mount is not the host's."""
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    assert proc.mount_at(box.mounts(), "/").root.endswith(str(box.rootfs).removeprefix("/tmp"))


def test_no_pivot_works(container):
    box = container(sh="pwd; ls /; grep -q ' /proc ' /proc/mounts && echo mounted")
    lines = box.run("--no-pivot").stdout.split()
    assert lines[0] == "/"
    assert lines[-1] == "mounted"
    assert set(lines[1:-1]) == set(os.listdir(box.rootfs))


def test_a_writable_root(container):
    box = container(sh="echo written > /tmp/file")
    box.run()
    assert (box.rootfs / "tmp/file").read_text() == "written\n"


def test_a_readonly_root(container):
    """The root only: a tmpfs in it stays writable, and the bundle on the host too."""
    box = container(sh="touch /file; echo fine > /dev/shm/file && cat /dev/shm/file")
    box.config["root"]["readonly"] = True
    result = box.run()
    assert "Read-only file system" in result.stderr
    assert result.stdout == "fine\n"
    (box.rootfs / "file").write_text("the host may write")


def test_a_readonly_root_in_mountinfo(container):
    box = container(["/bin/sleep", "100"])
    box.config["root"]["readonly"] = True
    box.create()
    mounts = box.mounts()
    assert "ro" in proc.mount_at(mounts, "/").options
    assert "rw" in proc.mount_at(mounts, "/dev/shm").options


def test_masked_paths(container):
    """A file reads as empty, a directory is empty and takes no files, a missing one is passed over."""
    box = container(
        sh="cat /etc/passwd /proc/cmdline | wc -c; ls /secret /proc/fs | wc -w; touch /secret/new; ls /secret"
    )
    box.bundle.write("secret/key", "secret")
    box.config["linux"]["maskedPaths"] = [
        "/etc/passwd",
        "/secret",
        "/proc/fs",
        "/proc/cmdline",
        "/nosuch/path",
    ]
    result = box.run()
    assert result.stdout.split()[0] == "0"
    assert "key" not in result.stdout
    assert "new" not in result.stdout
    assert "/secret/new" in result.stderr
    assert (box.rootfs / "secret/key").read_text() == "secret"
    assert os.listdir(box.rootfs / "secret") == ["key"]
    assert not (box.rootfs / "nosuch").exists()


def test_a_masked_path_twice(container):
    box = container(sh="ls /proc/fs; echo fine")
    box.config["linux"]["maskedPaths"] = ["/proc/fs", "/proc/fs", "/proc/kcore", "/proc/kcore"]
    assert box.run().stdout == "fine\n"


@pytest.mark.differs(runc="runc 1.1.5 mounts each", crun="crun 1.8.1 mounts each")
def test_a_masked_path_by_several_names_is_covered_once(container):
    box = container(["/bin/sleep", "100"])
    box.bundle.write("secret/key", "secret")
    (box.rootfs / "link").symlink_to("secret")
    names = ["/secret", "/secret", "/secret/", "/link", "/x/../secret", "/etc/passwd", "/etc//passwd"]
    (box.rootfs / "x").mkdir()
    box.config["linux"]["maskedPaths"] = names
    box.create()
    targets = [one.target for one in box.mounts()]
    assert targets.count("/secret") == targets.count("/etc/passwd") == 1
    assert os.listdir(box.root / "secret") == []
    assert (box.root / "etc/passwd").read_bytes() == b""


@pytest.mark.differs(crun="crun 1.8.1 makes the rootfs read-only on the host", sometimes=True)
def test_a_path_that_leaves_a_mount_by_dots(container):
    """`..` at the top of /proc is the container's root, not /proc again."""
    box = container(sh="cat /secret /proc/cmdline; echo x > /kept/file; echo y > /dev/shm/file; cat /dev/shm/file")
    box.bundle.write("secret", "secret\n")
    box.bundle.write("kept/file", "old\n")
    box.config["linux"]["maskedPaths"] = ["/proc/../secret", "/sys/fs/../../proc/cmdline"]
    box.config["linux"]["readonlyPaths"] = ["/proc/sys/../../kept", "/dev/pts/../../proc/sys"]
    result = box.run()
    assert result.stdout == "y\n"
    assert result.stderr.count("Read-only file system") == 1


def test_a_readonly_path_leaves_the_mounts_below_it_writable(container, runtime):
    """As a volume in a directory, or a writable cgroup below /sys."""
    source = runtime.folder / "source"
    source.mkdir()
    box = container(sh="touch /data/vol/new && touch /data/bound/new && echo both; touch /data/new")
    (box.rootfs / "data").mkdir()
    add_mount(box.config, "/data/vol", "tmpfs", "tmpfs", [])
    bind(box.config, source, "/data/bound")
    box.config["linux"]["readonlyPaths"] = ["/data"]
    result = box.run(check=1)
    assert result.stdout == "both\n"
    assert "/data/new: Read-only file system" in result.stderr
    assert (source / "new").exists()


@pytest.mark.differs(crun="crun 1.8.1 passes it over")
@pytest.mark.parametrize("path", ["/", "/link"])
def test_the_root_as_a_readonly_path(container, path):
    box = container(sh="touch /dev/shm/new && echo below; touch /new")
    (box.rootfs / "link").symlink_to("/")
    box.config["linux"]["readonlyPaths"] = [path]
    result = box.run(check=1)
    assert result.stdout == "below\n"
    assert "/new: Read-only file system" in result.stderr


def test_readonly_paths(container):
    """Of the container's own files, of /proc, and of what is below a path."""
    script = """
        echo x > /data/deep/file
        echo 1 > /proc/sys/kernel/domainname
        cat /data/deep/file
        echo y > /data2
        cat /data2
    """
    box = container(sh=script)
    box.bundle.write("data/deep/file", "old\n")
    box.bundle.write("data2", "old\n")
    box.config["linux"]["readonlyPaths"] = ["/data", "/proc/sys", "/nosuch"]
    result = box.run()
    assert result.stdout == "old\ny\n"
    assert result.stderr.count("Read-only file system") == 2
    assert not (box.rootfs / "nosuch").exists()


@pytest.mark.differs(crun="crun 1.8.1 loses them")
def test_readonly_paths_keep_the_flags_of_their_mount(container):
    """The bind mount that makes /sys/fs read-only must not lose its nosuid, nodev and noexec."""
    box = container(["/bin/sleep", "100"])
    box.config["linux"]["readonlyPaths"] = ["/dev/shm", "/proc/sys"]
    box.create()
    mounts = box.mounts()
    assert {"ro", "nosuid", "nodev", "noexec"} <= proc.mount_at(mounts, "/dev/shm").options
    assert "ro" in proc.mount_at(mounts, "/proc/sys").options


def test_masks_and_readonly_paths_as_engines_write_them(container):
    """The lists of docker and podman, whose paths exist on some hosts only."""
    masked = [
        "acpi",
        "asound",
        "kcore",
        "keys",
        "latency_stats",
        "timer_list",
        "timer_stats",
        "sched_debug",
        "scsi",
    ]
    readonly = ["bus", "fs", "irq", "sys", "sysrq-trigger"]
    box = container(sh="head -c 1 /proc/kcore | wc -c; cat /proc/keys | wc -c; echo 1 > /proc/sysrq-trigger")
    box.config["linux"]["maskedPaths"] = [*(f"/proc/{name}" for name in masked), "/sys/firmware"]
    box.config["linux"]["readonlyPaths"] = [f"/proc/{name}" for name in readonly]
    result = box.run(check=1)
    assert result.stdout.split() == ["0", "0"]


def test_masked_paths_in_a_user_namespace(container):
    box = container(sh="cat /proc/cmdline | wc -c; ls /proc/fs | wc -w")
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    box.config["linux"]["maskedPaths"] = ["/proc/cmdline", "/proc/fs"]
    assert box.run().stdout.split() == ["0", "0"]


@pytest.mark.differs(runc="runc 1.1.5 leaves it a slave")
def test_the_root_is_private(container):
    """Unless asked otherwise: what the host mounts later below the rootfs does not show up in the container."""
    box = container(["/bin/sleep", "100"])
    box.create()
    assert proc.mount_at(box.mounts(), "/").optional == ()
    kernel.mount("tmpfs", str(box.rootfs / "mnt"), "tmpfs", 0)
    try:
        assert "/mnt" not in [one.target for one in box.mounts()]
    finally:
        kernel.umount(str(box.rootfs / "mnt"), kernel.MNT_DETACH)


@pytest.mark.parametrize(
    "wanted, shown",
    [
        ("private", None),
        pytest.param("slave", "master:", marks=pytest.mark.differs(crun="crun 1.8.1 leaves it private")),
        pytest.param("shared", "shared:", marks=pytest.mark.differs(runc="runc 1.1.5 leaves it private")),
    ],
)
def test_rootfs_propagation(container, wanted, shown):
    """config-linux.md, "Rootfs Mount Propagation", seen in the optional fields of mountinfo."""
    box = container(["/bin/sleep", "100"])
    box.config["linux"]["rootfsPropagation"] = wanted
    box.create()
    root = proc.mount_at(box.mounts(), "/")
    if shown is None:
        assert root.optional == ()
    else:
        assert any(field.startswith(shown) for field in root.optional), root
    if wanted == "slave":
        assert not any(field.startswith("shared:") for field in root.optional)


@pytest.mark.differs(runc="runc 1.1.5 leaves it private")
def test_unbindable_rootfs_propagation(container):
    box = container(["/bin/sleep", "100"])
    box.config["linux"]["rootfsPropagation"] = "unbindable"
    box.create()
    assert "unbindable" in proc.mount_at(box.mounts(), "/").optional


@pytest.mark.differs(crun="crun 1.8.1 takes any word")
def test_an_unknown_propagation_is_refused(container):
    box = container()
    box.config["linux"]["rootfsPropagation"] = "sideways"
    result = box.create(check=None)
    assert result.code != 0
    if box.runtime.is_ours:
        assert "/linux/rootfsPropagation" in result.stderr


@pytest.mark.parametrize("wanted, arrives", [("rslave", True), ("rprivate", False)])
def test_mounts_of_the_host_arrive_in_a_slave(container, runtime, wanted, arrives):
    """A mount that the host makes later below a bind mount."""
    source = runtime.folder / "source"
    (source / "later").mkdir(parents=True)
    kernel.mount(str(source), str(source), None, kernel.MS_BIND)
    kernel.mount(None, str(source), None, kernel.MS_SHARED)
    try:
        box = container(["/bin/sleep", "100"])
        box.config["linux"]["rootfsPropagation"] = "slave"
        bind(box.config, source, "/source", wanted)
        box.create()
        kernel.mount("tmpfs", str(source / "later"), "tmpfs", 0)
        seen = [one.target for one in box.mounts()]
        assert ("/source/later" in seen) == arrives
    finally:
        kernel.umount(str(source / "later"), kernel.MNT_DETACH)
        kernel.umount(str(source), kernel.MNT_DETACH)


def test_mounts_of_the_container_stay_in_it(container):
    """All mounts of the harness are shared, as under systemd: none of the container's may arrive here."""
    box = container(sh="mount -t tmpfs none /mnt && echo mounted; sleep 100")
    wanted = ["CAP_SYS_ADMIN"]
    box.process["capabilities"] = dict.fromkeys(("bounding", "permitted", "effective"), wanted)
    before = proc.read("self", "mountinfo")
    box.create()
    box.start()
    box.await_output("mounted")
    assert proc.read("self", "mountinfo") == before
