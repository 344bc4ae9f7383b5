"""Namespaces: new, joined by path, or shared with the caller of the runtime.

Source: runtime-spec config-linux.md, "Namespaces", "User namespace mappings".
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import proc
from support.config import drop_namespace, map_ids, set_namespace
from support.refusal import create_refused

# The names of the specification, and those in /proc/PID/ns.
NAMES = {
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "mount": "mnt",
    "cgroup": "cgroup",
    "user": "user",
}
UNSHARE = {
    "pid": ["--pid", "--fork"],
    "network": ["--net"],
    "ipc": ["--ipc"],
    "uts": ["--uts"],
    "mount": ["--mount"],
    "cgroup": ["--cgroup"],
}


@pytest.fixture
def holder():
    """Start a process in a new namespace of a type; returns the path of that namespace."""
    started = []

    def hold(kind: str) -> str:
        command = ["unshare", *UNSHARE[kind], "sh", "-c", "echo ready; exec sleep 1000"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        pid = proc.children(process.pid)[0] if kind == "pid" else process.pid
        return f"/proc/{pid}/ns/{NAMES[kind]}"

    yield hold
    for process in started:
        for pid in [*proc.children(process.pid), process.pid]:
            os.kill(pid, 9)
        process.stdout.close()
        process.wait()


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "mount", "cgroup"])
def test_new(container, kind):
    box = container(["/bin/sleep", "100"])
    set_namespace(box.config, kind)
    box.create()
    assert box.namespace(NAMES[kind]) != proc.namespace("self", NAMES[kind])
    box.start()
    assert box.namespace(NAMES[kind]) != proc.namespace("self", NAMES[kind])


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup", "user"])
def test_absent(container, kind):
    """The container shares the runtime's."""
    box = container(["/bin/sleep", "100"])
    drop_namespace(box.config, kind)
    if kind == "uts":
        del box.config["hostname"]
    box.create()
    assert box.namespace(NAMES[kind]) == proc.namespace("self", NAMES[kind])


def test_absent_mount_namespace(container):
    """The mounts are made in the caller's, and the root is changed without pivoting: the caller's must
    stay."""
    box = container(sh="readlink /proc/self/ns/mnt; ls /")
    drop_namespace(box.config, "mount")
    script = 'readlink /proc/self/ns/mnt >&2; "$@"; code=$?; ls / >&2; exit $code'
    result = box.run(wrap=["unshare", "--mount", "sh", "-c", script, "sh"])
    inside, outside = result.stdout.splitlines(), result.stderr.splitlines()
    assert inside[0] == outside[0]
    assert sorted(inside[1:]) == sorted(os.listdir(box.rootfs))
    assert {"usr", "etc", "tmp"} <= set(outside), "the caller has lost its root"


def test_no_namespaces_at_all(container):
    """Only a chroot is left, as linux_ns_itype of the OCI suite has it."""
    box = container(sh="for kind in pid net ipc uts mnt; do readlink /proc/self/ns/$kind; done; ls /")
    box.config["linux"]["namespaces"] = []
    del box.config["hostname"]
    box.config["mounts"] = [one for one in box.config["mounts"] if one["destination"] == "/proc"]
    script = 'readlink /proc/self/ns/mnt >&2; exec "$@"'
    result = box.run(wrap=["unshare", "--mount", "sh", "-c", script, "sh"])
    lines = result.stdout.splitlines()
    assert lines[:4] == [proc.namespace("self", kind) for kind in ("pid", "net", "ipc", "uts")]
    assert lines[4] == result.stderr.split()[-1]
    assert sorted(lines[5:]) == sorted(os.listdir(box.rootfs))


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "mount", "cgroup"])
def test_joined_by_path(container, holder, kind):
    box = container(["/bin/sleep", "100"])
    path = holder(kind)
    set_namespace(box.config, kind, path)
    if kind == "uts":
        del box.config["hostname"]
    if kind == "mount":
        box.config["mounts"] = [one for one in box.config["mounts"] if one["destination"] == "/proc"]
    box.create()
    assert box.namespace(NAMES[kind]) == os.readlink(path)
    box.start()
    assert box.namespace(NAMES[kind]) == os.readlink(path)


