"""audit: what has drifted is found, what has not is not, in real containers of ours, of runc and of crun."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import others

pytestmark = pytest.mark.ours

KINDS = ("ours", "runc", "crun")
DRIFT = 2


def sink(config: dict[str, Any], shared: Path) -> None:
    """A config with something of everything that all three runtimes take."""
    config["root"]["readonly"] = True
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    config["process"]["oomScoreAdj"] = 500
    config["process"]["user"]["additionalGids"] = [5, 6]
    config["mounts"] += [
        {
            "destination": "/tmp",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "noexec", "mode=0700", "size=1m"],
        },
        {"destination": "/mnt", "type": "bind", "source": str(shared), "options": ["rbind", "ro", "nodev"]},
    ]
    linux = config["linux"]
    linux["maskedPaths"] = ["/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/nothing"]
    linux["readonlyPaths"] = ["/proc/sys", "/proc/bus", "/proc/nothing"]
    linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "80", "kernel.msgmax": "9000"}
    linux["resources"] = {
        "pids": {"limit": 50},
        "memory": {"limit": 64 << 20},
        "cpu": {"shares": 512},
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        ],
    }
    fuse = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 0, "gid": 0}
    linux["devices"] = [fuse]
    linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}],
    }


class Box:
    """A running container, of whichever runtime, that can be audited and bent."""

    def __init__(self, pid: int, bundle: Any, runtime: Any, cgroups: dict[str, Path]) -> None:
        self.pid = pid
        self.bundle = bundle
        self.runtime = runtime
        self.cgroups = cgroups

    def audit(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(field, what) -> finding; by pid and bundle."""
        result = self.runtime.run(
            "audit", "--pid", str(self.pid), "--bundle", str(self.bundle.path), "--format", "json", check=None
        )
        assert result.code in (0, DRIFT), result
        told = json.loads(result.stdout)
        drifts = [one for one in told["findings"] if one["verdict"] == "drifted"]
        assert result.code == (DRIFT if drifts else 0)
        assert told["summary"]["drifted"] == len(drifts)
        return {(one["field"], one["what"]): one for one in told["findings"]}

    def audit_drift(self) -> Any:
        """The whole answer with --drift."""
        words = ["audit", "--drift", "--pid", str(self.pid), "--bundle", str(self.bundle.path), "--format", "json"]
        return json.loads(self.runtime.run(*words, check=None).stdout)

    def drifts(self) -> list[dict[str, Any]]:
        return [one for one in self.audit().values() if one["verdict"] == "drifted"]

    def fields(self) -> list[str]:
        return [one["field"] for one in self.drifts()]

    def enter(self, *command: str, ns: str = "-m", root: bool = True) -> None:
        """Run a command of the host's rights in the container's namespaces; of its busybox with root."""
        flags = [ns, "-r", "-w"] if root else [ns]
        subprocess.run(["nsenter", "-t", str(self.pid), *flags, "--", *command], check=True, timeout=10)


UNIFIED = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
only_v1 = pytest.mark.skipif(UNIFIED, reason="of cgroup v2 the kernel does not show it")


def hierarchies(pid: int) -> dict[str, Path]:
    """Controller -> the cgroup that a process is in."""
    found = {}
    if UNIFIED:
        place = Path("/sys/fs/cgroup" + Path(f"/proc/{pid}/cgroup").read_text().strip().partition("::")[2])
        return dict.fromkeys(("pids", "memory"), place)
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            if name and not name.startswith("name="):
                found[name] = Path(f"/sys/fs/cgroup/{name}{path}")
    return found


@pytest.fixture(params=KINDS)
def box(request: pytest.FixtureRequest, container: Any, tmp_path: Path) -> Iterator[Box]:
    """A container with something of everything, of each runtime."""
    kind = request.param
    if kind != "ours" and not others.installed(kind):
        pytest.skip(f"{kind} is not installed")
    made = container(["/bin/sleep", "1000"])
    shared = tmp_path / "shared"
    shared.mkdir()
    sink(made.config, shared)
    if kind == "ours":
        made.create()
        made.start()
        yield Box(made.pid, made.bundle, made.runtime, hierarchies(made.pid))
        return
    other = others.Other(kind, made.bundle, made.id, made.runtime.folder / "other")
    try:
        yield Box(other.pid, made.bundle, made.runtime, hierarchies(other.pid))
    finally:
        other.end()


