"""exec: one more process in a container, as the command line asks for it."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from support import kernel, proc
from support.refusal import refused

SLEEP = ["/bin/sleep", "1000"]


@pytest.fixture
def box(container):
    """A running container; `box.execute(words…)` runs exec in it."""

    def make(args=SLEEP, start: bool = True, change=None, **fields):
        made = container(list(args), **fields)
        if change is not None:
            change(made.config)
        made.create()
        if start:
            made.start()
        made.execute = lambda *words, **options: made.runtime.run("exec", *words, **options)
        return made

    return make


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_status(box, code):
    one = box()
    one.execute(one.id, "/bin/sh", "-c", f"exit {code}", check=code)


@pytest.mark.parametrize("number", [2, 9, 15])
def test_a_signal_is_128_and_its_number(box, number):
    one = box()
    one.execute(one.id, "/bin/sh", "-c", f"kill -{number} $$", check=128 + number)


def test_standard_descriptors(box):
    one = box()
    result = one.execute(one.id, "/bin/sh", "-c", "cat; echo err >&2", stdin="from outside\n")
    assert result.stdout == "from outside\n"
    assert result.stderr.splitlines()[-1] == "err"


def test_everything_after_the_id_is_the_command(box):
    one = box()
    assert one.execute(one.id, "/bin/echo", "--tty", "-d", "--", "x").stdout == "--tty -d -- x\n"


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_signals_are_forwarded(box, name):
    one = box()
    script = f'trap "echo got {name}; exit 7" {name}; echo ready; while :; do sleep 0.02; done'
    command = one.runtime.spawn("exec", one.id, "/bin/sh", "-c", script)
    proc.wait_until(lambda: "ready" in command.stdout, "the process runs")
    command.process.send_signal(getattr(signal, f"SIG{name}"))
    result = command.wait()
    assert f"got {name}" in result.stdout
    assert result.code == 7


def test_it_is_in_all_namespaces_of_init(box):
    one = box()
    kinds = "cgroup ipc mnt net pid user uts"
    script = f"for kind in {kinds}; do readlink /proc/self/ns/$kind; done"
    found = one.execute(one.id, "/bin/sh", "-c", script).stdout.split()
    assert found == [proc.namespace(one.pid, kind) for kind in kinds.split()]


@pytest.mark.differs(crun="crun 1.8.1 runs it as root in /")
def test_the_defaults_are_those_of_the_first_process(box):
    def change(config):
        config["process"]["env"] += ["FIRST=1"]
        config["process"]["cwd"] = "/tmp"
        config["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [7, 8]}

    one = box(change=change)
    script = "echo $FIRST; pwd; id -u; id -g; grep Groups /proc/self/status; echo $HOME"
    lines = one.execute(one.id, "/bin/sh", "-c", script).stdout.splitlines()
    expected = ["1", "/tmp", "1000", "1001", "Groups:\t7 8", "/home/ham"]
    assert [line.rstrip() for line in lines] == expected


@pytest.mark.differs(
    runc="the C part of runc 1.1.5 lets Go restore RLIMIT_NOFILE, and it has no umask for exec", crun="no umask"
)
def test_umask_and_limits_are_those_of_the_first_process(box):
    def change(config):
        config["process"]["user"]["umask"] = 0o27
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]

    one = box(change=change)
    assert one.execute(one.id, "/bin/sh", "-c", "umask; ulimit -n; ulimit -Hn").stdout.split() == ["0027", "100", "200"]


def test_env(box):
    one = box()
    words = ("--env", "A=1", "--env", "B=2 3", "--env=A=4", "--env", "TERM=over")
    lines = one.execute(*words, one.id, "/bin/env").stdout.splitlines()
    assert {"A=4", "B=2 3", "TERM=over"} <= set(lines)
    assert not any(line.startswith("OUTSIDE=") for line in lines)


def test_cwd(box):
    one = box()
    assert one.execute("--cwd", "/home", one.id, "/bin/pwd").stdout == "/home\n"


USERS = [
    ("1", (1, 5)),
    ("1:2", (1, 2)),
    ("01", (1, 5)),
    ("0", (0, 5)),
    ("1000:0", (1000, 0)),
    ("-1", None),
    ("1:", None),
    ("1x", None),
    ("1:x", None),
]


@pytest.mark.parametrize("text, expected", USERS)
@pytest.mark.differs(crun="crun 1.8.1 takes some of them for 0 (CVE-2026-30892)", sometimes=True)
def test_user(box, text, expected):
    """CVE-2026-30892: what cannot be read as a number is refused, and never becomes root."""

    def change(config):
        config["process"]["user"] = {"uid": 3, "gid": 5}

    one = box(change=change)
    result = one.execute("--user", text, one.id, "/bin/sh", "-c", "id -u; id -g", check=None)
    if expected is None:
        refused(one.runtime, result, "--user")
        assert not result.stdout
    else:
        assert result.stdout.split() == [str(number) for number in expected]


@pytest.mark.ours
@pytest.mark.parametrize("text", ["+1", "4294967295", "99999999999", "1:4294967295", " 1", "0x1", "\u0661"])
def test_user_is_digits_and_an_id(box, text):
    """runc takes +1 for 1, and cuts what is too large for an id to 32 bits."""
    one = box()
    refused(one.runtime, one.execute("--user", text, one.id, "/bin/id", check=None), "--user")


@pytest.mark.differs(crun="crun 1.8.1 runs it as root")
def test_an_empty_user_is_the_default(box):
    def change(config):
        config["process"]["user"] = {"uid": 3, "gid": 5}

    one = box(change=change)
    assert one.execute("--user", "", one.id, "/bin/id", "-u").stdout == "3\n"


@pytest.mark.differs(crun="crun 1.8.1 has no --additional-gids")
def test_additional_groups(box):
    one = box()
    words = ("-g", "7", "-g", "8", one.id, "/bin/grep", "Groups", "/proc/self/status")
    assert one.execute(*words).stdout.split()[1:] == ["7", "8"]


def capabilities(result) -> dict[str, int]:
    fields = proc.parse_status(result.stdout)
    return {name: int(fields[name], 16) for name in fields}


NET_ADMIN = 1 << 12


def test_cap_is_never_inheritable(box):
    """CVE-2022-29162, CVE-2022-27650."""
    one = box()
    words = ("--cap", "CAP_NET_ADMIN", one.id, "/bin/grep", "^Cap", "/proc/self/status")
    found = capabilities(one.execute(*words))
    assert found["CapInh"] == found["CapAmb"] == 0
    assert all(found[name] & NET_ADMIN for name in ("CapPrm", "CapEff", "CapBnd"))
    assert not capabilities(one.execute(one.id, *words[3:]))["CapBnd"] & NET_ADMIN


def test_cap_is_ambient_only_where_it_can_be(box):
    def change(config):
        config["process"]["capabilities"]["inheritable"] = ["CAP_KILL"]

    one = box(change=change)
    words = ("--cap", "CAP_NET_ADMIN", one.id, "/bin/grep", "^Cap", "/proc/self/status")
    found = capabilities(one.execute(*words))
    assert not (found["CapInh"] | found["CapAmb"]) & NET_ADMIN
    assert found["CapEff"] & NET_ADMIN


def test_no_new_privileges(box):
    def change(config):
        config["process"]["noNewPrivileges"] = False

    one = box(change=change)
    words = (one.id, "/bin/grep", "NoNewPrivs", "/proc/self/status")
    assert one.execute(*words).stdout.split()[1] == "0"
    assert one.execute("--no-new-privs", *words).stdout.split()[1] == "1"


def test_process_file(box, runtime):
    def change(config):
        config["process"]["env"] += ["FIRST=1"]

    one = box(change=change)
    path = runtime.folder / "process.json"
    process = {
        "args": ["/bin/sh", "-c", "id -u; pwd; echo $X-$FIRST"],
        "cwd": "/tmp",
        "env": ["PATH=/bin", "X=y"],
        "user": {"uid": 12, "gid": 13},
    }
    path.write_text(json.dumps(process))
    for flag in (["--process", str(path)], [f"--process={path}"], ["-p", str(path)]):
        lines = one.execute(*flag, one.id).stdout.splitlines()
        assert lines[:3] == ["12", "/tmp", "y-"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", ["line 1"]),
        ('{"cwd": "/", "args": []}', ["args"]),
        ('{"cwd": "relative", "args": ["/bin/true"]}', ["cwd"]),
        ('{"cwd": "/", "args": ["/bin/true"], "user": {"uid": "0"}}', ["/user/uid"]),
    ],
)
@pytest.mark.differs(crun="crun 1.8.1 believes some of it", sometimes=True)
def test_a_bad_process_file_is_refused(box, runtime, text, words):
    one = box()
    path = runtime.folder / "process.json"
    path.write_text(text)
    refused(runtime, one.execute("--process", str(path), one.id, check=None), "process.json", *words)


def test_a_missing_process_file_is_refused(box, runtime):
    one = box()
    refused(runtime, one.execute("-p", "/nosuch.json", one.id, check=None), "/nosuch.json: no such file")


def test_detach_and_pid_file(box, runtime):
    """Detached it becomes the child of the next subreaper, and its pid-file is there when exec returns."""
    one = box()
    path = runtime.folder / "exec.pid"
    one.execute("--detach", "--pid-file", str(path), one.id, "/bin/sh", "-c", "exec sleep 0.4")
    pid = int(path.read_text())
    assert proc.parent(pid) == os.getpid()
    assert proc.namespace(pid, "pid") == proc.namespace(one.pid, "pid")
    _, status = os.waitpid(pid, 0)
    assert status == 0


def test_pid_file_in_the_foreground(box, runtime):
    one = box()
    path = runtime.folder / "exec.pid"
    one.execute("--pid-file", str(path), one.id, "/bin/true")
    assert int(path.read_text()) > 0


NOT_FOUND = [
    ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
    ("/nosuch", 'exec: "/nosuch": stat /nosuch: no such file or directory'),
    ("/etc", 'exec: "/etc": is a directory'),
    ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
]


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("name, words", NOT_FOUND)
def test_what_cannot_be_executed(box, runtime, name, words, detach):
    """With the words that engines look for, and 255, which no engine takes for the process's own status."""
    one = box()
    path = runtime.folder / "exec.pid"
    flags = ["--detach"] if detach else []
    result = one.execute(*flags, "--pid-file", str(path), one.id, name, check=None)
    refused(runtime, result, words)
    if runtime.kind != "crun":
        assert result.code == 255
    assert not path.exists() or not runtime.is_ours


