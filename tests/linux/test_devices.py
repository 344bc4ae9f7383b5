"""linux.devices and what every container finds in /dev, seen from inside.

Source: runtime-spec config-linux.md, "Devices", "Default Devices".
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from support import leaks, proc
from support.config import add_mount, map_ids
from support.refusal import create_refused


def device(path: str, kind: str, *numbers: int, **fields) -> dict:
    made = {"path": path, "type": kind, **fields}
    return made | dict(zip(("major", "minor"), numbers, strict=False))


def look(box, *paths: str) -> list[str]:
    """`type major:minor mode owner:group` of each path, as a process of the container sees it."""
    box.process["args"] = ["/bin/stat", "-c", "%F %t:%T %a %u:%g", *paths]
    return box.run().stdout.splitlines()


@pytest.mark.parametrize(
    "entry, shown",
    [
        (device("/dev/c", "c", 1, 3, fileMode=0o666), "character special file 1:3 666 0:0"),
        (device("/dev/u", "u", 1, 5, fileMode=0o600), "character special file 1:5 600 0:0"),
        (device("/dev/b", "b", 7, 1, fileMode=0o660, gid=6), "block special file 7:1 660 0:6"),
        (device("/dev/fifo", "p", fileMode=0o640, uid=1000, gid=1000), "fifo 0:0 640 1000:1000"),
        (device("/dev/fuse", "c", 10, 229, fileMode=0o666, uid=5, gid=6), "character special file a:e5 666 5:6"),
        (device("/opt/made/for/it", "c", 1, 9, fileMode=0o444), "character special file 1:9 444 0:0"),
    ],
    ids=lambda value: value["path"] if isinstance(value, dict) else "",
)
def test_made_as_asked_for(container, entry, shown):
    box = container()
    box.config["linux"]["devices"] = [entry]
    assert look(box, entry["path"]) == [shown]


def test_a_mode_is_not_lessened_by_an_umask(container):
    box = container()
    box.config["linux"]["devices"] = [device("/dev/one", "c", 1, 3, fileMode=0o777)]
    box.process["user"]["umask"] = 0o77
    box.process["args"] = ["/bin/stat", "-c", "%a", "/dev/one"]
    assert box.run(wrap=["sh", "-c", 'umask 077; exec "$@"', "sh"]).stdout == "777\n"


def test_without_a_mode(container):
    """fileMode is OPTIONAL; what is not said is as for the default devices: everybody may."""
    box = container()
    box.config["linux"]["devices"] = [device("/dev/one", "c", 1, 3)]
    assert look(box, "/dev/one") == ["character special file 1:3 666 0:0"]


@pytest.mark.differs(runc="1.1.5 cannot open it any more", crun="1.8.1 makes its own")
def test_one_in_place_of_a_default(container):
    """config-linux.md: the list may name a default device, with a mode of its own."""
    box = container()
    box.config["linux"]["devices"] = [device("/dev/null", "c", 1, 3, fileMode=0o600, uid=7, gid=8)]
    assert look(box, "/dev/null", "/dev/zero") == [
        "character special file 1:3 600 7:8",
        "character special file 1:5 666 0:0",
    ]


def test_they_work(container):
    """A fifo passes data on, a device obeys the rules for devices of the container's cgroup."""
    script = "(echo through > /dev/pipe &) ; cat /dev/pipe; head -c 3 /dev/nil | od -An -tx1; echo x > /dev/full2"
    box = container(sh=script)
    box.config["linux"]["devices"] = [
        device("/dev/pipe", "p", fileMode=0o600),
        device("/dev/nil", "c", 1, 5, fileMode=0o666),
        device("/dev/full2", "c", 1, 7, fileMode=0o666),
    ]
    result = box.run(check=1)
    assert result.stdout.split() == ["through", "00", "00", "00"]
    assert "No space left" in result.stderr


