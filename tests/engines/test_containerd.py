"""containerd and its runc shim, driven by ctr."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import proc

from engines.containerd import SNAPSHOTTERS, Containerd

CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture
def engine(containerd: Containerd):
    """The containerd of the candidate; a test's containers are removed after it."""
    yield containerd
    for name in containerd.containers():
        containerd.remove(name)


@pytest.mark.parametrize("snapshotter", SNAPSHOTTERS)
def test_run(engine, snapshotter):
    """run: output and exit status 0"""
    assert engine.run("echo", "hello", snapshotter=snapshotter).stdout == "hello\n"


@pytest.mark.parametrize("snapshotter", SNAPSHOTTERS)
def test_root_is_writable(engine, snapshotter):
    """run: the root filesystem is writable"""
    script = "echo kept >/etc/new && cat /etc/new"
    assert engine.run("sh", "-c", script, snapshotter=snapshotter).stdout == "kept\n"


@pytest.mark.parametrize("code", [1, 42, 255])
def test_exit_code(engine, code):
    """run: exit status"""
    engine.run("sh", "-c", f"exit {code}", check=code)


def test_death_by_signal(engine):
    """run: 128 + N when signal N ended it"""
    name = engine.run_detached()
    engine.ctr("task", "kill", "--signal", "SIGKILL", name)
    assert engine.reap(name) == 137


def test_missing_command(engine):
    """run: a missing command is told in runc's words"""
    result = engine.run("nosuch", check=1)
    assert "executable file not found in $PATH" in result.stderr, result
    assert "OCI runtime create failed" in result.stderr, result


def test_missing_file(engine):
    """run: a missing file is told in runc's words"""
    result = engine.run("/no/such", check=1)
    assert "no such file or directory" in result.stderr, result


def test_not_executable(engine):
    """run: a file that is not executable is told in runc's words"""
    result = engine.run("/etc/passwd", check=1)
    assert "permission denied" in result.stderr, result


def test_environment(engine):
    """run: --env, --cwd"""
    flags = ("--env", "ANSWER=42", "--cwd", "/tmp")
    assert engine.run("sh", "-c", "echo $ANSWER; pwd", flags=flags).stdout == "42\n/tmp\n"


def test_terminal(engine):
    """run -t: a controlling terminal, /dev/console, what is typed arrives"""
    script = "tty; ls -l /dev/console | cut -c 1; read line; echo got $line; exit 5"
    words = engine.run_words(engine.name(), ["sh", "-c", script], ["--rm", "--tty"])
    result = engine.ctr_on_terminal(*words, talk=[("\nc", "typed\n")], check=5)
    assert "/dev/pts/0" in result.stdout, result
    assert "got typed" in result.stdout, result


def test_detached(engine):
    """run -d: runs on, with init as its pid 1"""
    name = engine.run_detached("sh", "-c", "sleep 1000 & wait")
    assert engine.tasks()[name][1] == "RUNNING"
    assert engine.exec(name, "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline").stdout == "sh -c sleep 1000 & wait "
    assert proc.parse_status(proc.read(engine.pid(name), "status"))["NSpid"].split()[-1] == "1"


def test_pid_file_and_shim(engine):
    """run -d: init is the shim's child"""
    name = engine.run_detached()
    assert "containerd-shim-runc-v2" in proc.read(engine.shim(name), "cmdline")


def test_exec(engine):
    """exec: output and exit status"""
    name = engine.run_detached()
    assert engine.exec(name, "echo", "hi").stdout == "hi\n"
    engine.exec(name, "sh", "-c", "exit 9", check=9)
    assert engine.tasks()[name][1] == "RUNNING"


def test_exec_joins(engine):
    """exec: the namespaces and cgroups of init"""
    name = engine.run_detached()
    look = "for n in ipc mnt net pid uts cgroup; do readlink /proc/$0/ns/$n; done; cat /proc/$0/cgroup"
    inside = engine.exec(name, "sh", "-c", look.replace("$0", "self")).stdout
    assert inside == engine.exec(name, "sh", "-c", look.replace("$0", "1")).stdout


def test_exec_user_and_directory(engine):
    """exec: --user, --cwd"""
    name = engine.run_detached()
    assert engine.exec(name, "id", "-u", flags=("--user", "1000:1000")).stdout == "1000\n"
    assert engine.exec(name, "id", "-un", flags=("--user", "alice")).stdout == "alice\n"
    assert engine.exec(name, "pwd", flags=("--cwd", "/home/alice")).stdout == "/home/alice\n"


