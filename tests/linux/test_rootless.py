"""An ordinary user runs containers: with one id or with ranges of subordinate ids, with a delegated cgroup and without.
What cannot work says why.

Run as root, the tests become a user that exists only in this process's mount namespace; run as an ordinary user, as in
`make test-vm`, they are that user, and systemd has delegated the cgroup they are in."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support import config as configs
from support import kernel, leaks, ordinary, proc
from support.bundle import make_base
from support.ordinary import UID
from support.runtime import ENVIRONMENT, TIMEOUT, Executable, Result, Runtime

pytestmark = [pytest.mark.ours, pytest.mark.rootless]

MIB = 1 << 20
_numbers = count(1)


class User:
    """Runs pyruntime as the user, with its state where it is without --root: below XDG_RUNTIME_DIR."""

    def __init__(self, runtime: Runtime, uid: int, subordinate: tuple[int, int] | None, env: Mapping[str, str]) -> None:
        self.runtime = runtime
        self.uid = uid
        self.subordinate = subordinate
        self.env = env
        self.wrap: list[str] = []
        if os.geteuid() == 0:
            self.wrap = ordinary.BECOME

    def run(self, *args: str | os.PathLike[str], **options: Any) -> Result:
        return self.runtime.run(*args, **({"root": False, "env": self.env, "wrap": self.wrap} | options))

    @property
    def records(self) -> Path:
        return Path(self.env["XDG_RUNTIME_DIR"]) / "pyruntime"


class Box:
    """A container of the user, made from what `spec --rootless` writes."""

    def __init__(self, user: User, base: Path, args: list[str]) -> None:
        self.user = user
        self.id = f"{leaks.PREFIX}-{next(_numbers)}"
        self.path = user.runtime.folder / self.id
        self.path.mkdir()
        shutil.copytree(base, self.path / "rootfs", symlinks=True)
        if os.geteuid() == 0:
            for folder, _, names in os.walk(self.path):
                for name in (".", *names):
                    os.chown(f"{folder}/{name}", user.uid, user.uid, follow_symlinks=False)
        user.run("spec", "--rootless", "--bundle", self.path)
        self.config: dict[str, Any] = json.loads((self.path / "config.json").read_text())
        self.config["process"] |= {"terminal": False, "args": args}
        self.config["root"]["readonly"] = False
        self.linux: dict[str, Any] = self.config["linux"]

    def map_ranges(self) -> None:
        """Map the user's own id to root, and its subordinate ids to 1 and up. Skips where it has none."""
        if self.user.subordinate is None:
            pytest.skip("the user has no subordinate ids, or newuidmap (package uidmap) is not there")
        first, size = self.user.subordinate
        for field in ("uidMappings", "gidMappings"):
            self.linux[field].append({"containerID": 1, "hostID": first, "size": size})

    def do(self, verb: str, *flags: str, **options: Any) -> Result:
        """A command for this container; `run` and `create` have the bundle given."""
        if verb in ("run", "create"):
            (self.path / "config.json").write_text(json.dumps(self.config))
            flags = ("--bundle", str(self.path), *flags)
        return self.user.run(verb, *flags, self.id, **options)

    def start(self) -> int:
        """Run it detached; init's pid."""
        self.do("run", "--detach")
        return int(json.loads(self.do("state").stdout)["pid"])

    def exec(self, *words: str, flags: tuple[str, ...] = (), **options: Any) -> Result:
        return self.user.run("exec", *flags, self.id, *words, **options)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that the user can pass through."""
    path = Path(tempfile.mkdtemp(prefix=leaks.PREFIX, dir="/tmp"))
    path.chmod(0o755)
    yield path
    leaks.remove_tree(path)


@pytest.fixture(scope="module")
def base(place: Path) -> Path:
    return make_base(place / "base")


@pytest.fixture(scope="module")
def granted(request: pytest.FixtureRequest, place: Path) -> Iterator[tuple[int, int] | None]:
    """The user's subordinate ids: (first, how many). For a user of our own, files over those of /etc, which only this
    mount namespace sees."""
    kernel.become_subreaper()
    if os.geteuid() != 0:
        helpers = all(shutil.which(name) for name in ("newuidmap", "newgidmap"))
        name = pwd.getpwuid(os.geteuid()).pw_name
        lines = [line.split(":") for line in Path("/etc/subuid").read_text().splitlines()]
        found = [(int(first), int(size)) for who, first, size in lines if who == name]
        yield found[0] if found and helpers else None
        return
    request.getfixturevalue("machine")
    covered = ordinary.cover(place)
    yield ordinary.RANGE if ordinary.has_ranges(covered) else None
    ordinary.uncover(covered)


@pytest.fixture
def user(executable: Executable, place: Path, granted: tuple[int, int] | None) -> Iterator[User]:
    """The user; afterwards its containers are deleted, and what is left behind is an error."""
    uid = os.geteuid() or UID
    folder = place / f"run{next(_numbers)}"
    folder.mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(folder, uid, uid)
    directory = folder / "xdg"
    directory.mkdir(mode=0o700)
    env = ENVIRONMENT | {"XDG_RUNTIME_DIR": str(directory)}
    runtime = Runtime(executable, folder)
    if os.geteuid() == 0:
        os.chown(directory, uid, uid)
    made = User(runtime, uid, granted, env)
    children = set(proc.children())
    yield made
    for command in runtime.commands:
        command.stop()
    for record in sorted(made.records.glob(f"{leaks.PREFIX}*")):
        made.run("delete", "--force", record.name, check=None)
    left = leaks.processes(children) + leaks.state_records(made.records)
    left += [f"cgroup {path}" for path in leaks.cgroups() if not path.endswith("-delegated")]
    # A container may have written files that belong to its subordinate ids: only it can remove them.
    assert not left, f"left behind: {left}"


@pytest.fixture
def box(user: User, base: Path) -> Callable[..., Box]:
    def make(*args: str, sh: str | None = None) -> Box:
        return Box(user, base, ["/bin/sh", "-c", sh] if sh is not None else list(args) or ["sleep", "1000"])

    return make


def delegated() -> tuple[str, dict[str, Path]]:
    """A cgroupsPath that the user may use, and where its controllers are: systemd's, or one made for the tests."""
    own = proc.cgroups(proc.read("self", "cgroup"))
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        if os.geteuid() == 0:
            pytest.skip("systemd delegates to the user's own processes only: `make test-vm` runs this as the user")
        top = Path("/sys/fs/cgroup") / own[""].lstrip("/")
        if not os.access(top.parent / "cgroup.procs", os.W_OK):
            pytest.skip(f"no cgroup is delegated to this user: {top.parent} is not writable")
        path = f"{os.path.dirname(own[''])}/{leaks.PREFIX}-{next(_numbers)}"
        return path, dict.fromkeys(("memory", "pids", "cpu"), Path("/sys/fs/cgroup") / path.lstrip("/"))
    pids = Path("/sys/fs/cgroup/pids")
    if os.geteuid() != 0 or not pids.is_dir():
        pytest.skip("only root can delegate a cgroup, and there is no hierarchy with pids to do it in")
    parent = f"/{leaks.PREFIX}-delegated"
    (pids / parent.lstrip("/")).mkdir(exist_ok=True)
    os.chown(pids / parent.lstrip("/"), UID, UID)
    return f"{parent}/box", {"pids": pids / parent.lstrip("/") / "box"}


