"""The caller's own state: signals, limits and NOTIFY_SOCKET, which a command inherits."""

from __future__ import annotations

import os
import socket

import pytest
from support import proc
from support.refusal import nothing_left
from support.runtime import ENVIRONMENT

HOOKS = ("createRuntime", "createContainer", "startContainer", "poststart", "poststop")
SIGNALS = {
    "SIGCHLD ignored": ["env", "--ignore-signal=CHLD"],
    "all ignored": ["env", "--ignore-signal"],
    "all blocked": ["env", "--block-signal"],
    "all ignored and blocked": ["env", "--ignore-signal", "--block-signal"],
}
MASKS = "grep -c '^Sig[BI].*0000000000000000$' /proc/self/status"


@pytest.fixture(params=SIGNALS)
def wrap(request):
    """What puts a command into such a state."""
    return SIGNALS[request.param]


PASSED_ON = pytest.mark.differs(
    runc="runc 1.1.5 passes ignored and blocked signals on", crun="crun 1.8.1 passes ignored signals on", sometimes=True
)


@PASSED_ON
def test_run_in_the_foreground(container, wrap):
    """An ignored SIGCHLD makes the kernel reap in the place of the parent: the exit status is lost."""
    box = container(sh=f"{MASKS}; exit 7")
    result = box.run(wrap=wrap, check=7, timeout=10)
    assert result.stdout == "2\n"


@PASSED_ON
def test_exec(container, wrap):
    box = container(["/bin/sleep", "1000"])
    box.create(wrap=wrap)
    box.start(wrap=wrap)
    result = box.runtime.run("exec", box.id, "/bin/sh", "-c", f"{MASKS}; exit 7", wrap=wrap, check=7, timeout=10)
    assert result.stdout == "2\n"
    box.runtime.run("exec", "--detach", box.id, "/bin/true", wrap=wrap)
    box.kill("KILL", wrap=wrap)
    box.delete("--force", wrap=wrap)


@pytest.mark.differs(crun="crun 1.8.1 fails on them", sometimes=True)
def test_hooks(container, wrap, tmp_path):
    """Good ones are good, and a bad one is bad with its exit status."""
    box = container(["/bin/true"])
    box.config["hooks"] = {kind: [{"path": "/bin/busybox", "args": ["true"]}] for kind in HOOKS}
    box.run(wrap=wrap, timeout=10)
    bad = container(["/bin/true"])
    bad.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]}
    result = bad.run(wrap=wrap, check=None, timeout=10)
    assert result.code == 1
    assert "exit status 3" in result.stderr


LIMITS = {
    "--as=1000000": "RLIMIT_AS",
    "--as=20000000": "RLIMIT_AS",
    "--data=100000": "RLIMIT_DATA",
    "--data=5000000": "RLIMIT_DATA",
    "--stack=16384": "RLIMIT_STACK",
    "--stack=65536": "RLIMIT_STACK",
    "--nofile=4": "RLIMIT_NOFILE",
    "--nofile=16": "RLIMIT_NOFILE",
    "--nofile=40": "RLIMIT_NOFILE",
}


@pytest.mark.ours
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("verb", ["create", "state"])
def test_a_tiny_limit_is_said(container, limit, verb):
    """The kernel would end the interpreter by SIGSEGV, "Bus error" or with its own advice."""
    box, before = container(), set(proc.children())
    flags = {"wrap": ["prlimit", limit], "check": 126}
    result = box.create(**flags) if verb == "create" else box.runtime.run("state", "nosuch", **flags)
    assert result.stderr.startswith("pyruntime: cannot start: the limit of ")
    assert len(result.stderr.splitlines()) == 1
    assert LIMITS[limit] in result.stderr
    nothing_left(box, before)


@pytest.mark.ours
@pytest.mark.parametrize("limit", ["--as=33554432", "--data=25165824", "--stack=131072", "--nofile=48"])
def test_the_smallest_limits_are_enough(container, limit):
    """Of each that is not refused, a container can be run, and exec works; it inherits the limit."""
    box = container(["/bin/sleep", "1000"])
    wrap = ["prlimit", limit]
    box.create(wrap=wrap)
    box.start(wrap=wrap)
    box.runtime.run("exec", box.id, "/bin/true", wrap=wrap)
    number = limit.partition("=")[2]
    assert f" {number} " in box.proc("limits")
    box.kill("KILL", wrap=wrap)
    box.wait()
    box.delete(wrap=wrap)


@pytest.mark.ours
@pytest.mark.parametrize("count", [30, 40, 50, 60, 75])
def test_a_caller_with_too_many_open_files(container, count):
    """The limit is not small, but nearly used up: nothing is left, whatever cannot be opened any more."""
    box, before = container(), set(proc.children())
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    try:
        # prlimit(1) closes nothing.
        result = box.create(wrap=["prlimit", f"--nofile={count + 20}"], pass_fds=fds, check=None, timeout=15)
    finally:
        for fd in fds:
            os.close(fd)
    if result.code == 0:
        box.delete("--force")
        return
    assert result.code == 1
    assert "too many open files" in result.stderr
    assert "Traceback" not in result.stderr
    nothing_left(box, before)


@pytest.mark.parametrize("address", ["", "/nosuch/socket", "relative", "@pyruntime-test-nobody", "/" + "x" * 200])
@pytest.mark.differs(runc="runc 1.1.5 fails in start", crun="crun 1.8.1 waits for ever", sometimes=True)
def test_a_notify_socket_of_nobody(container, address):
    """Neither `run` nor `start` waits for a READY=1 that cannot be passed on."""
    env = {**ENVIRONMENT, "NOTIFY_SOCKET": address}
    box = container(["/bin/sleep", "1000"])
    result = box.run("--detach", "--pid-file", str(box.pid_file), env=env, timeout=10)
    if box.runtime.is_ours:
        assert ("NOTIFY_SOCKET" in result.stderr) == bool(address)
    box.kill("KILL")
    box.wait()
    box.delete()
    box.create(env=env)
    box.start(env=env, timeout=10)
    box.kill("KILL")
    box.wait()


@pytest.mark.ours
def test_a_notify_socket_whose_listener_is_gone(container, tmp_path):
    """The file is there, and nothing reads it."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(path))
    box = container(["/bin/sleep", "1000"])
    result = box.run("--detach", "--pid-file", str(box.pid_file), env={**ENVIRONMENT, "NOTIFY_SOCKET": str(path)})
    assert "Connection refused" in result.stderr
    box.kill("KILL")
    box.wait()