def test_a_tmpfs_on_dev_hides_none(container):
    """/dev read-only: the nodes are made before."""
    box = container(sh="stat -c %F /dev/null /dev/one; touch /dev/x")
    dev = next(one for one in box.config["mounts"] if one["destination"] == "/dev")
    dev["options"] = [*dev["options"], "ro"]
    box.config["linux"]["devices"] = [device("/dev/one", "c", 1, 3, fileMode=0o666)]
    result = box.run(check=1)
    assert result.stdout.splitlines() == ["character special file"] * 2
    assert "Read-only file system" in result.stderr


@pytest.mark.differs(runc="1.1.5 leaves them as they are")
def test_bound_nodes_are_nosuid_and_noexec(container):
    """What is on them are the host's inodes, which a container is to do nothing else with."""
    box = container(sh="grep ' /dev/[nzfrut][a-z]* ' /proc/self/mountinfo")
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    lines = box.run().stdout.splitlines()
    assert len(lines) == 6
    for line in lines:
        assert {"nosuid", "noexec"} <= set(line.split()[5].split(",")), line


@pytest.mark.differs(crun="1.8.1 makes a file in its place", sometimes=True)
def test_bound_in_a_user_namespace(container):
    """There mknod(2) is forbidden: the host's node of the same path is bound, with its owner as seen from inside."""
    box = container()
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    box.config["linux"]["devices"] = [device("/dev/fuse", "c", 10, 229, fileMode=0o666)]
    if not os.path.exists("/dev/fuse"):
        pytest.skip("the host has no /dev/fuse")
    mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    assert look(box, "/dev/fuse") == [f"character special file a:e5 {mode:o} 65534:65534"]
    inside = os.stat(box.rootfs / "dev").st_uid
    assert inside == 200000


@pytest.mark.differs(runc="1.1.5 wants one of the host", crun="1.8.1 loses bits to the umask")
def test_a_fifo_in_a_user_namespace_is_made(container):
    box = container()
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    box.config["linux"]["devices"] = [device("/dev/pipe", "p", fileMode=0o620, uid=5, gid=6)]
    assert look(box, "/dev/pipe") == ["fifo 0:0 620 5:6"]


@pytest.mark.differs(runc="wants one of the host", crun="1.8.1 loses bits to the umask, and the flags")
@pytest.mark.parametrize("path", ["/dev/made", "/elsewhere/made"])
def test_one_that_the_host_lacks_in_a_user_namespace(container, path):
    """The parent makes it, with the owner and the mode that are asked for, nosuid and noexec as those of the host."""
    look = f"stat -c '%F %t:%T %a %u:%g' {path}; echo x > {path} && echo written; grep ' {path} ' /proc/self/mountinfo"
    box = container(sh=look)
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    box.config["linux"]["devices"] = [device(path, "c", 1, 3, fileMode=0o4666, uid=7, gid=8)]
    shown, written, line = box.run().stdout.splitlines()
    assert shown == "character special file 1:3 4666 7:8"
    assert written == "written"
    assert {"nosuid", "noexec"} <= set(line.split()[5].split(","))
    assert [one for one in os.listdir("/dev") if one == "made"] == []


@pytest.mark.ours
def test_an_owner_that_is_not_mapped(container):
    box = container()
    map_ids(box.config, size=10)
    box.bundle.chown(200000, 200000)
    box.config["linux"]["devices"] = [device("/dev/made", "c", 1, 3, uid=11)]
    create_refused(box, "/linux/devices/0", "11:0", "not mapped")


@pytest.mark.ours
def test_a_path_of_the_host_that_is_another_device(container):
    box = container()
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    box.config["linux"]["devices"] = [device("/dev/zero", "c", 1, 3)]
    create_refused(box, "/linux/devices/0", "/dev/zero", "1:3")


@pytest.mark.ours
def test_numbers_are_required(container):
    box = container()
    box.config["linux"]["devices"] = [{"path": "/dev/one", "type": "c", "major": 1}]
    create_refused(box, "/linux/devices/0/minor", "required")