def test_exec_terminal(engine):
    """exec -t: a terminal of its own"""
    name = engine.run_detached()
    words = ("task", "exec", "--exec-id", "tty", "--tty", name, "sh", "-c", "tty; read line; echo got $line; exit 6")
    result = engine.ctr_on_terminal(*words, talk=[("/dev/pts/0", "typed\n")], check=6)
    assert "got typed" in result.stdout, result


def test_exec_missing_command(engine):
    """exec: a missing command is told, and the container runs on"""
    name = engine.run_detached()
    result = engine.exec(name, "nosuch", check=1)
    assert "executable file not found in $PATH" in result.stderr, result
    assert engine.exec(name, "true").code == 0


def test_exec_is_killed(engine):
    """exec: killed by its exec id"""
    name = engine.run_detached()
    engine.ctr("task", "exec", "--detach", "--exec-id", "victim", name, "sleep", "999")
    assert len(engine.processes(name)) == 2
    engine.ctr("task", "kill", "--signal", "SIGKILL", "--exec-id", "victim", name)
    proc.wait_until(lambda: len(engine.processes(name)) == 1, "the exec'd process is gone")
    assert engine.tasks()[name][1] == "RUNNING"


def test_kill(engine):
    """kill: init handles a signal"""
    name = engine.run_detached("sh", "-c", "trap 'exit 33' USR1; touch /ready; while :; do sleep 0.05; done")
    proc.wait_until(lambda: engine.exec(name, "test", "-e", "/ready", check=None).code == 0, "the trap is set")
    engine.ctr("task", "kill", "--signal", "SIGUSR1", name)
    assert engine.reap(name) == 33


def test_kill_all(engine):
    """kill --all: every process, also in a shared pid namespace after init has died"""
    shared = ("--with-ns", f"pid:/proc/{os.getpid()}/ns/pid")
    name = engine.run_detached("sh", "-c", "sleep 998 & exec sleep 1000", flags=shared)
    proc.wait_until(lambda: len(engine.processes(name)) == 2, "two processes")
    pids = engine.processes(name)
    os.kill(engine.pid(name), signal.SIGKILL)
    proc.wait_until(lambda: all(proc.process_state(pid) in ("", "Z") for pid in pids), "all are gone")
    engine.await_status(name, "STOPPED")
    other = engine.run_detached("sh", "-c", "sleep 998 & sleep 1000")
    engine.ctr("task", "kill", "--all", "--signal", "SIGKILL", other)
    engine.await_status(other, "STOPPED")


def test_kill_of_the_dead(engine):
    """kill: a container that has ended is not found, and can be removed"""
    name = engine.run_detached("true")
    engine.await_status(name, "STOPPED")
    result = engine.ctr("task", "kill", name, check=None)
    assert result.code == 0 or "not found" in result.stderr, result
    engine.ctr("task", "rm", name)


def test_pause(engine):
    """pause, resume: nothing runs in between"""
    name = engine.run_detached("sh", "-c", "while :; do echo x >>/tmp/x; sleep 0.02; done")
    file = Path(f"/proc/{engine.pid(name)}/root/tmp/x")
    proc.wait_until(file.exists, "it runs")
    engine.ctr("task", "pause", name)
    assert engine.tasks()[name][1] == "PAUSED"
    size = file.stat().st_size
    time.sleep(0.3)
    assert file.stat().st_size == size
    engine.ctr("task", "resume", name)
    assert engine.tasks()[name][1] == "RUNNING"
    proc.wait_until(lambda: file.stat().st_size > size, "it runs again")


def test_exec_into_paused(engine):
    """exec: refused in a paused container"""
    name = engine.run_detached()
    engine.ctr("task", "pause", name)
    result = engine.exec(name, "true", check=1)
    assert "paused" in result.stderr, result
    engine.ctr("task", "resume", name)


def test_ps(engine):
    """ps: the pids of init and of an exec'd process"""
    name = engine.run_detached()
    assert engine.processes(name) == [engine.pid(name)]
    engine.ctr("task", "exec", "--detach", "--exec-id", "more", name, "sleep", "999")
    assert len(engine.processes(name)) == 2