def test_nothing_has_drifted(box: Box) -> None:
    found = box.audit()
    assert [one for one in found.values() if one["verdict"] == "drifted"] == []
    unseen = {field for (field, _), one in found.items() if one["verdict"] == "cannot see"}
    assert unseen <= {"/process/env", "/process/args"} | ({"/linux/resources/devices"} if UNIFIED else set())
    assert len(found) > 50
    # The things that matter were looked at, and not passed over.
    for field in (
        "/linux/maskedPaths/0",
        "/linux/readonlyPaths/0",
        "/linux/seccomp",
        "/process/noNewPrivileges",
        "/process/rlimits/0",
        "/process/oomScoreAdj",
        "/linux/sysctl/kernel.msgmax",
        "/linux/resources/pids/limit",
        "/linux/resources/devices",
        "/linux/cgroupsPath",
        "/root/path",
        "/root/readonly",
        "/linux/devices/0",
    ):
        assert any(one == field for one, _ in found), field


def test_a_mask_that_is_taken_away(box: Box) -> None:
    box.enter("/bin/umount", "/proc/keys")
    box.enter("/bin/umount", "/sys/firmware")
    assert box.fields() == ["/linux/maskedPaths/0", "/linux/maskedPaths/2"]


def test_a_fresh_proc_over_all_masks(box: Box) -> None:
    """The masks are in mountinfo all the same."""
    box.enter("/bin/mount", "-t", "proc", "none", "/proc")
    fields = box.fields()
    assert {"/linux/maskedPaths/0", "/linux/maskedPaths/1", "/linux/readonlyPaths/0"} <= set(fields)
    assert "/linux/maskedPaths/2" not in fields  # that of /sys
    assert "/linux/maskedPaths/3" not in fields  # there is no such file


def test_a_mask_that_is_another_file(box: Box) -> None:
    box.enter("/bin/umount", "/proc/keys")
    box.enter("/bin/mount", "-o", "bind", "/proc/uptime", "/proc/keys")
    assert box.fields() == ["/linux/maskedPaths/0"]


def test_what_was_read_only_is_writable(box: Box) -> None:
    box.enter("/bin/mount", "-o", "remount,rw,bind", "none", "/proc/sys")
    box.enter("/bin/mount", "-o", "remount,rw,bind", "none", "/")
    box.enter("/bin/mount", "-o", "remount,rw,bind", "none", "/mnt")
    last = len(box.bundle.config["mounts"]) - 1
    assert box.fields() == [f"/mounts/{last}", "/linux/readonlyPaths/0", "/root/readonly"]


def test_options_of_a_mount(box: Box) -> None:
    index = len(box.bundle.config["mounts"]) - 2
    box.enter("/bin/mount", "-o", "remount,nosuid,size=2m", "none", "/tmp")
    [found] = box.drifts()
    shown = box.audit_drift()
    assert [one["verdict"] for one in shown["findings"]] == ["drifted"]
    assert shown["summary"]["as_asked"] > 10 and shown["summary"]["drifted"] == 1
    assert found["field"] == f"/mounts/{index}"
    assert found["asked"] == "noexec, size=1m"
    assert "size=2048k" in found["found"]
    box.enter("/bin/umount", "/tmp")
    [found] = box.drifts()
    assert (found["field"], found["found"]) == (f"/mounts/{index}", "nothing is mounted on /tmp")


def test_another_directory_in_place_of_a_bind(box: Box, tmp_path: Path) -> None:
    (tmp_path / "shared").rename(tmp_path / "away")
    (tmp_path / "shared").mkdir()
    [found] = box.drifts()
    assert found["field"] == f"/mounts/{len(box.bundle.config['mounts']) - 1}"
    assert "another file" in found["note"]