@pytest.fixture
def delegation() -> Iterator[tuple[str, dict[str, Path]]]:
    found = delegated()
    yield found  # asked for before `box`, so that containers are gone when the test's cgroup goes
    if os.geteuid() == 0:
        os.rmdir(found[1]["pids"].parent)


def test_run_with_one_id(box) -> None:
    one = box(sh="id -u; id -g; tr -s ' ' </proc/self/uid_map; cat /proc/self/setgroups; echo x >/tmp/file")
    lines = one.do("run").stdout.splitlines()
    assert lines == ["0", "0", f" 0 {one.user.uid} 1", "deny"]
    assert (one.path / "rootfs/tmp/file").stat().st_uid == one.user.uid


def test_commands_of_a_life(box) -> None:
    one = box("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 1; done")
    one.do("create")
    assert [path.name for path in one.user.records.glob("pyrt*")] == [one.id]
    assert json.loads(one.do("state").stdout)["status"] == "created"
    one.do("start")
    state = json.loads(one.do("state").stdout)
    assert state["status"] == "running"
    assert proc.parse_status(proc.read(state["pid"], "status"))["Uid"].split()[0] == str(one.user.uid)
    assert one.id in one.user.run("list", "--quiet").stdout
    one.do("kill")
    proc.wait_until(lambda: json.loads(one.do("state").stdout)["status"] == "stopped", "it stops")
    one.do("delete")
    assert one.do("state", check=1).stderr


