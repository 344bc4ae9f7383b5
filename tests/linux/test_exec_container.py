"""exec: what the container means for one more process, and what that process means for the container's safety."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from support import leaks, proc
from support.config import drop_namespace, map_ids, set_namespace
from support.refusal import refused

SLEEP = ["/bin/sleep", "1000"]


@pytest.fixture
def box(container):
    """A running container; `box.shell(script)` runs a script in it by exec."""

    def make(change=None, start: bool = True):
        made = container(list(SLEEP))
        if change is not None:
            change(made.config)
        made.create()
        if start:
            made.start()
        made.shell = lambda script, *flags, **options: made.runtime.run(
            "exec", *flags, made.id, "/bin/sh", "-c", script, **options
        )
        return made

    return make


def test_it_is_in_the_containers_cgroups(box):
    one = box()
    assert proc.cgroups(one.shell("cat /proc/self/cgroup").stdout) == proc.cgroups(one.proc("cgroup"))


def test_a_child_of_the_process_is_in_them_too(box):
    one = box()
    found = one.shell("sh -c 'cat /proc/self/cgroup; true' & wait").stdout
    assert proc.cgroups(found) == proc.cgroups(one.proc("cgroup"))


def sub_cgroups(one, name: str) -> list[str]:
    """Make a cgroup of this name below each of the container's, as something in the container would."""
    path = one.config["linux"]["cgroupsPath"]
    made = [f"{top}{path}/{name}" for top in leaks.hierarchies() if os.path.isdir(top + path)]
    for folder in made:
        os.mkdir(folder)
        if "cpuset" in folder:
            for file in ("cpuset.cpus", "cpuset.mems"):
                Path(folder, file).write_text(Path(folder, "..", file).read_text())
    return made


def test_a_pause_is_for_sub_cgroups_too(box):
    """A process that is in one below the container's own is frozen as well."""
    one = box()
    made = sub_cgroups(one, "sub")
    try:
        count = one.rootfs / "count"
        counter = "while :; do printf . >>/count; done"
        file = one.runtime.folder / "exec.pid"
        flags = ["--detach", "--cgroup", "sub", "--pid-file", str(file)]
        one.runtime.run("exec", *flags, one.id, "sh", "-c", counter)
        pid = int(file.read_text())
        proc.wait_until(lambda: count.exists() and count.stat().st_size > 0, "it counts")
        one.runtime.run("pause", one.id)
        stopped = count.stat().st_size
        time.sleep(0.3 * proc.SLOW)
        assert count.stat().st_size == stopped
        one.runtime.run("resume", one.id)
        proc.wait_until(lambda: count.stat().st_size > stopped, "it goes on")
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    finally:
        for folder in made:
            os.rmdir(folder)


@pytest.mark.differs(crun="crun 1.8.1 makes it itself", sometimes=True)
def test_sub_cgroup(box):
    one = box()
    refused(one.runtime, one.shell("true", "--cgroup", "sub", check=None), "sub")
    made = sub_cgroups(one, "sub")
    try:
        before = proc.cgroups(one.proc("cgroup"))
        found = proc.cgroups(one.shell("cat /proc/self/cgroup", "--cgroup", "sub").stdout)
        assert found == {name: f"{path}/sub" for name, path in before.items()}
    finally:
        for folder in made:
            os.rmdir(folder)


@pytest.mark.differs(crun="crun 1.8.1 knows no controllers there")
def test_sub_cgroup_of_one_controller(box):
    one = box()
    if "pids" not in proc.cgroups(one.proc("cgroup")):
        pytest.skip("no pids hierarchy of cgroup v1 here")
    made = sub_cgroups(one, "sub")
    try:
        before = proc.cgroups(one.proc("cgroup"))
        found = proc.cgroups(one.shell("cat /proc/self/cgroup", "--cgroup", "pids:sub").stdout)
        assert found == {**before, "pids": before["pids"] + "/sub"}
    finally:
        for folder in made:
            os.rmdir(folder)


@pytest.mark.differs(crun="crun 1.8.1 goes wherever it leads", sometimes=True)
@pytest.mark.parametrize("path", ["../other", "sub/../../other", "/../other"])
def test_a_sub_cgroup_is_below(box, path):
    one = box()
    refused(one.runtime, one.shell("true", "--cgroup", path, check=None), "--cgroup")


@pytest.mark.ours
@pytest.mark.parametrize(
    "words",
    [
        ["--cgroup", "a", "--cgroup", "b"],
        ["--cgroup", "memory:a", "--cgroup", "memory:b"],
        ["--cgroup", "nosuch:a"],
        ["--cgroup", "a:b:c"],
    ],
)
def test_bad_sub_cgroups(box, words):
    one = box()
    refused(one.runtime, one.shell("true", *words, check=None), "--cgroup")


def test_a_user_namespace(box):
    """Root in it, and a user outside whom it is mapped to."""

    def change(config):
        map_ids(config, 200000)

    def chowned(config):
        change(config)

    one = box(chowned)
    script = "id -u; cat /proc/self/uid_map; cat /proc/self/setgroups; readlink /proc/self/ns/user"
    lines = one.shell(script).stdout.split()
    assert lines[:4] == ["0", "0", "200000", "65536"]
    assert lines[5] == proc.namespace(one.pid, "user")


def test_a_user_in_a_user_namespace(box):
    one = box(lambda config: map_ids(config, 200000))
    assert one.shell("id -u; id -g", "--user", "1000:1001").stdout.split() == ["1000", "1001"]
    result = one.shell("id -u", "--user", "70000", check=None)
    refused(one.runtime, result, "70000", "uidMappings")