def test_metrics(engine):
    """metrics: memory, cpu and pids of the container"""
    name = engine.run_detached(flags=("--memory-limit", str(64 << 20)))
    metrics = engine.metrics(name)
    assert metrics["memory"]["usage"]["limit"] == 64 << 20
    assert metrics["cpu"]["usage"]["total"] > 0
    assert metrics["pids"]["current"] == 1


def test_memory_limit(engine):
    """--memory-limit: in the cgroup, and who exceeds it is killed"""
    name = engine.run_detached(flags=("--memory-limit", str(32 << 20)))
    file = CGROUPS / f"memory{engine.cgroup(name)}/memory.limit_in_bytes"
    assert int(file.read_text()) == 32 << 20
    engine.run("sh", "-c", "head -c 100000000 /dev/zero | tail -c 90000000 >/dev/null; exit $?", check=137,
               flags=("--memory-limit", str(16 << 20)))  # fmt: skip


def test_cpu_limit(engine):
    """--cpus: the quota in the cgroup"""
    name = engine.run_detached(flags=("--cpus", "0.25"))
    folder = CGROUPS / f"cpu{engine.cgroup(name)}"
    quota, period = (int((folder / f"cpu.cfs_{word}_us").read_text()) for word in ("quota", "period"))
    assert quota * 4 == period


def test_cpu_shares(engine):
    """--cpu-shares"""
    name = engine.run_detached(flags=("--cpu-shares", "512"))
    assert (CGROUPS / f"cpu{engine.cgroup(name)}/cpu.shares").read_text() == "512\n"


@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_mount(engine, mode):
    """--mount: a directory of the host"""
    folder = engine.folder / f"mounted-{mode}"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("shared\n")
    flags = ("--mount", f"type=bind,src={folder},dst=/mnt,options=rbind:{mode}")
    result = engine.run("sh", "-c", "cat /mnt/file; echo new >/mnt/new; exit $?", flags=flags, check=None)
    assert result.stdout == "shared\n", result
    assert result.code == (0 if mode == "rw" else 1)
    assert (folder / "new").exists() == (mode == "rw")


def test_tmpfs(engine):
    """--mount: a tmpfs with a size"""
    flags = ("--mount", "type=tmpfs,src=tmpfs,dst=/scratch,options=size=1m:nosuid")
    line = engine.run("grep", " /scratch ", "/proc/mounts", flags=flags).stdout
    assert "size=1024k" in line
    assert "nosuid" in line


def test_read_only(engine):
    """--read-only"""
    result = engine.run("touch", "/new", flags=("--read-only",), check=1)
    assert "Read-only file system" in result.stderr, result


def test_unprivileged(engine):
    """run: capabilities of a container only, masked and read-only paths"""
    engine.run("mount", "-t", "tmpfs", "x", "/tmp", check=1)
    engine.run("sh", "-c", "echo 1 >/proc/sys/vm/swappiness", check=1)
    assert engine.run("cat", "/proc/timer_list").stdout == ""


def test_privileged(engine):
    """--privileged: may mount, sees /proc/sys writable"""
    engine.run("mount", "-t", "tmpfs", "x", "/tmp", flags=("--privileged",))
    engine.run("sh", "-c", ": >>/proc/sys/vm/swappiness", flags=("--privileged",))


def test_capabilities(engine):
    """--cap-add, --cap-drop"""
    engine.run("mount", "-t", "tmpfs", "x", "/tmp", flags=("--cap-add", "CAP_SYS_ADMIN"))
    engine.run("chown", "1000", "/tmp", flags=("--cap-drop", "CAP_CHOWN"), check=1)


def test_seccomp(engine):
    """--seccomp: containerd's own profile"""
    status = proc.parse_status(engine.run("cat", "/proc/self/status", flags=("--seccomp",)).stdout)
    assert status["Seccomp"] == "2"
    assert engine.run("unshare", "-U", "true", check=None).code == 0
    engine.run("unshare", "-U", "true", flags=("--seccomp",), check=1)


def test_seccomp_profile(engine):
    """--seccomp-profile: a profile of the user's"""
    profile = engine.folder / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    result = engine.run("mkdir", "/tmp/x", flags=("--seccomp", "--seccomp-profile", str(profile)), check=1)
    assert "No space left on device" in result.stderr, result


def test_host_network(engine):
    """--net-host: the network namespace of containerd"""
    theirs = f"/proc/{engine.network.pid}/ns/net"
    assert engine.run("readlink", "/proc/self/ns/net", flags=("--net-host",)).stdout.strip() == os.readlink(theirs)


