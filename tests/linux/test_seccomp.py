"""linux.seccomp, as a process in the container meets it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import agent, config, proc

PROFILE = json.loads((Path(__file__).resolve().parents[1] / "data/configs/docker-01.json").read_text())["linux"][
    "seccomp"
]
ENOMSG = 42
EDOM = 33
MKDIR = ["mkdir", "mkdirat"]


def deny(names: list[str], errno: int = ENOMSG, **fields: Any) -> dict[str, Any]:
    """A profile that answers some system calls with an error and lets the others through."""
    rule = {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], **fields}


def test_denied_with_the_errno_of_the_rule(container) -> None:
    made = container(sh="mkdir /tmp/x || true; echo went on")
    made.config["linux"]["seccomp"] = deny(MKDIR)
    result = made.run()
    assert "No message of desired type" in result.stderr
    assert "went on" in result.stdout


def test_the_process_has_one_filter(container) -> None:
    made = container(sh="grep -E '^(Seccomp|NoNewPrivs)' /proc/self/status")
    made.config["linux"]["seccomp"] = deny(MKDIR)
    assert made.run().stdout.split() == ["NoNewPrivs:", "1", "Seccomp:", "2", "Seccomp_filters:", "1"]


def test_without_a_profile_there_is_no_filter(container) -> None:
    made = container(sh="grep ^Seccomp: /proc/self/status")
    assert made.run().stdout.split() == ["Seccomp:", "0"]


def test_docker_profile(container) -> None:
    made = container(sh="unshare -U true; echo; echo $?; mkdir /tmp/x && echo made; uname -s; ping -c1 127.0.0.1")
    made.config["linux"]["seccomp"] = PROFILE
    made.process["capabilities"]["bounding"].append("CAP_NET_RAW")
    result = made.run(check=None)
    assert "Operation not permitted" in result.stderr
    assert "made" in result.stdout and "Linux" in result.stdout


@pytest.mark.ours
def test_the_second_container_compiles_nothing(container, runtime) -> None:
    def run() -> list[tuple[str, int, int]]:
        made = container(sh="grep ^Seccomp: /proc/self/status")
        made.config["linux"]["seccomp"] = PROFILE
        assert made.run().stdout.split() == ["Seccomp:", "2"]
        folder = runtime.root / ".cache/seccomp"
        return [(file.name, file.stat().st_ino, file.stat().st_mtime_ns) for file in folder.iterdir()]

    first = run()
    assert len(first) == 1
    assert run() == first


@pytest.mark.ours
def test_a_changed_cache_is_not_believed(container, runtime) -> None:
    profile = deny(MKDIR)
    for change in (False, True):
        if change:
            (file,) = (runtime.root / ".cache/seccomp").iterdir()
            data = bytearray(file.read_bytes())
            data[-1] ^= 0xFF
            file.write_bytes(data)
        made = container(sh="mkdir /tmp/x || true")
        made.config["linux"]["seccomp"] = profile
        assert "No message of desired type" in made.run().stderr


def test_with_no_new_privileges_it_is_the_last_step(container) -> None:
    # All that becoming the user takes is denied, and the container starts all the same.
    made = container(sh="id -u; mkdir /tmp/x || true")
    made.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5]}
    made.config["linux"]["seccomp"] = deny(
        [*MKDIR, "setuid", "setresuid", "setgid", "setresgid", "setgroups", "capset", "chdir", "getcwd", "mount"]
    )
    result = made.run()
    assert result.stdout.strip() == "1000"
    assert "No message of desired type" in result.stderr


@pytest.mark.differs(runc="asks for the working directory after the filter is loaded")
def test_without_no_new_privileges_getcwd_may_be_denied(container) -> None:
    made = container(sh="mkdir /tmp/x || true")
    made.process["noNewPrivileges"] = False
    made.config["linux"]["seccomp"] = deny([*MKDIR, "getcwd"])
    assert "No message of desired type" in made.run().stderr


@pytest.mark.differs(runc="1.1 uses one of them after the filter is loaded")
def test_without_no_new_privileges_newer_system_calls_may_be_denied(container) -> None:
    # What becomes the user after the filter is loaded gets by with what profiles of old knew.
    made = container(sh="mkdir /tmp/x || true")
    made.process["noNewPrivileges"] = False
    made.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7]}
    newer = ["close_range", "faccessat2", "openat2", "pidfd_open", "clone3", "mount_setattr", "open_tree", "statx"]
    made.config["linux"]["seccomp"] = deny([*MKDIR, *newer], errno=ENOMSG)
    assert "No message of desired type" in made.run().stderr


def test_without_no_new_privileges_an_ordinary_user_has_the_filter(container) -> None:
    made = container(sh="grep -E '^(Seccomp:|NoNewPrivs|CapEff)' /proc/self/status")
    made.process["noNewPrivileges"] = False
    made.process["user"] = {"uid": 1000, "gid": 1000}
    made.config["linux"]["seccomp"] = deny(MKDIR)
    assert made.run().stdout.split() == ["CapEff:", "0" * 16, "NoNewPrivs:", "0", "Seccomp:", "2"]


def test_in_a_user_namespace(container) -> None:
    made = container(sh="mkdir /tmp/x || true")
    config.map_ids(made.config)
    made.bundle.chown(200000, 200000)
    made.config["linux"]["seccomp"] = deny(MKDIR)
    assert "No message of desired type" in made.run().stderr


def test_killed(container) -> None:
    made = container(args=["/bin/mkdir", "/tmp/x"])
    made.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": MKDIR, "action": "SCMP_ACT_KILL_PROCESS"}],
    }
    assert made.run(check=None).code == 128 + signal.SIGSYS


def test_conditions_on_arguments(container) -> None:
    made = container(sh="touch /tmp/a; chmod 700 /tmp/a; chmod 711 /tmp/a; stat -c %a /tmp/a")
    profile = deny(["chmod"])
    profile["syscalls"] += deny(["fchmodat"])["syscalls"]  # arm64 has no other
    for rule, index in zip(profile["syscalls"], (1, 2), strict=True):
        rule["args"] = [{"index": index, "value": 0o711, "op": "SCMP_CMP_EQ"}]
    made.config["linux"]["seccomp"] = profile
    result = made.run()
    assert result.stdout.strip() == "700"
    assert "No message of desired type" in result.stderr


def test_unknown_system_calls_are_left_out(container) -> None:
    made = container(sh="mkdir /tmp/x || true")
    made.config["linux"]["seccomp"] = deny(["a_call_of_2040", *MKDIR])
    assert "No message of desired type" in made.run().stderr


@pytest.mark.differs(runc="1.1 knows no flags")
@pytest.mark.parametrize("flag", ["TSYNC", "LOG", "SPEC_ALLOW"])
def test_flags(container, flag: str) -> None:
    made = container(sh="mkdir /tmp/x || true")
    made.config["linux"]["seccomp"] = deny(MKDIR, flags=[f"SECCOMP_FILTER_FLAG_{flag}"])
    assert "No message of desired type" in made.run().stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a program of 32 bits needs an x86-64 kernel")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_other_architectures_are_filtered_too(container, tmp_path: Path) -> None:
    # The calls of 32-bit programs, made from a 64-bit one: int 0x80, 39 is mkdir there.
    source = tmp_path / "call.c"
    source.write_text(
        "#include <stdio.h>\n"
        'int main(void) { int r; static char p[] = "/tmp/x";\n'
        ' __asm__ volatile("int $0x80" : "=a"(r) : "a"(39), "b"((int)(long)p), "c"(0755) : "memory");\n'
        ' printf("%d\\n", r); return 0; }\n'
    )
    program = tmp_path / "call"
    subprocess.run(["gcc", "-static", "-no-pie", "-O1", "-o", program, source], check=True)
    made = container(args=["/bin/call"])
    made.bundle.write("/bin/call", program.read_bytes(), 0o755)
    made.config["linux"]["seccomp"] = deny(MKDIR, architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
    assert made.run().stdout.strip() == str(-ENOMSG)


@pytest.fixture
def listener(runtime) -> Iterator[tuple[agent.Agent, dict[str, Any]]]:
    """An agent that answers EDOM, and a profile that asks it about mkdir."""
    path = runtime.folder / "agent.sock"
    made = agent.Agent(path, EDOM)
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(path),
        "listenerMetadata": "some words",
        "syscalls": [{"names": MKDIR, "action": "SCMP_ACT_NOTIFY"}],
    }
    yield made, profile
    made.close()


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_listener(container, listener, no_new_privileges: bool) -> None:
    asked, profile = listener
    made = container(sh="mkdir /tmp/x || true; sleep 100", annotations={"a": "b"})
    made.process["noNewPrivileges"] = no_new_privileges
    made.config["linux"]["seccomp"] = profile
    made.create()
    made.start()
    proc.wait_until(lambda: "Numerical" in made.created.stderr, "mkdir is answered for")
    message = asked.message
    assert asked.fds == 1 and message["fds"] == ["seccompFd"]
    assert message["metadata"] == "some words"
    assert message["pid"] == made.pid
    state = message["state"]
    assert (state["id"], state["pid"], state["bundle"]) == (made.id, made.pid, str(made.bundle.path))
    assert state["status"] == "creating"
    assert state["annotations"] == {"a": "b"}
    made.kill("KILL")


@pytest.mark.ours
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv to become an ordinary user")
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_listener_of_an_ordinary_user(container, runtime, listener, no_new_privileges: bool) -> None:
    # Its runtime may take a descriptor out of init only while init is dumpable.
    asked, profile = listener
    user = 1000
    made = container(sh="mkdir /tmp/x || true")
    del made.config["linux"]["cgroupsPath"]
    config.map_ids(made.config, host=user, size=1)
    for mount in made.config["mounts"]:
        mount["options"] = [word for word in mount.get("options", []) if not word.startswith("gid=")]
    made.process["noNewPrivileges"] = no_new_privileges
    made.config["linux"]["seccomp"] = profile
    made.bundle.save()
    made.bundle.chown(user, user)
    os.chown(runtime.folder, user, user)
    os.chown(profile["listenerPath"], user, user)
    as_user = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups")
    result = runtime.run("run", "--bundle", str(made.bundle.path), made.id, wrap=as_user)
    assert "Numerical" in result.stderr
    assert asked.message["metadata"] == "some words"


@pytest.mark.ours
def test_listener_with_the_flag_that_only_it_has(container, listener) -> None:
    _, profile = listener
    made = container(sh="mkdir /tmp/x || true")
    made.config["linux"]["seccomp"] = profile | {
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"]
    }
    assert "Numerical" in made.run().stderr


@pytest.mark.ours
def test_listener_for_what_the_handshake_uses(container, listener) -> None:
    # The agent answers sendmsg with an error from the moment it has the listener: init must not need it.
    # (runc 1.1 and crun 1.8 never end here.)
    _, profile = listener
    profile["syscalls"][0]["names"] = ["sendmsg", *MKDIR]
    made = container(sh="mkdir /tmp/x || true")
    made.config["linux"]["seccomp"] = profile
    assert "Numerical" in made.run().stderr


def test_nobody_listens(container, runtime) -> None:
    made = container(args=["/bin/true"])
    made.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(runtime.folder / "nobody.sock"),
        "syscalls": [{"names": MKDIR, "action": "SCMP_ACT_NOTIFY"}],
    }
    result = made.create(check=None)
    assert result.code != 0
    if runtime.is_ours:
        assert "/linux/seccomp/listenerPath" in result.stderr


@pytest.mark.ours
def test_refused_with_its_place(container) -> None:
    made = container(args=["/bin/true"])
    made.config["linux"]["seccomp"] = deny(["getpid"], errno=5000)
    result = made.run(check=None)
    assert result.code != 0
    assert "/linux/seccomp/syscalls/0" in result.stderr and "getpid" in result.stderr