def test_shared_namespaces_stay_shared(box):
    def change(config):
        for kind in ("pid", "network", "ipc", "uts"):
            drop_namespace(config, kind)
        del config["hostname"]

    one = box(change)
    found = one.shell("for kind in pid net ipc uts mnt; do readlink /proc/self/ns/$kind; done").stdout.split()
    assert found[:4] == [proc.namespace("self", kind) for kind in ("pid", "net", "ipc", "uts")]
    assert found[4] == proc.namespace(one.pid, "mnt")


def test_a_cgroup_namespace(box):
    one = box(lambda config: set_namespace(config, "cgroup"))
    assert set(proc.cgroups(one.shell("cat /proc/self/cgroup").stdout).values()) == {"/"}


@pytest.mark.differs(runc="runc 1.1.5 knows no such namespace", crun="crun 1.8.1 shifts no clock of an exec")
def test_a_time_namespace(box):
    def change(config):
        set_namespace(config, "time")
        config["linux"]["timeOffsets"] = {"boottime": {"secs": 1_000_000}}

    one = box(change)
    up = float(one.shell("cat /proc/uptime").stdout.split()[0])
    with open("/proc/uptime") as file:
        assert abs(up - float(file.read().split()[0]) - 1_000_000) < 60


@pytest.mark.ours
def test_without_a_mount_namespace_it_is_in_the_containers_root(box):
    """runc leaves such a process in the host's root."""
    one = box(lambda config: (drop_namespace(config, "mount"), config.update(mounts=[])))
    assert one.shell("ls /; cat /proc/self/status", check=None).stdout.split() == sorted(os.listdir(one.rootfs))


def test_seccomp_of_the_container(box):
    def change(config):
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
        }

    one = box(change)
    result = one.shell("grep ^Seccomp: /proc/self/status; mkdir /tmp/x", check=1)
    assert result.stdout.split()[1] == "2"


@pytest.mark.parametrize("nnp", [True, False])
def test_seccomp_without_no_new_privileges(box, nnp):
    def change(config):
        config["process"]["noNewPrivileges"] = nnp
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
        }

    one = box(change)
    result = one.shell("mkdir /tmp/x", "--user", "1000", check=None)
    assert result.code == 1
    assert "not permitted" in result.stderr


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10])
def test_cwd_by_a_leaked_descriptor(box, number):
    """CVE-2024-21626."""
    one = box()
    result = one.runtime.run("exec", "--cwd", f"/proc/self/fd/{number}", one.id, "/bin/pwd", check=None)
    refused(one.runtime, result, "cwd")


def test_a_program_by_a_leaked_descriptor(box):
    """CVE-2024-21626, its other way in."""
    one = box()
    for number in range(3, 20):
        words = ("exec", one.id, f"/proc/self/fd/{number}/../../../../../../bin/sh", "-c", "echo out")
        result = one.runtime.run(*words, check=None)
        assert result.code != 0
        assert "out" not in result.stdout


def test_no_descriptor_of_the_runtime(box):
    one = box()
    assert one.shell("ls /proc/self/fd").stdout.split() in (["0", "1", "2"], ["0", "1", "2", "3"])  # ls has one open
    links = one.shell("for fd in /proc/self/fd/*; do readlink $fd; done; true").stdout
    assert not re.search(r"socket:|anon_inode|/proc/\d|sys/fs", links)


# Processes that come from outside have no parent in the pid namespace. All is done by the shell itself: each
# look must be faster than an exec.
WATCHER = """
echo watching
while :; do
    for dir in /proc/[0-9]*; do
        [ $dir != /proc/1 ] || continue
        while read -r name value; do
            [ "$name" != PPid: ] || break
        done < $dir/status 2>/dev/null || continue
        [ "$value" = 0 ] || continue
        [ -n "$seen" ] || { seen=1; echo "somebody came"; }
        for fd in $dir/fd/[3-9]*; do
            [ ! -e "$fd" ] || echo "a descriptor can be opened: $fd"
        done
        # Asked again, because it may have ended between the first two questions.
        [ ! -e $dir/exe ] || [ $dir/exe -ef /bin/busybox ] || [ ! -e $dir/exe ] ||
            echo "the runtime's executable can be opened"
    done
done 2>/dev/null
"""


def test_nothing_of_the_process_can_be_seen_before_it_is_the_program(container):
    """CVE-2016-9962: the container's root looks into every new process while exec runs."""
    one = container(["/bin/sh", "-c", WATCHER])
    one.create()
    one.start()
    one.await_output("watching")
    for _ in range(30):
        one.runtime.run("exec", one.id, "/bin/true")
    assert one.output().splitlines() == ["watching", "somebody came"]


@pytest.mark.differs(runc="runc 1.1.5 looks into /proc/self/fd there", crun="crun 1.8.1 too")
def test_a_fake_proc_decides_nothing(box):
    """Whatever the container has mounted over /proc, exec does not look there."""

    def change(config):
        config["process"]["capabilities"] = {kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}
        config["process"]["noNewPrivileges"] = False

    one = box(change)
    one.shell("mount -t tmpfs tmpfs /proc")
    assert one.shell("echo works; ls /proc").stdout == "works\n"


def test_init_is_not_disturbed(box):
    """The process is no child of init's, and init keeps what it has."""
    one = box()
    before = one.process_status()
    assert one.shell("grep PPid /proc/self/status").stdout.split()[1] == "0"
    after = one.process_status()
    assert {name: before[name] for name in ("CapEff", "Seccomp", "Threads")} == {
        name: after[name] for name in ("CapEff", "Seccomp", "Threads")
    }


def test_twenty_at_once(box):
    one = box()
    commands = [one.runtime.spawn("exec", one.id, "/bin/echo", str(number)) for number in range(20)]
    assert [command.wait().stdout for command in commands] == [f"{number}\n" for number in range(20)]
