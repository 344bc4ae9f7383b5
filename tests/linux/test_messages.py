"""What an error says: the field, the file or the flag that it comes from, and the cause, in the words of engines."""

from __future__ import annotations

import json

import pytest
from support.refusal import create_refused, refused

pytestmark = pytest.mark.ours

SLEEP = ["/bin/sleep", "1000"]


@pytest.fixture
def running(container):
    box = container(SLEEP)
    box.create()
    box.start()
    return box


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bash-is-not-here"], 'exec failed: exec: "bash-is-not-here": executable file not found in $PATH: PATH is'),
        (["/nosuch"], 'exec failed: exec: "/nosuch": stat /nosuch: no such file or directory'),
    ],
)
def test_exec_does_not_blame_config_json_for_the_command_line(running, words, message):
    result = running.runtime.run("exec", running.id, *words, check=255)
    refused(running.runtime, result, message)
    assert "config.json" not in result.stderr


def test_exec_blames_a_flag_for_what_it_sets_only(running):
    result = running.runtime.run("exec", "--cwd", "/nosuch", running.id, "true", check=255)
    refused(running.runtime, result, "exec failed: chdir to cwd ('/nosuch'): no such file or directory")


def test_exec_blames_config_json_for_what_it_says(container):
    box = container(SLEEP)
    box.process["cwd"] = "/away"
    box.bundle.write("away/x", "")
    box.create()
    box.start()
    (box.rootfs / "away/x").unlink()
    (box.rootfs / "away").rmdir()
    result = box.runtime.run("exec", box.id, "/bin/true", check=255)
    refused(box.runtime, result, "config.json: /process/cwd: ")


def test_exec_names_the_file_of_process(running, scratch):
    file = scratch / "p.json"
    file.write_text(json.dumps({"cwd": "/", "args": ["bash-is-not-here"], "user": {"uid": 0, "gid": 0}}))
    result = running.runtime.run("exec", "--process", file, running.id, check=255)
    refused(running.runtime, result, f'exec failed: {file}: /args/0: exec: "bash-is-not-here"')


def test_a_warning_of_exec_goes_into_the_log_only(container, scratch):
    """The process's standard error is the user's."""
    box = container(SLEEP)
    box.create()
    box.start()
    log = scratch / "log"
    options = {"flags": ["--log", str(log)]}
    result = box.runtime.run("exec", "--apparmor", "nosuch", box.id, "/bin/true", check=None, **options)
    if result.code:
        pytest.skip("AppArmor is enabled: an unknown profile is an error")
    assert result.stderr == ""
    assert "AppArmor is not enabled" in log.read_text()


def test_an_empty_program(container):
    box = container(["/bin/empty"])
    box.bundle.write("bin/empty", "", 0o755)
    create_refused(box, 'exec: "/bin/empty": exec format error', "the file is empty")


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_a_hook_without_its_first_line(container, kind):
    box = container(["/bin/true"])
    hook = box.bundle.write("hook", "true\n", 0o755)
    box.config["hooks"] = {kind: [{"path": str(hook)}]}
    create_refused(box, "exec format error", "neither an ELF program nor a script", "begin the script with #!/bin/sh")


@pytest.mark.parametrize(("name", "length"), [("hostname", 65), ("domainname", 65), ("hostname", 66)])
def test_a_name_that_is_too_long(container, name, length):
    box = container(["/bin/true"])
    box.config[name] = "a" * 63 + "ö" if length == 66 else "a" * length
    length = len(box.config[name].encode())
    create_refused(box, f"/{name}: is {length} bytes long, the kernel allows at most 64")


def test_a_directory_on_a_file(container):
    box = container(["/bin/true"])
    box.config["mounts"].append({"destination": "/file", "type": "bind", "source": "/etc", "options": ["bind"]})
    box.bundle.write("file", "")
    create_refused(box, "not a directory", "the source is a directory and the destination a file")


def seccomp(box, default: str, names: list[str], action: str = "SCMP_ACT_ALLOW") -> None:
    box.process["noNewPrivileges"] = True
    box.config["linux"]["seccomp"] = {"defaultAction": default, "syscalls": [{"names": names, "action": action}]}


@pytest.mark.parametrize("default", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
@pytest.mark.parametrize("names", [["read"], ["read", "execve"]])
def test_a_filter_that_refuses_the_last_calls_of_init(container, default, names):
    box = container(["/bin/true"])
    seccomp(box, default, names)
    result = box.run(check=1)
    assert "linux.seccomp refuses " in result.stderr, result
    assert "allow " in result.stderr
    box.delete("--force", check=None)


@pytest.mark.parametrize("call", ["execve", "write"])
def test_a_filter_that_refuses_one_call(container, call):
    box = container(["/bin/true"])
    seccomp(box, "SCMP_ACT_ALLOW", [call], "SCMP_ACT_ERRNO")
    result = box.run(check=1)
    assert f"linux.seccomp refuses {call}, which init needs" in result.stderr, result
    box.delete("--force", check=None)


def test_a_filter_that_refuses_execve_does_so_for_exec(running, container, scratch):
    box = container(SLEEP)
    seccomp(box, "SCMP_ACT_ALLOW", ["capset"], "SCMP_ACT_ERRNO")
    box.create()
    box.start()
    config = box.runtime.root / box.id / "config.json"
    stored = json.loads(config.read_text())
    stored["linux"]["seccomp"]["syscalls"][0]["names"] = ["execve"]
    config.write_text(json.dumps(stored))
    result = box.runtime.run("exec", box.id, "/bin/true", check=255)
    refused(box.runtime, result, "linux.seccomp refuses execve")