@pytest.mark.ours
def test_no_command_is_refused(box, runtime):
    one = box()
    assert one.execute(one.id, check=255).stderr
    refused(runtime, one.execute(check=None), "id")
    refused(runtime, one.execute("--process", "x", one.id, "/bin/true", check=None), "--process")


def test_unknown_container(runtime):
    result = runtime.run("exec", "nosuch", "/bin/true", check=None)
    refused(runtime, result, "does not exist")


def test_a_stopped_container(box):
    one = box(["/bin/true"])
    proc.wait_until(lambda: one.status() == "stopped", "it stops")
    refused(one.runtime, one.execute(one.id, "/bin/true", check=None), "cannot exec in a stopped container")


def test_a_created_container(box):
    one = box(start=False)
    assert one.execute(one.id, "/bin/echo", "here").stdout == "here\n"
    one.start()


@pytest.mark.differs(crun="crun 1.8.1 has neither the check nor the flag", sometimes=True)
def test_a_paused_container(box, runtime):
    """Refused, unless asked for; then the process runs when the container does."""
    one = box()
    runtime.run("pause", one.id)
    try:
        result = one.execute(one.id, "/bin/true", check=None)
        refused(runtime, result, "cannot exec in a paused container (use --ignore-paused to override)")
        command = runtime.spawn("exec", "--ignore-paused", one.id, "/bin/echo", "late")
    finally:
        runtime.run("resume", one.id)
    assert command.wait().stdout == "late\n"


