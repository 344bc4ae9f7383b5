"""What is left to the process that executes the program, where init or an exec's child clones it (docs/handshake.md,
"Spawn"): it shows nothing of that to the program."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support import proc
from support.bundle import BUSYBOX
from support.config import set_namespace

REFUSES_CLONE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["clone", "clone3", "fork", "vfork"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
}
REFUSES_CLONE3 = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
}
# Its headers are right as far as they can be checked before execve(2).
DAMAGED = Path(BUSYBOX).read_bytes()[:64]


@pytest.fixture(params=["exec", "create"])
def program(request, container):
    """`program(command, change)`: what a shell command writes as a process of an exec, or as init in another
    container's pid namespace; change(config) is called with that process's config.json before."""
    first = container(["/bin/sleep", "1000"])

    def run(command: str, change=lambda config: None) -> str:
        if request.param == "exec":
            change(first.config)
            first.create()
            first.start()
            words = ("exec", first.id, "/bin/sh", "-c", command)
            return first.runtime.run(*words).stdout
        first.create()
        first.start()
        second = container(["/bin/sh", "-c", command])
        set_namespace(second.config, "pid", f"/proc/{first.pid}/ns/pid")
        change(second.config)
        return second.run().stdout

    return run


def fields(output: str) -> dict[str, str]:
    return proc.parse_status(output.partition("\n\n")[0])


@pytest.mark.differs(crun="crun 1.8.1: exec runs as root unless --user is given", sometimes=True)
@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("filter", [None, REFUSES_CLONE, REFUSES_CLONE3], ids=["none", "no clone", "no clone3"])
def test_the_program_has_what_was_asked_for(program, filter, no_new_privileges):
    def change(config):
        config["process"]["noNewPrivileges"] = no_new_privileges
        config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7]}
        sets = ("bounding", "effective", "permitted", "inheritable", "ambient")
        config["process"]["capabilities"] = dict.fromkeys(sets, ("CAP_KILL", "CAP_NET_RAW"))
        config["process"]["rlimits"] = [{"type": "RLIMIT_NPROC", "soft": 100, "hard": 200}]
        if filter:
            config["linux"]["seccomp"] = filter

    # Without another process, which the filter may refuse: the shell reads, and writes what it has read.
    output = program("while read -r line; do echo $line; done </proc/self/status; ulimit -u; ulimit -Hu", change)
    status = fields(output)
    assert status["Uid"].split() == ["1000"] * 4 and status["Groups"].split() == ["7"]
    assert int(status["CapBnd"], 16) == int(status["CapPrm"], 16) == 1 << 5 | 1 << 13
    assert status["NoNewPrivs"] == str(int(no_new_privileges))
    assert status["Seccomp"] == ("2" if filter else "0")
    assert output.split()[-2:] == ["100", "200"]


@pytest.mark.differs(crun="crun 1.8.1: exec without a terminal stays in its caller's session", sometimes=True)
def test_the_program_leads_a_session_of_its_own(program):
    pid, _, _, _, group, session = program("read -r line </proc/$$/stat; echo $line").split()[:6]
    assert pid == group == session


def test_nothing_but_standard_descriptors_is_open(program):
    assert program("echo /proc/self/fd/*").split() == [f"/proc/self/fd/{n}" for n in range(4)]  # 3 is the listing


@pytest.mark.ours
def test_an_error_of_execve(container):
    first = container(["/bin/sleep", "1000"])
    first.bundle.write("no-program", DAMAGED, 0o755)
    first.create()
    first.start()
    result = first.runtime.run("exec", first.id, "/no-program", check=None)
    assert result.code == 255 and "exec /no-program: exec format error" in result.stderr.lower()


@pytest.mark.ours
def test_an_error_of_execve_in_a_shared_pid_namespace(container):
    """Found by `start`, as in any container."""
    first = container(["/bin/sleep", "1000"])
    first.create()
    first.start()
    second = container(["/no-program"])
    second.bundle.write("no-program", DAMAGED, 0o755)
    set_namespace(second.config, "pid", f"/proc/{first.pid}/ns/pid")
    second.create()
    result = second.start(check=None)
    assert result.code == 1 and "exec /no-program: exec format error" in result.stderr.lower()


@pytest.mark.differs(crun="crun 1.8.1: the state has another pid")
def test_hooks_of_a_container_in_a_shared_pid_namespace(container, tmp_path):
    """startContainer hooks run in the process that becomes the program, with the pid that it has there."""
    first = container(["/bin/sleep", "1000"])
    first.create()
    first.start()
    second = container(["/bin/sh", "-c", "cat /seen; echo; echo $$"])
    second.config["linux"]["seccomp"] = REFUSES_CLONE3
    set_namespace(second.config, "pid", f"/proc/{first.pid}/ns/pid")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "cat >/seen"]}
    second.config["hooks"] = {"startContainer": [hook]}
    second.config["root"]["readonly"] = False
    state, pid = second.run().stdout.splitlines()
    assert json.loads(state)["pid"] == int(pid)


def test_state_of_a_container_in_a_shared_pid_namespace(container):
    first = container(["/bin/sleep", "1000"])
    first.create()
    first.start()
    second = container(["/bin/sleep", "1000"])
    set_namespace(second.config, "pid", f"/proc/{first.pid}/ns/pid")
    second.create()
    assert second.state()["pid"] == second.pid and second.status() == "created"
    assert second.namespace("pid") == first.namespace("pid")
    second.start()
    assert second.status() == "running"
    assert second.runtime.run(
        "exec", second.id, "cat", f"/proc/{second.process_status()['NSpid'].split()[1]}/comm"
    ).stdout
    second.kill("KILL")
    assert second.wait() == 137
    second.delete()


@pytest.mark.ours
def test_exec_with_a_policy_that_a_clone_does_not_inherit(container):
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.start()
    process = {
        "cwd": "/",
        "args": ["/bin/sleep", "1000"],
        "scheduler": {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
    }
    file = box.runtime.folder / "process.json"
    file.write_text(json.dumps(process))
    pid_file = box.runtime.folder / "exec.pid"
    box.runtime.run("exec", "--detach", "--process", str(file), "--pid-file", str(pid_file), box.id)

    policy = os.sched_getscheduler(int(pid_file.read_text()))
    assert policy == os.SCHED_BATCH | os.SCHED_RESET_ON_FORK
