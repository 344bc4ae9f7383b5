"""pyruntime.spec.check: what it says, and where, about configs that are wrong."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyruntime.errors import ConfigError
from pyruntime.spec.check import check, check_process, check_resources, require, without_errors

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "tests" / "data" / "configs").glob("*.json"))

GOOD: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs"},
    "hostname": "box",
    "process": {"cwd": "/", "args": ["sh"], "env": ["A=b"], "user": {"uid": 0, "gid": 0}},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}],
    "linux": {"namespaces": [{"type": "pid"}, {"type": "uts"}, {"type": "mount"}], "resources": {}},
}

REMOVE = object()


def changed(pointer: str, value: object) -> dict[str, Any]:
    """GOOD with `value` at `pointer`; objects on the way are made. REMOVE takes the member away."""
    config = copy.deepcopy(GOOD)
    place: Any = config
    *way, last = pointer.split("/")[1:]
    for key in way:
        place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
    if value is REMOVE:
        del place[last]
    elif isinstance(place, list):
        place.append(value)
    else:
        place[last] = value
    return config


def test_a_good_config_has_no_problem() -> None:
    assert check(GOOD) == []
    assert require(GOOD) == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_nothing_is_wrong_with_what_engines_write(path: Path) -> None:
    assert check(json.loads(path.read_text(encoding="utf-8"))) == []


# (where to change GOOD, to what, what the error says; it is to be the only one)
SHAPES: list[tuple[str, object, str]] = [
    ("/ociVersion", REMOVE, "/ociVersion: is required and missing"),
    ("/ociVersion", "2.0.0", '/ociVersion: must be a version 1.x.y of the specification, is "2.0.0"; this'),
    ("/ociVersion", 1, '/ociVersion: must be a string, is 1; write "1"'),
    ("/root", {}, "/root/path: is required and missing"),
    ("/root", "rootfs", '/root: must be an object, is the string "rootfs"'),
    ("/root/path", "", "/root/path: must not be empty"),
    (
        "/root/readonly",
        "true",
        '/root/readonly: must be true or false, is the string "true"; write it without',
    ),
    ("/process/cwd", REMOVE, "/process/cwd: is required and missing"),
    ("/process/cwd", "tmp", "/process/cwd: must be an absolute path, starting with /, is"),
    ("/process/args", "sh", '/process/args: must be an array of strings, is the string "sh"; write ["sh"]'),
    ("/process/args", "sh -c true", "/process/args: must be an array of strings, is the string"),
    ("/process/args", ["sh", 1], '/process/args/1: must be a string, is 1; write "1"'),
    ("/process/args", ["sh", None], "/process/args/1: must be a string, is null"),
    ("/process/args", None, "/process/args: must be an array of strings, is null"),
    ("/process/env/-", "A\0B=c", "/process/env/1: contains a NUL byte"),
    ("/process/env/-", "A=\ud800", "/process/env/1: contains half of a surrogate pair"),
    ("/domainname", "\ud800", "/domainname: contains half of a surrogate pair"),
    ("/process/user/uid", -1, "/process/user/uid: must be a whole number from 0 to 4294967294, is -1"),
    (
        "/process/user/uid",
        "0",
        "/process/user/uid: must be a whole number from 0 to 4294967294, is the string",
    ),
    (
        "/process/user/uid",
        1.0,
        "/process/user/uid: must be a whole number from 0 to 4294967294, is 1.0; write 1",
    ),
    ("/process/user/uid", True, "/process/user/uid: must be a whole number from 0 to 4294967294, is true"),
    ("/process/user/additionalGids", [1, 2**32], "/process/user/additionalGids/1: must be a whole number"),
    ("/process/capabilities", ["CAP_KILL"], "/process/capabilities: must be an object, is an array"),
    (
        "/process/oomScoreAdj",
        1001,
        "/process/oomScoreAdj: must be a whole number from -1000 to 1000, is 1001",
    ),
    ("/process/rlimits", [{"type": "RLIMIT_NOFILES", "soft": 1, "hard": 1}], "did you mean RLIMIT_NOFILE?"),
    (
        "/process/rlimits",
        [{"type": "RLIMIT_CORE", "hard": 1}],
        "/process/rlimits/0/soft: is required and missing",
    ),
    (
        "/process/scheduler",
        {"policy": "SCHED_OTHERS"},
        "/process/scheduler/policy: must be one of SCHED_OTHER, ",
    ),
    (
        "/process/ioPriority",
        {"class": "IOPRIO_CLASS_BE", "priority": 8},
        "/process/ioPriority/priority: must be",
    ),
    (
        "/process/execCPUAffinity",
        {"initial": "a"},
        "/process/execCPUAffinity/initial: must be a list like 0-3,7",
    ),
    ("/mounts/-", {"type": "proc"}, "/mounts/1/destination: is required and missing"),
    ("/mounts/-", "proc", '/mounts/1: must be an object, is the string "proc"'),
    ("/mounts", {}, "/mounts: must be an array of objects, is an object"),
    ("/hooks", {"poststop": [{"path": "bin/true"}]}, "/hooks/poststop/0/path: must be an absolute path"),
    (
        "/hooks",
        {"poststop": [{"path": "/x", "timeout": 0}]},
        "/hooks/poststop/0/timeout: must be a whole number from 1 to",
    ),
    ("/annotations", {"a/b~c": 1}, "/annotations/a~1b~0c: must be a string, is 1"),
    ("/annotations", {"a\0": "b"}, "contains a NUL byte"),
    ("/linux/namespaces/-", {"type": "net"}, "/linux/namespaces/3/type: must be one of pid, network, "),
    (
        "/linux/namespaces/-",
        {"type": "ipc", "path": "ns"},
        "/linux/namespaces/3/path: must be an absolute path",
    ),
    ("/linux/rootfsPropagation", "rshare", "/linux/rootfsPropagation: must be one of private, "),
    ("/linux/maskedPaths", ["/proc/kcore", "sys"], "/linux/maskedPaths/1: must be an absolute path"),
    ("/linux/readonlyPaths", ["proc"], "/linux/readonlyPaths/0: must be an absolute path"),
    ("/linux/devices", [{"type": "p", "path": "fifo"}], "/linux/devices/0/path: must be an absolute path"),
    ("/linux/devices", [{"type": "d", "path": "/x"}], "/linux/devices/0/type: must be one of c, b, u, p"),
    (
        "/linux/resources/devices",
        [{"allow": True, "access": "rx"}],
        "/access: must be made of the letters r, w and m",
    ),
    ("/linux/resources/memory", {"limit": 2**63}, "/linux/resources/memory/limit: must be a whole number"),
    ("/linux/resources/hugepageLimits", [{"pageSize": "0MB", "limit": 1}], "/pageSize: must be a size like"),
    ("/linux/intelRdt", {"memBwSchema": "MB:0=1\nMB:1=1"}, "/linux/intelRdt/memBwSchema: must be one line"),
    ("/linux/seccomp", {}, "/linux/seccomp/defaultAction: is required and missing"),
    (
        "/linux/seccomp",
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]},
        "/linux/seccomp/syscalls/0/names: must have at least 1 item, has 0",
    ),
    (
        "/linux/personality",
        {"domain": "PER_LINUX"},
        "/linux/personality/domain: must be one of LINUX, LINUX32",
    ),
    (
        "/linux/memoryPolicy",
        {"mode": "MPOL_BIND", "flags": ["MPOL_F"]},
        "/linux/memoryPolicy/flags/0: must be",
    ),
    ("/linux/netDevices", {"eth0": "eth1"}, "/linux/netDevices/eth0: must be an object"),
    ("/windows", [], "/windows: must be an object, is an array"),
]

# Numbers that the kernel would take for another one: -1 is "no id" and "every device", bits beyond a width are cut off.
NO_ID = 2**32 - 1
NODE = {"type": "c", "path": "/dev/x", "major": 1, "minor": 3}
USER = "/process/user"
IDS = "must be a whole number from 0 to 4294967294, is "
NUMBERS: list[tuple[str, object, str]] = [
    *(
        (f"{USER}/{name}", number, f"{USER}/{name}: {IDS}{number}")
        for name in ("uid", "gid")
        for number in (-1, NO_ID, 2**32, 2**70)
    ),
    (f"{USER}/additionalGids", [5, NO_ID], f"{USER}/additionalGids/1: {IDS}4294967295"),
    (f"{USER}/additionalGids", list(range(65537)), f"{USER}/additionalGids: has 65537 groups, the kernel takes"),
    *(
        (
            "/linux/devices",
            [{**NODE, name: number}],
            f"/linux/devices/0/{name}: must be a whole number from 0 to {most}",
        )
        for name, most in (("uid", NO_ID - 1), ("gid", NO_ID - 1), ("major", 4095), ("minor", 1048575))
        for number in (-1, most + 1, 2**32, 2**70)
    ),
    *(
        (
            "/linux/resources/devices",
            [{"allow": True, "type": "c", name: number}],
            f"/linux/resources/devices/0/{name}: must be a whole number from -1 to 4294967295, is {number}",
        )
        for name in ("major", "minor")
        for number in (-2, 2**32)
    ),
    (
        "/linux/resources/blockIO",
        {"weightDevice": [{"major": -1, "minor": 0, "weight": 10}]},
        "/weightDevice/0/major: must be a whole number from 0 to 4095",
    ),
    (
        "/linux/resources/blockIO",
        {"throttleReadBpsDevice": [{"major": 8, "minor": 2**20, "rate": 10}]},
        "/throttleReadBpsDevice/0/minor: must be a whole number from 0 to 1048575",
    ),
    (
        "/linux/seccomp",
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536},
        "/linux/seccomp/defaultErrnoRet: must be a whole number from 0 to 65535",
    ),
    ("/process/env/-", "FOO", "/process/env/1: is not NAME=value; write it as NAME=value"),
    ("/process/env/-", "=x", "/process/env/1: is not NAME=value"),
    ("/hooks", {"poststop": [{"path": "/x", "env": ["=x"]}]}, "/hooks/poststop/0/env/0: is not NAME=value"),
    ("/hooks", {"poststop": [{"path": "/x", "timeout": 2**70}]}, "/hooks/poststop/0/timeout: must be a whole number"),
    ("/process/execCPUAffinity", {"final": "0-8192"}, "/execCPUAffinity/final: '0-8192' is not a range from 0 to 8191"),
    ("/process/execCPUAffinity", {"initial": "9" * 5000}, "/execCPUAffinity/initial: '999"),
    ("/process/execCPUAffinity", {"initial": "3-1"}, "/execCPUAffinity/initial: '3-1' is not a range"),
    ("/process/execCPUAffinity", {"initial": "1,-"}, "/execCPUAffinity/initial: '-' is not a number or a range"),
    ("/linux/memoryPolicy", {"mode": "MPOL_BIND", "nodes": "8192"}, "/linux/memoryPolicy/nodes: '8192' is not a range"),
]


def maps(*ranges: tuple[int, int, int]) -> list[dict[str, int]]:
    return [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in ranges]


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ([(NO_ID, 0, 1)], f"/0/containerID: {IDS}4294967295"),
        ([(0, NO_ID, 1)], f"/0/hostID: {IDS}4294967295"),
        ([(0, NO_ID - 1, 2)], "/0/size: hostID 4294967294 and size 2 go beyond the highest id, 4294967294"),
        ([(1, 0, NO_ID)], "/0/size: containerID 1 and size 4294967295 go beyond"),
        ([(0, 0, 0)], "/0/size: must be at least 1, is 0"),
        ([(0, 0, 10), (9, 20, 1)], "/1: its range of containerID overlaps that of item 0"),
        ([(5, 100, 10), (0, 109, 5)], "/1: its range of hostID overlaps that of item 0"),
        ([(0, 100, 50), (60, 0, 10), (70, 149, 1)], "/2: its range of hostID overlaps that of item 0"),
        ([(0, 100, 50), (10, 0, 1), (20, 10, 1)], "/1: its range of containerID overlaps that of item 0"),
        ([(2 * n, 2 * n, 1) for n in range(341)], ": has 341 ranges, the kernel takes at most 340; join"),
    ],
)
def test_maps_that_the_kernel_refuses(ranges: list[tuple[int, int, int]], said: str) -> None:
    config = copy.deepcopy(GOOD)
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = maps(*ranges)
    config["mounts"].append({"destination": "/x", "uidMappings": maps(*ranges), "gidMappings": maps((0, 0, 1))})
    for pointer in ("/linux/uidMappings", "/linux/gidMappings", "/mounts/1/uidMappings"):
        assert any(str(problem).startswith(pointer + said) for problem in check(config)), check(config)


@pytest.mark.parametrize("ranges", [[(0, 0, NO_ID)], [(0, 5, 5), (5, 0, 5)], [(2 * n, 2 * n, 1) for n in range(340)]])
def test_maps_that_the_kernel_takes(ranges: list[tuple[int, int, int]]) -> None:
    config = copy.deepcopy(GOOD)
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = maps(*ranges)
    assert check(config) == []


def test_a_group_that_is_named_often_counts_once() -> None:
    assert check(changed("/process/user/additionalGids", [7] * 70_000)) == []


RULES: list[tuple[str, object, str]] = [
    ("/linux/namespaces/-", {"type": "pid"}, "/linux/namespaces/3: is a second pid namespace"),
    ("/hostname", "a" * 65, "is 65 bytes long, the kernel allows at most 64; shorten it"),
    ("/domainname", "\u00f6" * 33, "is 66 bytes long, the kernel allows at most 64"),
    ("/linux/namespaces", [], "/hostname: would change the host's: the container has no uts namespace"),
    (
        "/linux/uidMappings",
        [{"containerID": 0, "hostID": 1, "size": 1}],
        "/linux/uidMappings: has nothing to",
    ),
    ("/linux/timeOffsets", {"monotonic": {"secs": 1}}, "/linux/timeOffsets: has no new time namespace"),
    (
        "/linux/sysctl",
        {"net.ipv4.ip_forward": "1"},
        "/linux/sysctl/net.ipv4.ip_forward: would change the host: it",
    ),
    ("/linux/sysctl", {"net/ipv4/ip_forward": "1"}, '; add {"type": "network"} to /linux/namespaces'),
    ("/linux/sysctl", {"kernel.shmmax": "1"}, "belongs to the ipc namespace"),
    ("/linux/sysctl", {"fs.mqueue.msg_max": "1"}, "belongs to the ipc namespace"),
    ("/linux/sysctl", {"user.max_user_namespaces": "1"}, "belongs to the user namespace"),
    ("/linux/sysctl", {"kernel.hostname": "x"}, "is set by another member; use /hostname"),
    ("/linux/sysctl", {"vm.swappiness": "1"}, "the kernel has one value for all containers"),
    (
        "/linux/devices",
        [{"type": "c", "path": "/dev/x", "major": 1}],
        "/linux/devices/0/minor: is required for",
    ),
    ("/linux/netDevices", {"eth0": {}}, "/linux/netDevices: has no network namespace to move devices to"),
    ("/linux/intelRdt", {"closID": "../x"}, "/linux/intelRdt/closID: must be the name of one directory"),
    ("/linux/resources/rdma", {"mlx5_1": {}}, "/linux/resources/rdma/mlx5_1: needs hcaHandles or hcaObjects"),
    (
        "/linux/resources/cpu",
        {"quota": 10, "burst": 11},
        "/linux/resources/cpu/burst: is larger than the quota",
    ),
    (
        "/linux/resources/blockIO",
        {"weightDevice": [{"major": 8, "minor": 0}]},
        "/linux/resources/blockIO/weightDevice/0: needs weight or leafWeight",
    ),
    (
        "/linux/seccomp",
        {"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1},
        "/linux/seccomp/defaultErrnoRet: has no meaning with the action SCMP_ACT_ALLOW",
    ),
    (
        "/linux/seccomp",
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_KILL", "errnoRet": 1}],
        },
        "/linux/seccomp/syscalls/0/errnoRet: has no meaning with the action SCMP_ACT_KILL",
    ),
    (
        "/linux/seccomp",
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_NOTIFY"}]},
        "/linux/seccomp/listenerPath: is required for SCMP_ACT_NOTIFY",
    ),
    (
        "/linux/seccomp",
        {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"},
        "/linux/seccomp/listenerMetadata: needs listenerPath",
    ),
    (
        "/process/rlimits",
        [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}],
        "/process/rlimits/1: is a second limit for RLIMIT_CORE, after item 0",
    ),
    (
        "/process/rlimits",
        [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}],
        "/process/rlimits/0: the soft limit of",
    ),
    (
        "/mounts/-",
        {"destination": "/x", "options": ["bind", "ridmap"]},
        "/mounts/1/options/1: ridmap has no mappings",
    ),
    (
        "/mounts/-",
        {"destination": "/x", "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]},
        "/mounts/1/uidMappings: needs gidMappings beside it",
    ),
    ("/annotations", {"": "x"}, "/annotations/: has an empty name"),
]


@pytest.mark.parametrize(("pointer", "value", "said"), SHAPES + RULES + NUMBERS)
def test_what_is_wrong_is_said_once_and_with_its_place(pointer: str, value: object, said: str) -> None:
    problems = check(changed(pointer, value))
    assert len(problems) == 1, problems
    assert not problems[0].warning
    assert said in str(problems[0])
    with pytest.raises(ConfigError) as caught:
        require(changed(pointer, value))
    assert str(caught.value).startswith("config.json: /")
    assert said in str(caught.value)
    assert caught.value.pointer == problems[0].pointer


@pytest.mark.parametrize(
    ("pointer", "value", "said"),
    [
        (
            "/process/capabilities",
            {"bounding": ["CAP_KILL", "cap_kill"]},
            "/process/capabilities/bounding/1: unknown capability cap_",
        ),
        (
            "/process/user/umask",
            0o1022,
            "/process/user/umask: only the lower nine bits of 530 (0o1022) have an effect; write the octal",
        ),
        (
            "/hooks",
            {"poststop": [{"path": "/x", "env": ["FOO"]}]},
            "/hooks/poststop/0/env/0: is not NAME=value; write it as NAME=value",
        ),
        ("/mounts/-", {"destination": "data"}, "/mounts/1/destination: is relative (data)"),
        (
            "/linux/personality",
            {"domain": "LINUX", "flags": ["X"]},
            "/linux/personality/flags: has no effect",
        ),
        ("/windows", {}, "/windows: is for Windows, not for this platform (Linux), and has no effect"),
        ("/vm", {}, "/vm: is for virtual machines, not for this platform"),
        ("/linux/rootPropagation", "shared", "not known and has no effect; did you mean rootfsPropagation?"),
        ("/Process", {}, "/Process: is not known and has no effect; did you mean process?"),
        ("/seccomp", {}, "/seccomp: is not known and has no effect; did you mean /linux/seccomp?"),
        ("/mounts/-", {"destination": "/x", "dest": "/x"}, "/mounts/1/dest: is not known"),
        ("/xyzzy", 1, "/xyzzy: is not known and has no effect"),
    ],
)
def test_a_warning_does_not_refuse(pointer: str, value: object, said: str) -> None:
    problems = require(changed(pointer, value))
    assert len(problems) == 1, problems
    assert problems[0].warning
    assert said in str(problems[0])


@pytest.mark.parametrize("name", ["$schema", "_comment", "#", "x-origin", "com.example.note"])
def test_notes_are_no_unknown_members(name: str) -> None:
    assert check(changed("/" + name, "anything")) == []


@pytest.mark.parametrize(
    "version",
    ["1.0.0", "1.0.0-rc5", "1.0.0-rc2-dev", "1.0.2-dev", "1.2.1+build.5", "1.3.0", "1.99.0", "1.0.0-rc.1+x"],
)
def test_every_version_1_is_accepted(version: str) -> None:
    assert check(changed("/ociVersion", version)) == []


@pytest.mark.parametrize(
    "version",
    ["", "1", "1.0", "1.0.0.0", "01.0.0", "1.00.0", "1.0.0-", "1.0.0-é", "0.9.0", "v1.0.0", "1.0.0\n"],
)
def test_other_versions_are_refused(version: str) -> None:
    assert [problem.pointer for problem in check(changed("/ociVersion", version))] == ["/ociVersion"]


@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        ("ipc", "kernel.sem"),
        ("ipc", "fs/mqueue/msg_max"),
        ("network", "net.core.somaxconn"),
        ("network", "net/ipv4/conf/eth0.1/forwarding"),
        ("uts", "kernel.domainname"),
        ("user", "user.max_inotify_watches"),
    ],
)
def test_a_sysctl_of_an_own_namespace_is_accepted(namespace: str, name: str) -> None:
    config = changed("/linux/sysctl", {name: "1"})
    if namespace != "uts":
        config["linux"]["namespaces"].append({"type": namespace})
    assert check(config) == []


@pytest.mark.parametrize("name", ["net/../kernel/core_pattern", "net.", "net./../../x", "fs.mqueue./../../x"])
def test_a_sysctl_that_climbs_out_is_refused(name: str) -> None:
    config = changed("/linux/sysctl", {name: "1"})
    config["linux"]["namespaces"] += [{"type": "network"}, {"type": "ipc"}]
    assert [problem.pointer for problem in check(config)] == ["/linux/sysctl/" + name.replace("/", "~1")]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a:b", "a b", "a" * 16])
def test_a_network_device_needs_a_name_that_the_kernel_takes(name: str) -> None:
    config = changed("/linux/netDevices", {name: {}, "eth0": {"name": name or "x y"}})
    config["linux"]["namespaces"].append({"type": "network"})
    problems = [problem.pointer for problem in check(config)]
    assert "/linux/netDevices/" + name.replace("/", "~1") in problems
    assert "/linux/netDevices/eth0/name" in problems


def test_two_network_devices_cannot_get_one_name() -> None:
    config = changed("/linux/netDevices", {"eth0": {"name": "eth9"}, "eth9": {}})
    config["linux"]["namespaces"].append({"type": "network"})
    assert [str(problem) for problem in check(config)] == [
        "/linux/netDevices/eth9: would be called eth9 inside, as eth0"
    ]


def test_offsets_of_a_time_namespace() -> None:
    config = changed("/linux/timeOffsets", {"monotonic": {"secs": -5}, "boottime": {"nanosecs": 5}})
    config["linux"]["namespaces"].append({"type": "time"})
    assert check(config) == []
    config["linux"]["timeOffsets"] = {"realtime": {}, "boottime": {"nanosecs": 10**9}}
    assert [problem.pointer for problem in check(config)] == [
        "/linux/timeOffsets/realtime",
        "/linux/timeOffsets/boottime/nanosecs",
    ]
    config["linux"]["timeOffsets"] = {"monotonic": {"secs": 1}}
    config["linux"]["namespaces"][-1]["path"] = "/proc/1/ns/time"
    assert ["joined" in str(problem) for problem in check(config)] == [True]


def test_the_size_of_a_terminal_that_is_not_there_does_not_matter() -> None:
    config = changed("/process/consoleSize", {"height": 70_000, "width": 80})
    assert check(config) == []
    config["process"]["terminal"] = True
    assert [problem.pointer for problem in check(config)] == ["/process/consoleSize/height"]


def test_the_process_may_be_missing_at_create() -> None:
    assert check(changed("/process", REMOVE)) == []
    assert check(changed("/process/args", REMOVE)) == []


def test_every_problem_is_found_at_once() -> None:
    config = changed("/process/args", "sh")
    config["mounts"] += [7, {"destination": "tmp"}, {"options": ["x", 5]}]
    config["linux"]["namespaces"] += [{"type": "pid"}, False, {"type": "uts"}]
    config["linux"]["sysctl"] = {"vm.x": "1", "net.x": 1}
    config["extra"] = {}
    assert [(problem.pointer, problem.warning) for problem in check(config)] == [
        ("/process/args", False),
        ("/mounts/1", False),
        ("/mounts/3/destination", False),
        ("/mounts/3/options/1", False),
        ("/linux/namespaces/4", False),
        ("/linux/sysctl/net.x", False),
        ("/linux/namespaces/3", False),
        ("/linux/namespaces/5", False),
        ("/linux/sysctl/vm.x", False),
        ("/mounts/2/destination", True),
        ("/extra", True),
    ]


def test_one_error_speaks_of_all_problems_on_one_line() -> None:
    config = changed("/process/args", "sh")
    config["process"]["cwd"] = "x\ny"
    del config["mounts"][0]["destination"]
    with pytest.raises(ConfigError) as caught:
        require(config)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("config.json: /process/cwd: must be an absolute path")
    assert " (and 2 more: /process/args: must be an array of strings" in line
    assert line.endswith("; /mounts/0/destination: is required and missing)")


def test_the_line_has_an_end() -> None:
    with pytest.raises(ConfigError, match=r"and 999 more: .*…\)$") as caught:
        require(changed("/process/args", [0] * 1000))
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("config", [None, [], "x", 7, True])
def test_what_is_no_object_is_refused(config: object) -> None:
    with pytest.raises(ConfigError, match=r"^config\.json: must be an object, is"):
        require(config)


def test_a_process_alone() -> None:
    assert check_process({"cwd": "/", "args": ["sh"]}) == []
    with pytest.raises(ConfigError, match=re.escape("p.json: /rlimits/0: the soft limit of RLIMIT_CORE (2) is")):
        without_errors(
            check_process({"cwd": "/", "rlimits": [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]}), "p.json"
        )
    assert [str(problem) for problem in check_process({"cwd": "/", "arg": []})] == [
        "/arg: is not known and has no effect; did you mean args?"
    ]


def test_resources_alone() -> None:
    assert check_resources({"pids": {"limit": 5}, "unified": {"memory.high": "5"}}) == []
    assert [problem.pointer for problem in check_resources({"pids": 5, "rdma": {"x": {}}})] == [
        "/pids",
        "/rdma/x",
    ]


def test_the_config_is_left_as_it_is() -> None:
    config = changed("/process/args", ["sh", 5])
    before = copy.deepcopy(config)
    check(config)
    assert config == before


def test_a_good_config_costs_no_slow_import() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pyruntime.spec import check, load;"
        f"check.require(load.load_object({str(CONFIGS[0])!r}));"
        "sys.exit(' '.join({'json', 're', 'enum', 'typing'} & set(sys.modules)) or"
        " 'pyruntime.spec.problem' in sys.modules)"
    )
    run = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("hooks", [True, [True], [{"env": [1]}]])
def test_an_unknown_kind_of_hooks_may_hold_anything(hooks: object) -> None:
    problems = check(changed("/hooks", {"createSomething": hooks}))
    assert [problem.warning for problem in problems] == [True]


def test_an_unknown_set_of_capabilities_may_hold_anything() -> None:
    """It has no effect; a rule once took its items for names."""
    problems = check(changed("/process/capabilities", {"bouncing": [{}], "bounding": ["CAP_KILL"]}))
    assert [problem.warning for problem in problems] == [True]