def test_a_mount_that_nobody_asked_for(box: Box) -> None:
    box.enter("/bin/mount", "-t", "tmpfs", "none", "/home")
    [found] = box.drifts()
    assert (found["field"], found["what"]) == ("/mounts", "a mount on /home")


def test_limits_of_the_cgroup(box: Box) -> None:
    (box.cgroups["pids"] / "pids.max").write_text("1000")
    (box.cgroups["memory"] / ("memory.max" if UNIFIED else "memory.limit_in_bytes")).write_text(str(128 << 20))
    found = {one["field"].removesuffix("/limit"): (one["asked"], one["found"]) for one in box.drifts()}
    assert found == {
        "/linux/resources/pids": ("50", "1000"),
        "/linux/resources/memory": (str(64 << 20), str(128 << 20)),
    }


@only_v1
def test_a_device_that_was_allowed_afterwards(box: Box) -> None:
    (box.cgroups["devices"] / "devices.allow").write_text("b 8:0 rwm")
    [found] = box.drifts()
    assert found["field"] == "/linux/resources/devices"
    assert found["found"] == "besides: b 8:0 mrw"


@only_v1
def test_devices_that_are_denied_cannot_be_seen(container: Any) -> None:
    """devices.list is `a *:* rwm`, whatever is denied after that."""
    made = container(["/bin/sleep", "1000"])
    denied = {"allow": False, "type": "b", "major": 8, "access": "rw"}
    made.config["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}, denied]}
    made.create()
    made.start()
    box = Box(made.pid, made.bundle, made.runtime, hierarchies(made.pid))
    [one] = [one for (field, _), one in box.audit().items() if "denied" in one["what"]]
    assert (one["verdict"], one["what"]) == ("cannot see", "denied are b 8:* rw")
    (box.cgroups["devices"] / "devices.deny").write_text("a")
    assert box.fields() == ["/linux/resources/devices"]


def test_another_cgroup(box: Box) -> None:
    file = "cgroup.procs" if UNIFIED else "tasks"
    (Path("/sys/fs/cgroup") / ("" if UNIFIED else "pids") / file).write_text(str(box.pid))
    assert "/linux/cgroupsPath" in box.fields()
    (box.cgroups["pids"] / file).write_text(str(box.pid))
    assert box.fields() == []


def test_limits_of_the_process(box: Box) -> None:
    resource.prlimit(box.pid, resource.RLIMIT_NOFILE, (50, 150))
    Path(f"/proc/{box.pid}/oom_score_adj").write_text("600")
    found = {one["field"]: (one["asked"], one["found"]) for one in box.drifts()}
    assert found == {
        "/process/rlimits/0": ("soft 100, hard 200", "soft 50, hard 150"),
        "/process/oomScoreAdj": ("500", "600"),
    }


def test_sysctls_and_names(box: Box) -> None:
    box.enter("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start", ns="-n", root=False)
    box.enter("sh", "-c", "echo 8000 > /proc/sys/kernel/msgmax", ns="-i", root=False)
    box.enter("hostname", "other", ns="-u", root=False)
    found = {one["field"]: (one["asked"], one["found"]) for one in box.drifts()}
    assert found == {
        "/linux/sysctl/net.ipv4.ip_unprivileged_port_start": ("80", "0"),
        "/linux/sysctl/kernel.msgmax": ("9000", "8000"),
        "/hostname": ("pyruntime", "other"),
    }


@pytest.mark.parametrize("what", ["another device", "a FIFO", "a link to it"])
def test_a_device_that_is_none(box: Box, what: str) -> None:
    box.enter("/bin/rm", "/dev/null")
    if what == "another device":
        box.enter("/bin/mknod", "/dev/null", "c", "1", "5")
    elif what == "a FIFO":
        box.enter("/bin/mkfifo", "/dev/null")
    else:
        box.enter("/bin/ln", "-s", "/dev/zero", "/dev/null")
    [found] = box.drifts()
    assert found["what"] == "/dev/null is the device c 1:3"
    assert found["found"] == {"another device": "c 1:5", "a FIFO": "p", "a link to it": "link"}[what]


def test_the_config_that_it_was_not_made_with(box: Box, tmp_path: Path) -> None:
    """Drift the other way about: what the process has is what it has, config.json asks for something else."""
    config = box.bundle.config
    process = config["process"]
    process["user"].update(uid=1000, gid=1000)
    process["capabilities"] = {name: ["CAP_KILL"] for name in process["capabilities"]}
    config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "ipc"]
    config["linux"]["namespaces"].append({"type": "cgroup"})
    del config["linux"]["sysctl"]
    config["root"]["path"] = str(tmp_path)
    config["linux"]["cgroupsPath"] += "-other"
    box.bundle.save()
    fields = set(box.fields())
    # crun gives the cgroup namespace only if asked, as all do.
    assert fields == {
        "/process/user/uid",
        "/process/user/gid",
        "/process/capabilities/bounding",
        "/process/capabilities/effective",
        "/process/capabilities/permitted",
        "/linux/namespaces",
        f"/linux/namespaces/{len(config['linux']['namespaces']) - 1}",
        "/root/path",
        "/linux/cgroupsPath",
    }


