"""doctor: what this host lacks for containers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support.command_line import CHECKOUT, command, pyruntime
from support.filtered import without_clone3

from pyruntime.cgroupfs import layout
from pyruntime.diagnose import doctor, host_facts


def test_a_table_and_an_exit_status() -> None:
    result = pyruntime("--root", "/tmp", "doctor")
    words = [line.split()[0] for line in result.stdout.splitlines() if line and not line.startswith(" ")]
    assert set(words[:-1]) <= {"ok", "warning", "error"}
    assert result.returncode == int("error" in words)
    assert result.stdout.splitlines()[-1].startswith("this host can")


def test_the_page_has_a_row_for_each_subject() -> None:
    page = (CHECKOUT / "docs/doctor.md").read_text().rpartition("| subject |")[2]
    rows = {name for line in page.splitlines()[2:] for name in line.split("|")[1].strip().split(", ")}
    answer = json.loads(pyruntime("--root", "/tmp", "doctor", "--format", "json").stdout)
    assert {one["subject"] for one in answer["checks"]} <= rows


def test_json() -> None:
    result = pyruntime("--root", "/tmp", "doctor", "--format", "json")
    answer = json.loads(result.stdout)
    assert answer["able"] is (result.returncode == 0)
    subjects = [one["subject"] for one in answer["checks"]]
    assert len(subjects) == len(set(subjects)) >= 14
    for one in answer["checks"]:
        assert one["found"]
        assert bool(one["follows"]) is bool(one["hint"]) is (one["status"] != "ok"), one


def test_wrong_words() -> None:
    assert pyruntime("doctor", "box").returncode == 1
    assert pyruntime("doctor", "--format", "sarif").returncode == 1


def test_a_place_for_state_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    checks = {one.subject: one for one in doctor.examine(layout.find(), f"{tmp_path}/new/dir", False)}
    assert checks["state"].status == "ok"
    if os.geteuid() != 0:
        checks = {one.subject: one for one in doctor.examine(layout.find(), "/proc/1", False)}
        assert checks["state"].status == "error"


def test_no_cgroups() -> None:
    checks = {one.subject: one for one in doctor.examine(layout.Layout(()), "/tmp", False)}
    assert checks["cgroups"].status == "warning"
    assert "nothing is mounted" in checks["cgroups"].found
    assert doctor.can_run([checks["cgroups"]])


def in_trouble(*wrap: str) -> dict[str, dict[str, str]]:
    """What doctor says in other surroundings, which only root can make."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes the trouble")
    words = [*wrap, *command("--root", "/tmp", "doctor", "-f", "json")]
    result = subprocess.run(words, capture_output=True, text=True, cwd=CHECKOUT)
    assert result.stdout, result.stderr
    return {one["subject"]: one for one in json.loads(result.stdout)["checks"]}


def test_without_a_place_for_state() -> None:
    """The lack of XDG_RUNTIME_DIR is a finding of doctor, not an error of its command line."""
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    words = command("doctor", "-f", "json")
    if os.geteuid() == 0:
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *words]
        if subprocess.run([*words[:6], "--version"], capture_output=True).returncode:
            pytest.skip("the interpreter of the tests cannot be reached by an ordinary user")
    result = subprocess.run(words, capture_output=True, text=True, cwd=CHECKOUT, env=environment)
    assert result.stdout, result.stderr
    state = next(one for one in json.loads(result.stdout)["checks"] if one["subject"] == "state")
    assert (state["status"], state["found"][:15]) == ("error", "XDG_RUNTIME_DIR")


@pytest.mark.parametrize(
    ("ranges", "helper", "hint"),
    [
        ([(100000, 65536)], "", "install newuidmap (package uidmap)"),
        ([], "/usr/bin/newuidmap", "usermod --add-subuids 100000-165535 USER"),
        ([(100000, 65536)], "/usr/bin/newuidmap", ""),
    ],
)
def test_the_hint_is_for_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, ranges: object, helper: str, hint: str
) -> None:
    monkeypatch.setattr(host_facts, "subordinate", lambda file: ranges)
    monkeypatch.setattr(host_facts, "program", lambda name: helper)
    checks = {one.subject: one for one in doctor._rootless()}
    assert checks["subuid"].hint == hint


def test_criu_that_does_not_work_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "criu"
    lines = "echo 'Warn  (criu/x.c:1): hm' >&2; echo 'Error (criu/y.c:2): no vDSO' >&2"
    program.write_text(f"#!/bin/sh\n{lines}; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(host_facts, "program", lambda name: str(program))
    check = doctor._criu(rootless=False)
    assert (check.status, check.found) == ("warning", f"{program}: criu check fails: Error (criu/y.c:2): no vDSO")
    program.write_text("#!/bin/sh\ntest $1 = check\n")
    assert doctor._criu(rootless=False).status == "ok"


def test_root_without_its_capabilities() -> None:
    found = in_trouble("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--")["capabilities"]
    assert found["status"] == "error" and "CAP_SYS_ADMIN" in found["found"]


def test_a_limit_on_namespaces() -> None:
    script = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"'
    found = in_trouble("unshare", "-Ur", "--", "sh", "-c", script, "sh")["namespace limits"]
    assert found["status"] == "warning" and "user.max_net_namespaces = 0" in found["found"]


def test_cgroups_that_are_read_only() -> None:
    each = "for one in $(findmnt -rno TARGET -t cgroup,cgroup2); do mount -o remount,bind,ro $one; done"
    found = in_trouble("unshare", "-m", "--", "sh", "-c", f'{each}; exec "$@"', "sh")["cgroup rights"]
    assert found["status"] == "warning" and "not writable" in found["found"]


def test_a_filter_that_hides_clone3() -> None:
    found = in_trouble(*without_clone3())["system calls"]
    assert (found["status"], found["found"]) == ("error", "not there: clone3")
    assert "seccomp profile" in found["hint"]
