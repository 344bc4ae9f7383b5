"""The command line: global flags, the log that engines read, list, spec, features, and an environment with
nothing in it."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from pathlib import Path

import pytest
from support import proc
from support.leaks import PREFIX


def log_lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_version(runtime):
    result = runtime.run("--version", root=False)
    assert re.search(r"version \d+\.\d+", result.stdout)
    assert "spec: 1." in result.stdout


def test_version_without_an_environment(runtime):
    """podman's clean-up process calls with none: no PATH, no HOME."""
    assert runtime.run("--version", root=False, env={}, cwd="/").code == 0


@pytest.mark.parametrize("env", [{}, {"XDG_RUNTIME_DIR": ""}], ids=["empty", "as podman has it"])
def test_a_life_without_an_environment(container, env):
    box = container(sh="echo $PATH; exec sleep 100")
    box.create(env=env, cwd="/")
    box.start(env=env, cwd="/")
    box.await_output("/usr/sbin")
    box.delete("--force", env=env, cwd="/")
    assert box.wait() == 137


def test_the_environment_of_the_caller_decides_nothing(container):
    """Variables of the interpreter and of the loader, as containerd's environment has them, with a hostile
    bundle."""
    box = container(sh="echo fine")
    (box.bundle.path / "posix.py").write_text("raise SystemExit(99)\n")
    (box.bundle.path / "libc.so.6").write_text("not a library\n")
    here = str(box.bundle.path)
    env = {
        "PYTHONPATH": here,
        "PYTHONHOME": here,
        "PYTHONSTARTUP": here,
        "LD_LIBRARY_PATH": "",
        "PYTHONINSPECT": "1",
    }
    assert box.run(env=env, cwd=here).stdout == "fine\n"


@pytest.mark.differs(runc="runc 1.1.5 gives the container a directory of the host as stdio", crun="crun 1.8.1 fails")
def test_closed_stdio(container):
    """Descriptors 0 to 2 may be closed: what the runtime opens must not become the container's stdio."""
    box = container(["/bin/sleep", "100"])
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    box.create(wrap=closed)
    assert box.status() == "created"
    box.start(wrap=closed)
    for number in range(3):
        try:
            target = os.readlink(f"/proc/{box.pid}/fd/{number}")
        except FileNotFoundError:
            continue
        assert target in ("/dev/null", "/null"), target


@pytest.mark.parametrize("form", ["separate", "joined"])
@pytest.mark.parametrize("kind", ["json", "text"])
def test_log(container, form, kind):
    """containerd shows its users the message of the last line of level error; Go parses the time."""
    box = container(["nosuch"])
    log = box.runtime.folder / "log"
    if form == "separate":
        flags = ["--log", str(log), "--log-format", kind]
    else:
        flags = [f"--log={log}", f"--log-format={kind}"]
    assert box.create(flags=flags, check=None).code != 0
    if kind == "text":
        assert "nosuch" in log.read_text().splitlines()[-1]
        return
    last = [line for line in log_lines(log) if line["level"] == "error"][-1]
    assert "nosuch" in last["msg"]
    assert datetime.fromisoformat(last["time"].replace("Z", "+00:00")).tzinfo is not None
    assert set(last) >= {"level", "msg", "time"}


@pytest.mark.ours
def test_log_has_the_line_that_stderr_has(container):
    """podman's conmon reads stderr, containerd the log."""
    box = container(["nosuch"])
    log = box.runtime.folder / "log.json"
    result = box.create(flags=["--log", str(log), "--log-format", "json"], check=None)
    assert len([line for line in log_lines(log) if line["level"] == "error"]) == 1
    assert log_lines(log)[-1]["msg"] in result.stderr


def test_log_is_appended_to(container):
    box = container(["nosuch"])
    log = box.runtime.folder / "log.json"
    for _ in range(2):
        box.create(flags=["--log", str(log), "--log-format=json"], check=None)
    assert len([line for line in log_lines(log) if line["level"] == "error"]) >= 2


def test_log_of_a_success_has_no_error(container):
    box = container()
    log = box.runtime.folder / "log.json"
    box.run(flags=["--log", str(log), "--log-format", "json"])
    assert not log.exists() or not [line for line in log_lines(log) if line["level"] == "error"]


def test_log_of_words_that_json_must_quote(container):
    box = container(['no"such\\\n\tü'])
    log = box.runtime.folder / "log.json"
    assert box.create(flags=["--log", str(log), "--log-format", "json"], check=None).code != 0
    assert "such" in log_lines(log)[-1]["msg"]