def test_what_is_asked_and_was_never_there(container: Any) -> None:
    box = container(["/bin/sleep", "1000"])
    box.process["noNewPrivileges"] = False
    box.create()
    box.start()
    box.process["noNewPrivileges"] = True
    box.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    box.bundle.save()
    found = Box(box.pid, box.bundle, box.runtime, {}).fields()
    assert sorted(found) == ["/linux/seccomp", "/process/noNewPrivileges"]


def test_a_root_that_only_its_engine_sees(container: Any, tmp_path: Path) -> None:
    """Rootless podman mounts in a mount namespace of its own; from outside there is an empty directory."""
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.config["root"]["path"] = str(tmp_path)
    box.bundle.save()
    told = Box(box.pid, box.bundle, box.runtime, {}).audit()
    [found] = [one for (field, _), one in told.items() if field == "/root/path"]
    assert (found["verdict"], "empty here" in found["note"]) == ("cannot see", True)
    (tmp_path / "file").touch()
    assert Box(box.pid, box.bundle, box.runtime, {}).fields() == ["/root/path"]


def test_by_id_against_the_config_it_was_created_with(container: Any) -> None:
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.config["hostname"] = "other"
    box.bundle.save()
    result = box.runtime.run("audit", box.id)
    assert "drifted" in result.stdout.splitlines()[-1]
    assert " 0 drifted" in result.stdout
    assert "\x1b" not in result.stdout
    box.runtime.run("audit", "--pid", str(box.pid), "--bundle", str(box.bundle.path), check=DRIFT)
    shown = box.runtime.run("audit", "--drift", "--pid", str(box.pid), "-b", str(box.bundle.path), check=DRIFT).stdout
    line = "drifted     /hostname  the hostname is other: asked other, found pyruntime"
    assert shown.splitlines()[0].startswith(line)
    assert len(shown.splitlines()) == 2


def test_an_update_is_no_drift(container: Any) -> None:
    box = container(["/bin/sleep", "1000"])
    box.config["linux"]["resources"] = {"pids": {"limit": 20}}
    box.create()
    box.runtime.run("update", "--pids-limit", "30", box.id)
    assert "pids.max = 30" in box.runtime.run("audit", box.id).stdout


def test_a_user_namespace(container: Any) -> None:
    box = container(["/bin/sleep", "1000"])
    linux = box.config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    box.process["user"] = {"uid": 7, "gid": 8, "additionalGids": [9]}
    box.bundle.chown(100000, 100000)
    box.create()
    box.start()
    result = box.runtime.run("audit", box.id)
    assert "uid 7 (here 100007)" in result.stdout
    linux["uidMappings"][0]["size"] = 1000
    box.bundle.save()
    found = Box(box.pid, box.bundle, box.runtime, {}).fields()
    assert "/linux/uidMappings" in found