def test_exec_with_one_id(box) -> None:
    one = box()
    pid = one.start()
    result = one.exec("sh", "-c", "id -u; echo $$; readlink /proc/self/ns/user; exit 3", check=3)
    uid, own, namespace = result.stdout.split()
    assert uid == "0" and int(own) > 1
    assert namespace == proc.namespace(pid, "user") != proc.namespace("self", "user")


def test_mounts_of_a_running_container(box) -> None:
    one = box()
    pid = one.start()
    source = one.path / "volume"
    source.mkdir()
    (source / "word").write_text("hello\n")
    source.chmod(0o755)
    specs = [
        f"type=bind,source={source},destination=/place,options=rbind:ro",
        "type=tmpfs,source=tmpfs,destination=/new",
    ]
    one.do("mounts", "add", *(word for spec in specs for word in ("--mount", spec)))
    assert one.exec("cat", "/place/word").stdout == "hello\n"
    assert one.exec("touch", "/new/file").stdout == ""
    assert "ead-only" in one.exec("touch", "/place/file", check=None).stderr
    one.do("update", "--mask", "/proc/uptime")
    assert one.exec("cat", "/proc/uptime").stdout == ""
    one.do("mounts", "remove", "--destination", "/place", "--destination", "/new")
    assert not {"/place", "/new"} & {mount.target for mount in proc.parse_mountinfo(proc.read(pid, "mountinfo"))}


def test_run_with_ranges(box) -> None:
    one = box(sh="tr -s ' ' </proc/self/uid_map; chown 1000:1000 /tmp; stat -c %u:%g /tmp; id -G")
    one.map_ranges()
    one.config["process"]["user"]["additionalGids"] = [5, 6]
    for kind in ("bounding", "effective", "permitted"):
        one.config["process"]["capabilities"][kind].append("CAP_CHOWN")
    first, size = one.user.subordinate
    lines = one.do("run").stdout.splitlines()
    assert lines == [f" 0 {one.user.uid} 1", f" 1 {first} {size}", "1000:1000", "0 5 6"]
    assert (one.path / "rootfs/tmp").stat().st_uid == first + 999


def test_exec_as_somebody_with_ranges(box) -> None:
    one = box()
    one.map_ranges()
    one.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    pid = one.start()
    assert proc.parse_status(proc.read(pid, "status"))["Uid"].split()[0] == str(one.user.subordinate[0] + 999)
    assert one.exec("id", "-u").stdout.strip() == "1000"
    assert one.exec("sh", "-c", "id -u; id -g", flags=("--user", "0:7")).stdout.split() == ["0", "7"]
    one.do("kill", "--all", check=None)
    one.do("delete", "--force")


@pytest.mark.parametrize("field", ["uidMappings", "gidMappings"])
def test_ids_that_are_not_granted(box, field: str) -> None:
    one = box()
    one.map_ranges()
    one.linux[field][1]["hostID"] = 1 << 20
    file = "/etc/subuid" if field == "uidMappings" else "/etc/subgid"
    message = one.do("run", check=1).stderr
    assert f"/linux/{field}" in message and file in message and f"user {one.user.uid}" in message
    # newuidmap's own words are in the line, not before it.
    lines = [line for line in message.splitlines() if "level=warning" not in line]
    assert len(lines) == 1 and "not allowed" in lines[0], message


def test_groups_with_one_id(box) -> None:
    """user_namespaces(7): whose only id was mapped without privilege may not call setgroups(2)."""
    one = box("id", "-G")
    one.config["process"]["user"]["additionalGids"] = [5]
    result = one.do("run")
    assert result.stdout.split()[0] == "0" and "5" not in result.stdout.split()
    assert "additionalGids" in result.stderr and "setgroups" in result.stderr