def test_debug(container):
    box = container(sh="echo fine")
    log = box.runtime.folder / "log.json"
    assert box.run(flags=["--debug", "--log", str(log), "--log-format", "json"]).stdout == "fine\n"
    assert all(line["level"] in ("debug", "info", "warning") for line in log_lines(log))


def test_containerds_command_lines(container):
    """Word for word as its shim calls."""
    box = container(sh='trap "exit 0" TERM; echo ready; while :; do sleep 0.02; done')
    box.bundle.save()
    folder, run = box.bundle.path, box.runtime.run
    flags = ["--log", str(folder / "log.json"), "--log-format", "json"]
    run(
        *("create", "--bundle", folder, "--pid-file", folder / "init.pid", box.id),
        flags=flags,
        cwd=folder,
    )
    run("start", box.id, flags=flags, cwd=folder)
    pid = int((folder / "init.pid").read_text())
    proc.wait_until(lambda: "sh" in proc.read(pid, "comm"), "the process runs")
    run("kill", box.id, "15", flags=flags, cwd=folder, check=0)
    run("kill", "--all", box.id, "9", flags=flags, cwd=folder, check=None)
    os.waitpid(pid, 0)
    run("delete", box.id, flags=flags, cwd=folder)
    run("delete", "--force", box.id, flags=flags, cwd=folder)


def test_root_with_an_equals_sign(container, scratch):
    box = container(["/bin/sleep", "100"])
    box.bundle.save()
    root = box.runtime.root
    box.runtime.run(f"--root={root}", "create", "--bundle", box.bundle.path, box.id, root=False)
    assert box.status() == "created"


@pytest.mark.ours
@pytest.mark.parametrize("flags", [["--rootless", "false"], ["--rootless=auto"], ["--criu", "/x"]], ids=" ".join)
def test_flags_of_older_callers(container, flags):
    assert container(sh="echo fine").run(flags=flags).stdout == "fine\n"


@pytest.mark.ours
@pytest.mark.parametrize("flag", ["--no-subreaper", "-no-subreaper", "--no-new-keyring"])
def test_flags_of_run(container, flag):
    assert container(sh="echo fine").run(flag).stdout == "fine\n"


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["create", "--help"], ["run", "--help"]], ids=" ".join)
def test_help(runtime, words):
    if words == ["-h"] and runtime.kind == "crun":
        pytest.skip("crun 1.8.1 has no -h")
    text = runtime.run(*words, root=False).stdout
    assert "create" in text or "--bundle" in text


@pytest.mark.differs(crun="crun 1.8.1 calls it by the id alone")
def test_session_keyring(container):
    """A new one for each container, unless --no-new-keyring: /proc/keys shows what a process can see."""
    box = container(sh="cat /proc/keys")
    assert f"_ses.{box.id}" in box.run().stdout
    other = container(sh="cat /proc/keys")
    assert f"_ses.{other.id}" not in other.run("--no-new-keyring").stdout


@pytest.mark.differs(crun="crun 1.8.1 calls it by the id alone", sometimes=True)
@pytest.mark.parametrize("flags", [[], ["--no-new-keyring"]], ids=["of its own", "of the caller"])
def test_session_keyring_of_exec(container, flags):
    """What is run in the container later has the keyring that its first process got."""
    box = container(["/bin/sleep", "100"])
    box.create(*flags)
    box.start()
    keys = box.runtime.run("exec", box.id, "cat", "/proc/keys").stdout
    assert (f"_ses.{box.id}" in keys) == (not flags)