def test_a_time_namespace(container: Any) -> None:
    box = container(["/bin/sleep", "1000"])
    box.config["ociVersion"] = "1.1.0"
    box.config["linux"]["namespaces"].append({"type": "time"})
    box.config["linux"]["timeOffsets"] = {"monotonic": {"secs": 100}, "boottime": {"secs": 7, "nanosecs": 5}}
    box.create()
    box.runtime.run("audit", box.id)
    box.config["linux"]["timeOffsets"]["monotonic"]["secs"] = 101
    box.bundle.save()
    assert Box(box.pid, box.bundle, box.runtime, {}).fields() == ["/linux/timeOffsets/monotonic"]


@pytest.mark.skipif(not os.path.exists("/sys/kernel/security/apparmor"), reason="needs AppArmor: see make test-vm")
def test_an_apparmor_profile(container: Any) -> None:
    box = container(["/bin/sleep", "1000"])
    box.process["apparmorProfile"] = "unconfined"
    box.create()
    box.start()
    box.runtime.run("audit", box.id)
    box.process["apparmorProfile"] = "other"
    box.bundle.save()
    [found] = Box(box.pid, box.bundle, box.runtime, {}).drifts()
    assert (found["field"], found["found"]) == ("/process/apparmorProfile", "unconfined")


def test_a_process_that_gives_up_rights_has_not_drifted(container: Any) -> None:
    """What a program does to itself is less than it may, never more."""
    box = container(["/bin/sleep", "1000"])
    box.process["capabilities"] = {name: ["CAP_KILL", "CAP_CHOWN"] for name in ("bounding", "effective", "permitted")}
    box.create()
    box.start()
    for name in ("bounding", "effective", "permitted"):
        box.process["capabilities"][name].append("CAP_SETGID")
    box.bundle.save()
    told = Box(box.pid, box.bundle, box.runtime, {}).audit()
    assert told["/process/capabilities/bounding", "bounding capabilities"]["verdict"] == "as asked"
    assert "without CAP_SETGID" in told["/process/capabilities/bounding", "bounding capabilities"]["note"]


# What the container may do to fool it, or to let it wait.


def test_a_filesystem_that_does_not_answer(container: Any, tmp_path: Path) -> None:
    box = container(["/bin/sleep", "1000"])
    box.config["linux"]["maskedPaths"] = ["/mnt/a/b", "/mnt/c", "/proc/keys"]
    box.config["linux"]["readonlyPaths"] = ["/mnt/d"]
    box.create()
    box.start()
    # A FUSE filesystem of which nobody serves the requests.
    code = (
        "import os, sys, ctypes, time\n"
        "fd = os.open('/dev/fuse', os.O_RDWR)\n"
        "os.setns(os.open(f'/proc/{sys.argv[1]}/ns/mnt', os.O_RDONLY), 0)\n"
        "data = f'fd={fd},rootmode=40000,user_id=0,group_id=0'.encode()\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "sys.exit(1) if libc.mount(b'none', b'/mnt', b'fuse', 0, data) else None\n"
        "print('mounted', flush=True)\n"
        "time.sleep(100)\n"
    ).replace("os.setns(os.open(f'/proc/{sys.argv[1]}/ns/mnt', os.O_RDONLY), 0)", _SETNS)
    fuse = subprocess.Popen(["/usr/bin/python3", "-c", code, str(box.pid)], stdout=subprocess.PIPE, text=True)
    try:
        assert fuse.stdout is not None
        assert fuse.stdout.readline() == "mounted\n"
        begin = time.monotonic()
        told = Box(box.pid, box.bundle, box.runtime, {}).audit()
        assert time.monotonic() - begin < 20
        masked = {field: one["verdict"] for (field, _), one in told.items() if field.startswith("/linux/masked")}
        assert masked["/linux/maskedPaths/0"] == "cannot see"
        assert any(field == "/mounts" and "/mnt" in what for field, what in told)
    finally:
        fuse.kill()
        fuse.wait()
        assert fuse.stdout is not None
        fuse.stdout.close()