def test_user_that_is_not_mapped(box) -> None:
    one = box()
    one.config["process"]["user"]["uid"] = 5
    message = one.do("run", check=1).stderr
    assert "linux.uidMappings does not cover it" in message


def test_no_user_namespace(box) -> None:
    one = box()
    configs.drop_namespace(one.config, "user")
    del one.linux["uidMappings"], one.linux["gidMappings"]
    message = one.do("run", check=1).stderr
    assert "only inside a user namespace" in message and "linux.namespaces" in message


def test_private_network(box) -> None:
    one = box(sh="ls /sys/class/net; mount | grep -c ' /sys type sysfs'")
    configs.set_namespace(one.config, "network")
    one.config["mounts"] = [mount for mount in one.config["mounts"] if mount["destination"] != "/sys"]
    one.config["mounts"].append(configs.SYSFS)
    assert one.do("run").stdout.split() == ["lo", "1"]


def test_sysfs_without_a_network_namespace(box) -> None:
    """mount(2): sysfs belongs to the network namespace; runc has it bound from the host."""
    one = box(sh="test -d /sys/class/net && grep ' /sys ' /proc/mounts | head -1")
    one.config["mounts"] = [mount for mount in one.config["mounts"] if mount["destination"] != "/sys"]
    one.config["mounts"].append(configs.SYSFS)
    options = one.do("run").stdout.split()[3].split(",")
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options)


def test_no_limits_without_a_cgroup(box) -> None:
    one = box(sh="echo alive")
    one.linux["cgroupsPath"] = f"/{leaks.PREFIX}-no"
    result = one.do("run")
    assert result.stdout.strip() == "alive"
    assert "no cgroup of the container's own" in result.stderr and "permission denied" in result.stderr.lower()
    one.linux["resources"] = {"pids": {"limit": 20}}
    message = one.do("run", check=1).stderr
    assert "/linux/resources/pids" in message and "delegated" in message


def test_update_and_pause_without_a_cgroup(box) -> None:
    one = box()
    one.linux["cgroupsPath"] = f"/{leaks.PREFIX}-no"
    one.start()
    for words in (("update", "--pids-limit", "5"), ("pause",), ("events", "--stats")):
        result = one.do(*words, check=None)
        if result.code:
            assert "cgroup" in result.stderr and "Traceback" not in result.stderr
        else:
            assert words[0] == "events"
    assert json.loads(one.do("state").stdout)["status"] == "running"


def test_limits_in_a_delegated_cgroup(delegation, box) -> None:
    path, folders = delegation
    one = box()
    one.linux["cgroupsPath"] = path
    one.linux["resources"] = {"pids": {"limit": 20}}
    if "memory" in folders:
        one.linux["resources"] |= {"memory": {"limit": 64 * MIB}, "cpu": {"shares": 512}}
    pid = one.start()
    assert (folders["pids"] / "pids.max").read_text().strip() == "20"
    assert str(pid) in (folders["pids"] / "cgroup.procs").read_text().split()
    if "memory" in folders:
        assert (folders["memory"] / "memory.max").read_text().strip() == str(64 * MIB)
    forks = one.exec("sh", "-c", "for i in $(seq 20); do sleep 9 & done; wait", check=2)
    assert "can't fork" in forks.stderr
    one.do("update", "--pids-limit", "30")
    assert (folders["pids"] / "pids.max").read_text().strip() == "30"
    one.do("delete", "--force")
    assert not folders["pids"].exists()


def test_pause_in_a_delegated_cgroup(delegation, box) -> None:
    path, folders = delegation
    if "memory" not in folders:
        pytest.skip("cgroup v1: the user has no freezer hierarchy here")
    one = box()
    one.linux["cgroupsPath"] = path
    one.start()
    one.do("pause")
    assert json.loads(one.do("state").stdout)["status"] == "paused"
    one.do("resume")
    assert json.loads(one.do("state").stdout)["status"] == "running"
    one.do("delete", "--force")


