"""Why a program does not run, a hook fails or a right is missing, provoked: what the error says.

Source: execve(2), "ERRORS"; the bug trackers of runc, crun and youki.
"""

from __future__ import annotations

import os
import pty
import resource
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from support.config import bind
from support.refusal import create_refused, error_lines
from support.runtime import ENVIRONMENT

pytestmark = pytest.mark.ours


def test_a_script_with_carriage_returns(container):
    """crun#439, podman#10436: `no such file or directory`, and the file is there."""
    box = container(["/entry.sh"])
    box.bundle.write("entry.sh", "#!/bin/sh\r\necho\r\n", 0o755)
    create_refused(box, "/process/args/0", "CRLF", '"/bin/sh\\r"', "dos2unix")


def test_a_script_whose_interpreter_is_missing(container):
    box = container(["/entry"])
    box.bundle.write("entry", "#!/usr/bin/python9 -u\n", 0o755)
    create_refused(box, "/process/args/0", "#!", "/usr/bin/python9", "put /usr/bin/python9 into the image")


def test_a_program_whose_loader_is_missing(container):
    """crun guesses: `missing dynamic library?`. PT_INTERP has its name."""
    program = shutil.which("true")
    assert program is not None
    box = container(["/bin/dynamic"])
    box.bundle.write("bin/dynamic", Path(program).read_bytes(), 0o755)
    create_refused(box, "/process/args/0", "is linked against the interpreter", "/ld-linux", "static program")


def test_a_program_for_another_machine(container):
    machine = 22 if os.uname().machine != "s390x" else 62
    fields = (2, machine, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0, 0)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", *fields)
    box = container(["/app"])
    box.bundle.write("app", header + bytes(100), 0o755)
    create_refused(box, "/process/args/0", "exec format error", f"this machine is {os.uname().machine}", "architecture")


def test_a_script_without_a_first_line(container):
    box = container(["/entry"])
    box.bundle.write("entry", "echo hello\n", 0o755)
    create_refused(box, "exec format error", "neither an ELF program nor a script", "begin the script with #!/bin/sh")


def test_a_program_that_is_not_executable(container):
    box = container(["/entry"])
    box.bundle.write("entry", "#!/bin/sh\n", 0o644)
    create_refused(box, "permission denied", "not executable for this user", "chmod +x")


def test_a_program_that_is_not_in_the_path(container):
    box = container(["nosuch"])
    create_refused(box, "executable file not found in $PATH", "PATH is /", "absolute path")


def test_a_hook_says_why(container):
    """runc#733, crun#2248: which hook, with what it said."""
    script = "echo no bridge br0 >&2; exit 3"
    hooks = [{"path": "/bin/true"}, {"path": "/bin/sh", "args": ["sh", "-c", script]}]
    box = container(hooks={"createRuntime": hooks})
    create_refused(box, "/hooks/createRuntime/1", "createRuntime hook #1", "exit status 3", "no bridge br0")


def test_a_limit_that_may_not_be_raised(container):
    """As root without CAP_SYS_RESOURCE."""
    box = container()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no hard limit to be raised here")
    box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": hard + 1}]
    wrap = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "--"]
    words = ("/process/rlimits/0", str(hard), "CAP_SYS_RESOURCE", "ask for less")
    create_refused(box, *words, wrap=wrap)


def test_an_oom_score_that_may_not_be_lowered(container):
    box = container()
    before = int(Path("/proc/self/oom_score_adj").read_text())
    box.process["oomScoreAdj"] = before - 1
    wrap = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "--"]
    create_refused(box, "/process/oomScoreAdj", f"it is {before} here", "CAP_SYS_RESOURCE", wrap=wrap)


def test_an_apparmor_profile_that_is_not_loaded(container):
    if not Path("/sys/kernel/security/apparmor/profiles").exists():
        pytest.skip("no AppArmor on this host (`make test-vm` has it)")
    box = container()
    box.process["apparmorProfile"] = "pyruntime-nosuch"
    create_refused(box, "/process/apparmorProfile", "not loaded", "apparmor_parser")


def test_what_fails_after_the_exec_fifo_is_told_by_start(container):
    """An error of execve(2) itself, with a reason, from a process that has no channel any more."""
    box = container(["/bin/echo", "x" * 200_000])
    box.create()
    result = box.start(check=None)
    line = error_lines(result)[-1]
    assert result.code == 1
    assert "argument list too long" in line and "128 KiB" in line, line


def test_a_person_gets_three_lines_and_a_log_one(container, runtime):
    """At a terminal: where with its line, the reason, the hint. An engine reads the log, where nothing differs."""
    box = container()
    bind(box.config, "/nosuch/data", "/data")
    box.bundle.save()
    log = runtime.folder / "log"
    master, terminal = pty.openpty()
    command = [runtime.executable.path, "--root", str(runtime.root), "--log", str(log), "create"]
    environment = {**ENVIRONMENT, "NO_COLOR": "1"}
    result = subprocess.run(
        [*command, "--bundle", str(box.bundle.path), box.id], stderr=terminal, env=environment, stdin=subprocess.DEVNULL
    )
    os.close(terminal)
    lines = os.read(master, 65536).decode().splitlines()
    os.close(master)
    assert result.returncode == 1
    text = box.bundle.config_file.read_text().splitlines()
    line = next(number for number, words in enumerate(text, 1) if words.strip() == "{" and "/data" in text[number])
    assert lines == [
        f"pyruntime: create failed at /mounts/5 of config.json, line {line}",
        "  reason  bind /nosuch/data on /data: no such file or directory (ENOENT): the source of the mount is missing",
        "  hint    create it on the host, or correct the source",
    ]
    assert len(log.read_text().splitlines()) == 1
    assert "open_tree(" in log.read_text()