_SETNS = "ctypes.CDLL(None).setns(os.open(f'/proc/{sys.argv[1]}/ns/mnt', os.O_RDONLY), 0)"


def test_links_lead_nowhere_else(container: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    box = container(["/bin/sleep", "1000"])
    (box.rootfs / "trap").symlink_to("/proc/1/root")
    (box.rootfs / "up").symlink_to("/../../../../../../../../" + str(secret)[1:])
    box.config["linux"]["maskedPaths"] = ["/up"]
    box.create()
    box.start()
    box.config["linux"]["maskedPaths"] = ["/trap/bin/busybox", "/up"]
    box.bundle.save()
    told = Box(box.pid, box.bundle, box.runtime, {}).audit()
    assert told["/linux/maskedPaths/0", "/trap/bin/busybox is masked"]["verdict"] == "cannot see"
    assert told["/linux/maskedPaths/1", "/up is masked"]["note"] == "there is no such file"


def test_names_move_no_cursor(container: Any) -> None:
    box = container(["/bin/sleep", "1000"])
    (box.rootfs / "a\x1b[2J b").mkdir()
    box.create()
    box.start()
    one = Box(box.pid, box.bundle, box.runtime, {})
    one.enter("/bin/mount", "-t", "tmpfs", "none", "/a\x1b[2J b")
    shown = box.runtime.run("audit", box.id, check=DRIFT).stdout
    assert "\x1b" not in shown
    assert "a mount on /a\\x1b[2J b" in shown


def test_a_container_that_ends_meanwhile(container: Any) -> None:
    """Whatever moment it is: an error that says so, never a finding of somebody else's process."""
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.start()
    threading.Timer(0.05, lambda: os.kill(box.pid, 9)).start()
    for _ in range(50):
        result = box.runtime.run("audit", "--pid", str(box.pid), "--bundle", str(box.bundle.path), check=None)
        if result.code:
            break
    assert result.code == 1
    assert "does not run" in result.stderr
    said = box.runtime.run("audit", box.id, check=1).stderr
    assert "not running" in said


@pytest.mark.parametrize(
    "words", [(), ("a", "b"), ("a", "--pid", "1"), ("--pid", "1"), ("--bundle", "/"), ("--format", "xml", "a")]
)
def test_usage(container: Any, words: tuple[str, ...]) -> None:
    box = container(["/bin/true"])
    assert "audit" in box.runtime.run("audit", *words, check=1).stderr


def test_mounts_as_they_are_read(container: Any, tmp_path: Path) -> None:
    """Words with commas, the rootfs in a destination, links that are copied, a path that is masked by two names."""
    made = container(["/bin/sleep", "1000"])
    (tmp_path / "shared").mkdir()
    (tmp_path / "link").symlink_to("somewhere")
    (made.rootfs / "secret").mkdir()
    shared = str(tmp_path / "shared")
    made.config["mounts"] += [
        {"destination": f"{made.rootfs}/data", "type": "none", "source": shared, "options": ["rbind,ro"]},
        {"destination": "/one", "type": "bind", "source": str(tmp_path / "link"), "options": ["bind", "copy-symlink"]},
    ]
    made.config["linux"]["maskedPaths"] = ["/secret", "/secret/", "/dev/null"]
    made.config["linux"]["readonlyPaths"] = ["/"]
    made.create()
    made.start()
    box = Box(made.pid, made.bundle, made.runtime, hierarchies(made.pid))
    assert box.drifts() == []
    assert any(one["verdict"] == "cannot see" and one["field"] == "/mounts/6" for one in box.audit().values())
    box.enter("/bin/mount", "-o", "remount,bind,rw", "none", "/")
    assert box.fields() == ["/linux/readonlyPaths/0"]