def test_joined_pid_namespace(container, holder):
    """The process has a pid of that namespace, whose pid 1 is somebody else."""
    box = container(sh="echo $$; tr '\\0' ' ' < /proc/1/cmdline")
    set_namespace(box.config, "pid", holder("pid"))
    lines = box.run().stdout.splitlines()
    assert int(lines[0]) > 1
    assert lines[1].strip() == "sleep 1000"


def test_all_joined_from_another_container(container):
    """As the containers of a pod join their sandbox's."""
    sandbox = container(["/bin/sleep", "100"])
    sandbox.create()
    sandbox.start()
    box = container(sh="hostname; for kind in net ipc uts; do readlink /proc/self/ns/$kind; done")
    for kind in ("network", "ipc", "uts"):
        set_namespace(box.config, kind, f"/proc/{sandbox.pid}/ns/{NAMES[kind]}")
    del box.config["hostname"]
    lines = box.run().stdout.splitlines()
    assert lines == ["pyruntime", *(sandbox.namespace(kind) for kind in ("net", "ipc", "uts"))]


@pytest.mark.parametrize("kind, other", [("network", "uts"), ("uts", "ipc"), ("ipc", "mount"), ("pid", "network")])
def test_a_path_of_another_type_is_refused(container, kind, other):
    box = container()
    set_namespace(box.config, kind, f"/proc/{os.getpid()}/ns/{NAMES[other]}")
    result = box.create(check=None)
    assert result.code != 0
    if box.runtime.is_ours:
        assert "/linux/namespaces/4" in result.stderr


@pytest.mark.parametrize("path", ["/nosuch/net", "/etc/passwd", "relative/path"])
def test_a_path_that_is_no_namespace_is_refused(container, path):
    box = container()
    set_namespace(box.config, "network", path)
    result = box.create(check=None)
    assert result.code != 0
    if box.runtime.is_ours:
        assert "/linux/namespaces/4" in result.stderr


@pytest.mark.differs(crun="crun 1.8.1 takes the later one")
def test_a_type_twice_is_refused(container):
    box = container()
    box.config["linux"]["namespaces"].append({"type": "pid"})
    assert box.create(check=None).code != 0


def test_an_unknown_type_is_refused(container):
    box = container()
    set_namespace(box.config, "nosuch")
    result = box.create(check=None)
    assert result.code != 0
    if box.runtime.is_ours:
        assert "nosuch" in result.stderr


def test_user_namespace_maps(container):
    """Root inside is an ordinary user outside; the parent writes both maps as they are in the config."""
    box = container(["/bin/sleep", "100"])
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    box.create()
    box.start()
    assert box.proc("uid_map").split() == ["0", "200000", "65536"]
    assert box.proc("gid_map").split() == ["0", "200000", "65536"]
    assert box.process_status()["Uid"].split() == ["200000"] * 4
    assert box.process_status()["Gid"].split() == ["200000"] * 4
    assert box.namespace("user") != proc.namespace("self", "user")


def test_user_namespace_maps_of_several_lines(container):
    box = container(sh="cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; id -G")
    set_namespace(box.config, "user")
    linux, user = box.config["linux"], box.process["user"]
    linux["uidMappings"] = [
        {"containerID": 0, "hostID": 200000, "size": 10},
        {"containerID": 1000, "hostID": 300000, "size": 1},
    ]
    linux["gidMappings"] = [
        {"containerID": 0, "hostID": 210000, "size": 10},
        {"containerID": 2000, "hostID": 310000, "size": 5},
    ]
    user.update(uid=1000, gid=2000, additionalGids=[2001, 5])
    box.bundle.chown(200000, 210000)
    words = box.run().stdout.split()
    assert words[:6] == ["0", "200000", "10", "1000", "300000", "1"]
    assert words[6:12] == ["0", "210000", "10", "2000", "310000", "5"]
    assert words[12:14] == ["1000", "2000"]
    assert set(words[14:]) == {"2000", "2001", "5"}