def test_user_namespace(engine):
    """--uidmap, --gidmap: root inside is an ordinary user outside"""
    flags = ("--uidmap", "0:400000:65536", "--gidmap", "0:400000:65536", "--remap-labels")
    name = engine.run_detached(flags=flags)
    assert proc.parse_status(proc.read(engine.pid(name), "status"))["Uid"].split() == ["400000"] * 4
    assert engine.exec(name, "id", "-u").stdout == "0\n"
    if not re.search(r"Version: +v?1\.6", engine.ctr("version").stdout):  # which does not shift an overlay's owners
        assert engine.exec(name, "sh", "-c", "touch /file; stat -c %u /file /bin/busybox").stdout == "0\n0\n"


def test_log_uri(engine):
    """--log-uri: the output goes to a file"""
    log = engine.folder / "output.log"
    name = engine.run_detached("sh", "-c", "echo to the log; echo and this >&2", flags=("--log-uri", f"file://{log}"))
    engine.await_status(name, "STOPPED")
    assert sorted(log.read_text().splitlines()) == ["and this", "to the log"]


def test_checkpoint(engine, criu, tmp_path):
    """container checkpoint --task, restore --live: a number in memory goes on where it was"""
    script = "i=0; while :; do i=$((i+1)); echo $i >/mnt/new; mv /mnt/new /mnt/count; sleep 0.1; done"
    file = tmp_path / "count"
    flags = ("--mount", f"type=bind,src={tmp_path},dst=/mnt,options=rbind:rw")
    name, again = engine.run_detached("sh", "-c", script, flags=flags), engine.name()
    proc.wait_until(lambda: file.exists() and int(file.read_text()) > 5, "it counts", 10)
    engine.ctr("container", "checkpoint", "--image", "--rw", "--task", name, f"checkpoint/{name}", timeout=60)
    engine.ctr("task", "kill", "--signal", "SIGKILL", name)
    assert engine.reap(name) == 137
    last = int(file.read_text())
    engine.ctr("container", "restore", "--live", "--rw", again, f"checkpoint/{name}", timeout=60)
    before = int(file.read_text())
    proc.wait_until(lambda: int(file.read_text()) not in (before, last), "it counts on", 10)
    assert last - 100 < int(file.read_text()) < last + 500
    engine.ctr("task", "kill", "--signal", "SIGKILL", again)
    assert engine.reap(again) == 137


def test_in_parallel(engine):
    """20 containers in parallel: run, exec, kill, removed"""

    def one(number: int) -> str:
        name = engine.run_detached(flags=("--env", f"NUMBER={number}"))
        # ctr 1.6 may lose the output of a process that ends before ctr has opened its pipe, with runc too.
        output = engine.exec(name, "sh", "-c", "echo $NUMBER; sleep 0.2").stdout
        engine.ctr("task", "kill", "--signal", "SIGKILL", name)
        engine.await_status(name, "STOPPED")
        engine.remove(name)
        return output

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(one, range(20))) == [f"{number}\n" for number in range(20)]
    assert engine.tasks() == {}


def test_shim_is_killed(engine):
    """a shim that was SIGKILLed: containerd cleans up with `delete --force`"""
    name = engine.run_detached()
    pid, shim = engine.pid(name), engine.shim(name)
    os.kill(shim, signal.SIGKILL)
    proc.wait_until(lambda: proc.process_state(pid) in ("", "Z"), "init is killed")
    proc.wait_until(lambda: name not in engine.tasks(), "the task is gone")
    engine.ctr("container", "rm", name)
    proc.wait_until(lambda: not engine.traces(name), "no state and no cgroup is left")


def test_containerd_is_killed(engine):
    """containerd is SIGKILLed and started again: containers live on and obey"""
    name = engine.run_detached()
    pid = engine.pid(name)
    engine.kill_daemon()
    assert proc.process_state(pid) not in ("", "Z")
    engine.start()
    assert engine.tasks()[name] == (pid, "RUNNING")
    assert engine.exec(name, "echo", "still here").stdout == "still here\n"
    engine.ctr("task", "kill", "--signal", "SIGKILL", name)
    assert engine.reap(name) == 137


def test_nothing_is_left(engine):
    """removed containers leave no state and no cgroups"""
    name = engine.run_detached("sh", "-c", "sleep 998 & sleep 1000")
    engine.exec(name, "true")
    engine.remove(name)
    assert engine.traces(name) == []