def test_score_lower_than_allowed_is_a_warning(box) -> None:
    one = box(sh="cat /proc/self/oom_score_adj")
    one.config["process"]["oomScoreAdj"] = -900
    result = one.do("run")
    assert int(result.stdout) > -900
    assert "oom" in result.stderr.lower()


def test_device_nodes_are_bound(box) -> None:
    one = box(sh="echo thrown >/dev/null; head -c 4 /dev/zero | wc -c; cat /proc/mounts | grep -c '/dev/null'")
    assert one.do("run").stdout.split() == ["4", "1"]


def test_device_of_the_container(box) -> None:
    one = box(sh="test -c /dev/rand && head -c 3 /dev/rand | wc -c")
    one.linux["devices"] = [{"path": "/dev/rand", "type": "c", "major": 1, "minor": 9, "fileMode": 0o666}]
    result = one.do("run", check=None)
    assert result.stdout.strip() == "3" if result.code == 0 else "/linux/devices/0" in result.stderr


def test_no_place_for_the_state(user: User) -> None:
    message = user.run("list", check=1, env=ENVIRONMENT).stderr
    assert "XDG_RUNTIME_DIR" in message and "--root" in message


def test_root_of_another_user(user: User) -> None:
    """A --root that the user may not write to is named."""
    other = "/root/pyruntime-test" if os.geteuid() else "/run/pyruntime-test"
    message = user.run("--root", other, "state", "nobody", check=1).stderr
    assert other in message or "does not exist" in message


def test_container_of_somebody_else(user: User, box) -> None:
    """State below a directory of 0700: another user sees nothing of it, and is told so."""
    one = box()
    one.start()
    if os.geteuid():
        assert user.records.stat().st_mode & 0o077 == 0
        return
    stranger = ["setpriv", "--reuid", str(UID + 1), "--regid", str(UID + 1), "--clear-groups", "--"]
    message = user.run("kill", one.id, check=1, wrap=stranger, timeout=TIMEOUT).stderr
    assert "permission denied" in message.lower() or "does not exist" in message
    assert json.loads(one.do("state").stdout)["status"] == "running"


@pytest.mark.parametrize("kinds", [["pid"], ["ipc", "uts", "pid"]], ids=",".join)
def test_a_user_namespace_and_what_it_owns_joined_by_path(box, kinds) -> None:
    """Only in the user namespace is there a right to join the others: as the containers of a pod do."""
    first = box("/bin/sleep", "100")
    pid = first.start()
    second = box("/bin/sleep", "100")
    for entry in second.linux["namespaces"]:
        if entry["type"] in ("user", *kinds):
            entry["path"] = f"/proc/{pid}/ns/{entry['type']}"
    if "uts" in kinds:
        del second.config["hostname"]
    joined = second.start()
    for kind in ("user", *kinds):
        assert proc.namespace(joined, kind) == proc.namespace(pid, kind)
    second.do("delete", "--force")


def test_proc_in_a_joined_pid_namespace(box):
    """A pod of an ordinary user: the right to join the pid namespace comes with the user namespace."""
    pid = box().start()
    second = box(sh="ls -d /proc/[0-9]*; echo /proc/$$; cat /proc/1/comm")
    second.linux["uidMappings"] = second.linux["gidMappings"] = []
    for kind in ("user", "pid"):
        configs.set_namespace(second.config, kind, f"/proc/{pid}/ns/{kind}")
    output = second.do("run").stdout.split()
    assert output[0] == "/proc/1" and output[1] == output[2] and output[3:] == ["sleep"]


def test_a_source_that_the_user_may_not_reach(box, place: Path) -> None:
    """Neither init nor its parent has a right to it, and the error is the usual one."""
    one = box("true")
    source = "/root" if os.geteuid() else place / "closed/volume"
    if not os.geteuid():
        Path(source).mkdir(parents=True)
        Path(source).parent.chmod(0o700)
    one.config["mounts"].append(
        {"destination": "/data", "type": "bind", "source": f"{source}/.", "options": ["rbind", "ro"]}
    )
    result = one.do("run", check=1)
    assert "/mounts/" in result.stderr
    assert "permission denied (EACCES)" in result.stderr
    assert "permission to search a directory above the source is denied" in result.stderr