def test_user_namespace_owns_the_others(container):
    """Root inside may change what belongs to its namespaces: the hostname, an address, a mount."""
    words = [
        "hostname changed",
        "hostname",
        "ip addr add 10.9.8.7/24 dev lo",
        "mount -t tmpfs none /mnt",
        "echo fine",
    ]
    script = " && ".join(words)
    box = container(sh=script)
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    wanted = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]
    box.process["capabilities"] = dict.fromkeys(("bounding", "permitted", "effective"), wanted)
    assert box.run().stdout == "changed\nfine\n"


def test_devices_in_a_user_namespace(container):
    """mknod(2) is forbidden there: the host's nodes are bound instead."""
    box = container(sh="echo x > /dev/null && head -c 2 /dev/zero | od -An -tx1 && stat -c '%F %t:%T' /dev/null")
    map_ids(box.config)
    box.bundle.chown(200000, 200000)
    lines = box.run().stdout.splitlines()
    assert lines[0].split() == ["00", "00"]
    assert lines[1] == "character special file 1:3"


@pytest.mark.differs(crun="crun 1.8.1 makes up maps from /etc/subuid")
def test_a_user_namespace_without_maps_is_refused(container):
    box = container()
    set_namespace(box.config, "user")
    result = box.create(check=None)
    assert result.code != 0
    if box.runtime.is_ours:
        assert "/linux/uidMappings" in result.stderr or "/linux/namespaces" in result.stderr


def test_user_outside_the_maps_is_refused(container):
    box = container()
    map_ids(box.config, size=10)
    box.bundle.chown(200000, 200000)
    box.process["user"]["uid"] = 5000
    assert box.create(check=None).code != 0


@pytest.fixture
def mapped_holder():
    """A process in a user namespace with the maps of `map_ids()`; yields its pid."""
    process = subprocess.Popen(
        ["unshare", "--user", sys.executable, "-c", "print(1, flush=True); import time; time.sleep(1000)"],
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{process.pid}/{name}", "w") as file:
            file.write("0 200000 65536")
    yield process.pid
    process.kill()
    process.stdout.close()
    process.wait()


@pytest.mark.parametrize(
    "with_maps",
    [
        pytest.param(False, marks=pytest.mark.differs(runc="runc 1.1.5 asks for maps though it joins")),
        True,
    ],
)
def test_user_namespace_by_path(container, mapped_holder, with_maps):
    """No maps are written for it; maps in the config that are the same are taken."""
    box = container(["/bin/sleep", "100"])
    if with_maps:
        map_ids(box.config)
    set_namespace(box.config, "user", f"/proc/{mapped_holder}/ns/user")
    box.bundle.chown(200000, 200000)
    box.create()
    box.start()
    assert box.namespace("user") == proc.namespace(mapped_holder, "user")
    assert box.process_status()["Uid"].split() == ["200000"] * 4


@pytest.mark.differs(
    runc="runc 1.1.5 joins the user namespace first", crun="crun 1.8.1 cannot exec without /proc", sometimes=True
)
@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup", "pid"])
def test_user_namespace_by_path_that_owns_none_of_the_others(container, mapped_holder, holder, kind):
    """Those of the host's user namespace are joined before it: in it there is no right to."""
    box = container(["/bin/sleep", "100"])
    path = holder(kind)
    set_namespace(box.config, "user", f"/proc/{mapped_holder}/ns/user")
    set_namespace(box.config, kind, path)
    if box.runtime.kind == "runc":
        map_ids_only(box.config)
    del box.config["hostname"]  # of another's uts namespace
    if kind in ("network", "pid"):
        # Neither may be mounted anew; that is another matter.
        box.config["mounts"] = [one for one in box.config["mounts"] if one["type"] not in ("sysfs", "proc")]
    box.bundle.chown(200000, 200000)
    box.create()
    box.start()
    assert box.namespace(NAMES[kind]) == os.readlink(path)
    assert box.namespace("user") == proc.namespace(mapped_holder, "user")
    if kind != "pid":
        assert box.runtime.run("exec", box.id, "/bin/id", "-u").stdout == "0\n"


def map_ids_only(config):
    """The maps of mapped_holder, and its namespace all the same."""
    mapping = [{"containerID": 0, "hostID": 200000, "size": 65536}]
    config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}