def test_a_container_that_dies_meanwhile(box, runtime):
    """Whatever the moment, exec ends, and with a status that says so."""
    for delay in (0, 0.005, 0.01, 0.02, 0.03):
        one = box()
        command = runtime.spawn("exec", one.id, "/bin/sleep", "1000")
        time.sleep(delay)
        one.kill("KILL", check=None)
        result = command.wait(10)
        assert result.code in (137, 255, 1), result
        one.delete("--force")


def test_process_file_without_capabilities_has_those_of_the_container(box, runtime):
    one = box()
    path = runtime.folder / "process.json"
    path.write_text(json.dumps({"args": ["/bin/grep", "^CapBnd", "/proc/self/status"], "cwd": "/"}))
    found = capabilities(one.execute("--process", str(path), one.id))["CapBnd"]
    assert found == capabilities(one.execute(one.id, "/bin/grep", "^CapBnd", "/proc/self/status"))["CapBnd"] != 0


@pytest.mark.ours
@pytest.mark.parametrize(
    ("flag", "enabled", "words"),
    [
        ("--process-label", os.path.isdir("/sys/fs/selinux"), "SELinux is not enabled on this host: the label"),
        ("--apparmor", kernel.has_apparmor(), "AppArmor is not enabled on this host: the profile"),
    ],
)
def test_labels_that_cannot_be_applied_are_told(box, flag, enabled, words):
    """tests/linux/test_apparmor.py has one that can."""
    if enabled:
        pytest.skip("it is enabled")
    one = box()
    result = one.execute(flag, "some:thing", one.id, "echo", "fine")
    assert result.stdout == "fine\n"
    assert f"{words} some:thing" in result.stderr