@pytest.mark.differs(crun="1.8.1 takes any word")
def test_an_unknown_type_is_refused(container):
    box = container()
    box.config["linux"]["devices"] = [device("/dev/one", "x", 1, 3)]
    create_refused(box, "/linux/devices/0/type")


def test_without_a_mount_on_dev(container):
    """Then the nodes are made in the rootfs itself, and a second container finds them there."""
    for _ in range(2):
        box = container(sh="echo x > /dev/null; stat -c '%F %t:%T' /dev/null; readlink /dev/fd; readlink /dev/ptmx")
        box.config["mounts"] = [one for one in box.config["mounts"] if not one["destination"].startswith("/dev")]
        lines = box.run().stdout.splitlines()
        assert lines == ["character special file 1:3", "/proc/self/fd", "pts/ptmx"]
        again = container(sh="stat -c %t:%T /dev/null")
        again.bundle.config["root"]["path"] = str(box.rootfs)
        again.config["mounts"] = box.config["mounts"]
        assert again.run().stdout == "1:3\n"


def test_ptmx_is_that_of_the_containers_devpts(container):
    """What is opened there is a terminal of the container's instance: its number is the first one."""
    box = container(sh="exec 3<>/dev/ptmx; ls /dev/pts; stat -c %t:%T -L /dev/ptmx; stat -c %a -L /dev/ptmx")
    lines = box.run().stdout.split()
    assert lines == ["0", "ptmx", "5:2", "666"]


def test_console_without_a_terminal(container):
    """config-linux.md: /dev/console is there when `terminal` is true; else there is none of the host's."""
    box = container(sh="ls /dev")
    names = box.run().stdout.split()
    assert "console" not in names
    expected = {"core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"}
    assert set(names) <= expected | {"tty", "urandom", "zero", "mqueue"}


def test_shm_of_an_engine_is_bound(container, runtime):
    """docker and podman bind a directory of theirs on /dev/shm, containers of a pod share it."""
    shared = runtime.folder / "shm"
    shared.mkdir()
    box = container(sh="echo x > /dev/shm/file")
    box.config["mounts"] = [one for one in box.config["mounts"] if one["destination"] != "/dev/shm"]
    add_mount(box.config, "/dev/shm", "bind", str(shared), ["rbind", "rprivate", "nosuid"])
    box.run()
    assert (shared / "file").read_text() == "x\n"


@pytest.fixture
def outer_cgroup():
    """A cgroup (v1) that allows the default devices of a container only, as an outer container's."""
    top = Path("/sys/fs/cgroup/devices")
    if not (top / "devices.list").exists() and not (top / "cgroup.procs").exists():
        pytest.skip("no cgroup v1 hierarchy of the devices controller here")
    path = top / f"{leaks.PREFIX}-outer"
    path.mkdir()
    (path / "devices.deny").write_text("a")
    numbers = ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2", "136:*"]
    for rule in [*(f"c {number} rwm" for number in numbers), "c *:* m", "b *:* m"]:
        (path / "devices.allow").write_text(rule)
    yield path
    proc.wait_until(lambda: not (path / "cgroup.procs").read_text(), "the outer cgroup is empty")
    for below in sorted(path.rglob("*/"), reverse=True):
        below.rmdir()
    path.rmdir()


@pytest.mark.differs(runc="asks for /dev/net/tun, too")
def test_below_a_container_with_the_default_devices(container, outer_cgroup):
    """No rule is written that the cgroup above could refuse and that nobody asked for."""
    box = container(sh="echo x > /dev/null && echo ran")
    box.config["linux"]["cgroupsPath"] = box.id
    box.config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    wrap = ["sh", "-c", f'echo $$ > {outer_cgroup}/cgroup.procs && exec "$@"', "sh"]
    assert box.run(wrap=wrap).stdout == "ran\n"