@pytest.mark.differs(runc="runc 1.1.5 takes any", crun="crun 1.8.1 takes any")
@pytest.mark.parametrize("field", ["uidMappings", "gidMappings"])
@pytest.mark.parametrize(
    "mapping",
    [{"containerID": 0, "hostID": 300000, "size": 65536}, {"containerID": 0, "hostID": 200000, "size": 1000}],
    ids=["other", "smaller"],
)
def test_user_namespace_by_path_with_other_maps_is_refused(container, mapped_holder, field, mapping):
    box = container()
    map_ids_only(box.config)
    box.config["linux"][field] = [mapping]
    set_namespace(box.config, "user", f"/proc/{mapped_holder}/ns/user")
    box.bundle.chown(200000, 200000)
    create_refused(box, f"/linux/{field}", "0 200000 65536", "cannot be changed")


@pytest.mark.differs(runc="runc wants a mapping for id 0")
@pytest.mark.parametrize("joined", [False, True], ids=["new", "joined"])
def test_a_user_namespace_without_id_0(container, joined):
    """What is done as root of the container is done as the first id there."""

    def without_0(box):
        mapping = [{"containerID": 1000, "hostID": 201000, "size": 100}]
        box.config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
        box.process["user"] = {"uid": 1007, "gid": 1008}
        box.bundle.chown(201000, 201000)

    first = container(["/bin/sleep", "100"])
    set_namespace(first.config, "user")
    without_0(first)
    first.create()
    first.start()
    if joined:
        box = container(["/bin/sleep", "100"])
        set_namespace(box.config, "user", f"/proc/{first.pid}/ns/user")
        without_0(box)
        box.create()
        box.start()
    else:
        box = first
    assert box.process_status()["Uid"].split() == ["201007"] * 4
    if box.runtime.kind != "crun":  # 1.8.1 leaves some
        assert box.process_status()["CapPrm"] == "0" * 16
    done = box.runtime.run("exec", "--user", "1003:1004", box.id, "/bin/sh", "-c", "id -u; id -g; echo x >/dev/shm/new")
    assert done.stdout == "1003\n1004\n"


def test_cgroup_namespace(container):
    """Inside, the container's cgroup is the root."""
    box = container(sh="cat /proc/self/cgroup")
    set_namespace(box.config, "cgroup")
    paths = proc.cgroups(box.run().stdout)
    assert set(paths.values()) <= {"/", "/../.."}, paths
    assert paths["pids" if "pids" in paths else ""] == "/"  # cgroup v2 has the one line, without names


def test_new_network_namespace_has_its_loopback_up(container):
    """And nothing else in it."""
    box = container(sh="ls /sys/class/net; cat /sys/class/net/lo/flags; ip -o addr show lo; ip route")
    lines = box.run().stdout.splitlines()
    assert lines[0] == "lo"
    assert int(lines[1], 16) & 1, "lo is down"
    assert any("127.0.0.1/8" in line for line in lines[2:])


def test_joined_network_namespace_is_left_as_it_is(container, holder):
    """Who made it decides about its loopback."""
    box = container(sh="cat /sys/class/net/lo/flags")
    set_namespace(box.config, "network", holder("network"))
    assert int(box.run().stdout, 16) & 1 == 0


def test_hostname(container):
    assert container(sh="hostname", hostname="ham-and-eggs").run().stdout == "ham-and-eggs\n"


@pytest.mark.differs(runc="runc 1.1.5 knows no domainname")
def test_domainname(container):
    box = container(sh="cat /proc/sys/kernel/domainname", domainname="example.org")
    assert box.run().stdout == "example.org\n"


def test_the_hosts_hostname_is_untouched(container):
    before = os.uname().nodename
    container(hostname="elsewhere").run()
    assert os.uname().nodename == before


def test_hostname_without_a_uts_namespace_is_refused(container):
    """It would rename the host."""
    before = os.uname().nodename
    box = container()
    drop_namespace(box.config, "uts")
    result = box.create(check=None)
    assert os.uname().nodename == before
    assert result.code != 0
    if box.runtime.is_ours:
        assert "/hostname" in result.stderr


def test_ipc_namespace_is_empty(container):
    box = container(sh="wc -l < /proc/sysvipc/shm; ls /dev/shm")
    assert box.run().stdout.split() == ["1"]