class TestList:
    def test_nothing(self, runtime):
        runtime.root.mkdir()
        assert runtime.run("list", "-q").stdout == ""
        assert json.loads(runtime.run("list", "-f", "json").stdout) in ([], None)

    @pytest.mark.differs(runc="runc 1.1.5 prints an empty list", crun="crun 1.8.1 makes the directory")
    def test_a_root_that_does_not_exist(self, runtime):
        result = runtime.run("list", check=1)
        assert "no such file or directory" in result.stderr
        assert not runtime.root.exists()

    def test_statuses(self, container):
        created, running, stopped = (container(["/bin/sleep", "100"]) for _ in range(3))
        for box in (created, running, stopped):
            box.create()
        running.start()
        stopped.kill("KILL")
        stopped.wait()
        listed = json.loads(created.runtime.run("list", "--format", "json").stdout)
        assert {one["id"]: one["status"] for one in listed} == {
            created.id: "created",
            running.id: "running",
            stopped.id: "stopped",
        }
        assert {one["id"]: one["pid"] for one in listed}[running.id] == running.pid
        assert {one["bundle"] for one in listed} == {str(box.bundle.path) for box in (created, running, stopped)}

    def test_quiet(self, container):
        boxes = [container(["/bin/sleep", "100"]) for _ in range(2)]
        for box in boxes:
            box.create()
        for flag in ("-q", "--quiet"):
            assert sorted(boxes[0].runtime.run("list", flag).stdout.split()) == sorted(box.id for box in boxes)

    @pytest.mark.parametrize("words", [[], ["-f", "table"], ["--format=table"]], ids=" ".join)
    def test_table(self, container, words):
        box = container(["/bin/sleep", "100"])
        box.create()
        title, line = box.runtime.run("list", *words).stdout.splitlines()
        assert title.split()[:4] == ["ID", "PID", "STATUS", "BUNDLE"] or box.runtime.kind == "crun"
        assert {box.id, str(box.pid), "created", str(box.bundle.path)} <= set(line.split())

    def test_a_broken_record_hides_no_other(self, container):
        box = container(["/bin/sleep", "100"])
        box.create()
        (box.runtime.root / f"{PREFIX}-broken").mkdir()
        try:
            assert box.id in box.runtime.run("list", "-q", check=None).stdout.split()
        finally:
            (box.runtime.root / f"{PREFIX}-broken").rmdir()


class TestSpec:
    def test_it_runs(self, bundle, container):
        """What it writes is a config that works, once the terminal is turned off and there is a rootfs."""
        box = container()
        box.runtime.run("spec", "--bundle", box.bundle.path)
        config = json.loads(box.bundle.config_file.read_text())
        assert config["process"]["terminal"] is True
        config["process"]["terminal"] = False
        config["process"]["args"] = ["/bin/sh", "-c", "hostname; id -u; grep -c . /proc/self/mountinfo"]
        config["linux"]["cgroupsPath"] = box.config["linux"]["cgroupsPath"]
        # The rlimits and capabilities that it asks for must be such as any root can have.
        box.bundle.save_raw(json.dumps(config).encode())
        hostname, uid, mounts = box.run().stdout.split()
        assert hostname == config["hostname"]
        assert uid == "0"
        assert int(mounts) > 5

    def test_it_is_written_to_the_working_directory(self, runtime):
        runtime.run("spec", cwd=runtime.folder)
        assert json.loads((runtime.folder / "config.json").read_text())["root"]["path"] == "rootfs"

    def test_it_replaces_nothing(self, runtime):
        (runtime.folder / "config.json").write_text("mine")
        assert runtime.run("spec", cwd=runtime.folder, check=None).code != 0
        assert (runtime.folder / "config.json").read_text() == "mine"

    @pytest.mark.differs(crun="crun 1.8.1 asks for a network namespace")
    def test_rootless(self, runtime):
        runtime.run("spec", "--rootless", cwd=runtime.folder)
        linux = json.loads((runtime.folder / "config.json").read_text())["linux"]
        types = {one["type"] for one in linux["namespaces"]}
        assert "user" in types
        assert "network" not in types
        assert linux["uidMappings"][0]["containerID"] == 0
        assert "resources" not in linux or not linux["resources"]

    @pytest.mark.parametrize("flags", [(), ("--rootless",)])
    def test_what_runc_writes(self, runtime, flags):
        """The cgroup mount is there also for an ordinary user, a cgroup namespace on cgroup v2 only."""
        runtime.run("spec", *flags, cwd=runtime.folder)
        config = json.loads((runtime.folder / "config.json").read_text())
        assert [one["destination"] for one in config["mounts"]][-2:] == ["/sys", "/sys/fs/cgroup"]
        types = {one["type"] for one in config["linux"]["namespaces"]}
        assert ("cgroup" in types) == Path("/sys/fs/cgroup/cgroup.controllers").exists()


@pytest.mark.differs(crun="crun 1.8.1 has no such command")
def test_features(runtime):
    """runtime-spec features.md; containerd decides by it whether to ask for idmap and rro."""
    seen = json.loads(runtime.run("features").stdout)
    assert seen["ociVersionMin"].startswith("1.")
    assert set(seen["hooks"]) == {
        *("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    }
    assert {"ro", "rbind", "nosuid", "rro", "rprivate"} <= set(seen["mountOptions"])
    assert {"mount", "pid", "network", "ipc", "uts", "user", "cgroup"} <= set(seen["linux"]["namespaces"])
    assert {"CAP_CHOWN", "CAP_SYS_ADMIN"} <= set(seen["linux"]["capabilities"])
    assert seen["linux"]["cgroup"]["v1"] in (True, False)
