"""dockerd."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from support import leaks, proc

from engines import command
from engines.docker import IMAGE, Docker

BUSY = ("sh", "-c", "while :; do :; done")


@pytest.fixture
def engine(docker: Docker):
    """The docker of the candidate; a test's containers are removed after it."""
    yield docker
    docker.remove_all()


def test_run(engine):
    """run: output and exit status 0"""
    assert engine.run("echo", "hello").stdout == "hello\n"


def test_info(engine):
    """info: asks the runtime for its version without complaint"""
    info = engine("info", "--format", "{{.DefaultRuntime}} {{json .ServerErrors}}").stdout
    assert info == "candidate null\n"


@pytest.mark.parametrize("code", [1, 42, 255])
def test_exit_code(engine, code):
    """run: exit status"""
    engine.run("sh", "-c", f"exit {code}", check=code)


def test_missing_command(engine):
    """run: 127 for a missing command, 126 for one that cannot be executed"""
    result = engine.run("nosuch", check=127)
    assert "executable file not found in $PATH" in result.stderr, result
    engine.run("/no/such", check=127)
    engine.run("/etc/passwd", check=126)
    engine.run("/etc", check=126)


def test_input(engine):
    """run -i: standard input arrives"""
    assert engine.run("cat", flags=["--interactive"], input="typed\n").stdout == "typed\n"


def test_terminal(engine):
    """run -it: a terminal"""
    script = "tty; read line; echo got $line; exit 5"
    words = ("run", "--rm", "-it", "--network=none", IMAGE, "sh", "-c", script)
    result = engine.on_terminal(*words, talk=[("/dev/pts/0", "typed\n")], check=5)
    assert "got typed" in result.stdout


def test_logs(engine):
    """run -d, logs, wait"""
    name = engine.run_detached("sh", "-c", "echo out; echo err >&2; exit 3")
    assert engine.await_exit(name) == 3
    logs = engine("logs", name)
    assert (logs.stdout, logs.stderr) == ("out\n", "err\n")


def test_exec(engine):
    """exec: output, exit status, --user, --workdir, --env"""
    name = engine.run_detached()
    assert engine.exec(name, "echo", "hi").stdout == "hi\n"
    engine.exec(name, "sh", "-c", "exit 9", check=9)
    flags = ["--user=alice", "--workdir=/tmp", "--env=ANSWER=42"]
    assert engine.exec(name, "sh", "-c", "id -un; pwd; echo $ANSWER", flags=flags).stdout == "alice\n/tmp\n42\n"


def test_exec_missing_command(engine):
    """exec: a missing command and one that cannot be executed are told"""
    name = engine.run_detached()
    # docker 20.10 exits with 126 for both.
    result = engine.exec(name, "nosuch", check=None)
    assert result.code in (126, 127)
    assert "executable file not found in $PATH" in result.stdout + result.stderr, result
    result = engine.exec(name, "/etc/passwd", check=126)
    assert "permission denied" in result.stdout + result.stderr, result


def test_exec_terminal(engine):
    """exec -it: a terminal of its own"""
    name = engine.run_detached()
    words = ("exec", "-it", name, "sh", "-c", "tty; read line; echo got $line; exit 6")
    result = engine.on_terminal(*words, talk=[("/dev/pts/0", "typed\n")], check=6)
    assert "got typed" in result.stdout


def test_top(engine):
    """top, ps: pid 1 inside, an exec'd process beside it"""
    name = engine.run_detached()
    engine.exec(name, "sleep", "999", flags=["--detach"])
    proc.wait_until(lambda: "sleep 999" in engine("top", name).stdout, "top shows the exec'd process")
    pid = engine.state(name)["Pid"]
    assert proc.parse_status(proc.read(pid, "status"))["NSpid"].split() == [str(pid), "1"]
    assert name in engine("ps", "--format", "{{.Names}}").stdout


def test_stats(engine):
    """stats: memory and pids"""
    name = engine.run_detached(flags=["--memory=64m"])
    words = engine("stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", name).stdout.split()
    assert words[0] == "1"
    assert words[-1] == "64MiB"


def test_pause(engine):
    """pause, unpause"""
    name = engine.run_detached("sh", "-c", "while :; do echo x >>/tmp/x; sleep 0.02; done")
    file = Path(f"/proc/{engine.state(name)['Pid']}/root/tmp/x")
    proc.wait_until(file.exists, "it runs")
    engine("pause", name)
    assert engine.state(name)["Status"] == "paused"
    size = file.stat().st_size
    time.sleep(0.3)
    assert file.stat().st_size == size
    result = engine.exec(name, "true", check=1)
    assert "paused" in result.stderr
    engine("unpause", name)
    proc.wait_until(lambda: file.stat().st_size > size, "it runs again")


def test_kill_and_restart(engine):
    """kill, start, restart, stop, rm"""
    name = engine.run_detached()
    engine("kill", name)
    assert engine.await_exit(name) == 137
    engine("start", name)
    first = engine.state(name)["Pid"]
    engine("restart", "--time=0", name)
    assert engine.state(name)["Pid"] not in (0, first)
    engine("stop", "--time=0", name)
    assert engine.state(name)["Status"] == "exited"
    engine("rm", name)
    engine("inspect", name, check=1)


def test_stop_is_heard(engine):
    """stop: SIGTERM first, which pid 1 may handle"""
    name = engine.run_detached("sh", "-c", "trap 'exit 33' TERM; echo ready; while :; do sleep 0.05; done")
    proc.wait_until(lambda: "ready" in engine("logs", name).stdout, "the trap is set")
    engine("stop", "--time=10", name)
    assert engine.state(name)["ExitCode"] == 33


def test_copy_and_commit(engine):
    """cp, diff, commit"""
    name = engine.run_detached("sh", "-c", "echo new >/new; sleep 1000")
    proc.wait_until(lambda: "A /new" in engine("diff", name).stdout, "diff shows the file")
    engine("cp", f"{name}:/new", str(engine.folder / "copied"))
    assert (engine.folder / "copied").read_text() == "new\n"
    engine("cp", str(engine.folder / "copied"), f"{name}:/home/copied")
    assert engine.exec(name, "cat", "/home/copied").stdout == "new\n"
    engine("commit", name, "committed")
    assert engine("run", "--rm", "--network=none", "committed", "cat", "/new").stdout == "new\n"


@pytest.mark.parametrize("builder", ["legacy", "BuildKit"])
def test_build(engine, builder):
    """build: RUN with the candidate"""
    folder = engine.folder / f"context-{builder}"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo built by $(id -u) >/built\nUSER alice\n")
    tag = f"built-{builder.lower()}"
    engine("build", "--network=none", "--tag", tag, str(folder), DOCKER_BUILDKIT=str(int(builder == "BuildKit")))
    assert engine("run", "--rm", "--network=none", tag, "cat", "/built").stdout == "built by 0\n"


def test_failing_build(engine):
    """build: a RUN that fails is told with its exit status (BuildKit)"""
    folder = engine.folder / "context-failing"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN exit 9\n")
    result = engine("build", "--network=none", str(folder), check=1, DOCKER_BUILDKIT="1")
    assert "exit code: 9" in result.stderr


def test_memory(engine):
    """--memory: in the cgroup; who exceeds it is killed, and docker knows why"""
    name = engine.run_detached(flags=["--memory=32m"])
    assert engine.cgroup_file(name, "memory", "memory.limit_in_bytes") == str(32 << 20)
    name = engine.run_detached("sh", "-c", "tail -c 90000000 /dev/zero", flags=["--memory=16m", "--memory-swap=16m"])
    assert engine.await_exit(name) == 137
    assert engine.state(name)["OOMKilled"]


def test_cpu(engine):
    """--cpu-period, --cpu-quota: in the cgroup, and a busy loop is as slow as asked"""
    name = engine.run_detached(*BUSY, flags=["--cpu-period=50000", "--cpu-quota=10000", "--cpu-shares=512"])
    assert engine.cgroup_file(name, "cpu", "cpu.cfs_period_us") == "50000"
    assert engine.cgroup_file(name, "cpu", "cpu.cfs_quota_us") == "10000"
    assert engine.cgroup_file(name, "cpu", "cpu.shares") == "512"
    before, start = int(engine.cgroup_file(name, "cpuacct", "cpuacct.usage")), time.monotonic()
    time.sleep(1)
    used = int(engine.cgroup_file(name, "cpuacct", "cpuacct.usage")) - before
    share = used / 1e9 / (time.monotonic() - start)
    assert 0.05 < share < 0.3, f"{share:.2f} of a CPU"


def test_pids(engine):
    """--pids-limit: in the cgroup, and fork fails beyond it"""
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo all"
    result = engine.run("sh", "-c", script, flags=["--pids-limit=5"], check=None)
    assert "can't fork" in result.stderr, result
    name = engine.run_detached(flags=["--pids-limit=5"])
    assert engine.cgroup_file(name, "pids", "pids.max") == "5"


def test_update(engine):
    """update: limits of a running container"""
    name = engine.run_detached(flags=["--memory=32m", "--memory-swap=64m"])
    engine("update", "--memory=48m", "--cpu-quota=20000", "--pids-limit=9", name)
    assert engine.cgroup_file(name, "memory", "memory.limit_in_bytes") == str(48 << 20)
    assert engine.cgroup_file(name, "cpu", "cpu.cfs_quota_us") == "20000"
    assert engine.cgroup_file(name, "pids", "pids.max") == "9"
    assert engine.exec(name, "true").code == 0


def test_other_limits(engine):
    """--cpuset-cpus, --cpus, --ulimit, --oom-score-adj, --shm-size"""
    flags = ["--cpuset-cpus=0", "--cpus=0.5", "--ulimit=nofile=100:200", "--oom-score-adj=500", "--shm-size=1m"]
    script = "nproc; ulimit -n; cat /proc/self/oom_score_adj; df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2"
    assert engine.run("sh", "-c", script, flags=flags).stdout == "1\n100\n500\n1024\n"


@pytest.mark.parametrize("network", ["none", "host", "bridge"])
def test_network(engine, network):
    """--net"""
    names = engine.run("ls", "/sys/class/net", flags=[f"--network={network}"]).stdout.split()
    assert "lo" in names
    assert ("eth0" in names) == (network == "bridge")
    assert ("docker0" in names) == (network == "host")


def test_network_of_container(engine):
    """--net container:NAME"""
    name = engine.run_detached()
    look = ("readlink", "/proc/self/ns/net")
    theirs = engine.exec(name, *look).stdout
    assert engine.run(*look, flags=[f"--network=container:{name}"]).stdout == theirs


def test_own_network(engine):
    """network create: names are resolved, neighbours answer"""
    engine("network", "create", "ours")
    engine.run_detached(flags=["--network=ours", "--network-alias=neighbour"])
    script = "nslookup neighbour && ping -c 1 -W 5 neighbour"
    assert "1 packets received" in engine.run("sh", "-c", script, flags=["--network=ours"]).stdout


def test_second_network(engine):
    """network connect, disconnect: of a running container"""
    engine("network", "create", "ours")
    name = engine.run_detached(flags=["--network=bridge"])
    engine("network", "connect", "ours", name)
    assert "eth1" in engine.exec(name, "ls", "/sys/class/net").stdout
    engine("network", "disconnect", "ours", name)
    assert "eth1" not in engine.exec(name, "ls", "/sys/class/net").stdout


def test_port(engine):
    """--publish: a port of the host leads into the container"""
    flags = ["--network=bridge", "--publish=8088:80"]
    engine.run_detached("httpd", "-f", "-p", "80", "-h", "/www", flags=flags)
    fetch = [*engine.network.enter, "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8088/"]
    proc.wait_until(lambda: command.run(fetch, check=None).stdout == "hello\n", "the port answers")


def test_volume(engine):
    """--volume: named, and of the host, read-only too"""
    engine.run("sh", "-c", "echo kept >/data/file", flags=["--volume=named:/data"])
    assert engine.run("cat", "/data/file", flags=["--volume=named:/data"]).stdout == "kept\n"
    folder = engine.folder / "shared"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("host\n")
    assert engine.run("cat", "/mnt/file", flags=[f"--volume={folder}:/mnt:ro"]).stdout == "host\n"
    engine.run("touch", "/mnt/new", flags=[f"--volume={folder}:/mnt:ro"], check=1)
    engine.run("touch", "/mnt/new", flags=[f"--volume={folder}:/mnt"])
    assert (folder / "new").exists()


def test_propagation(engine):
    """--volume ...:rshared: a mount made inside arrives on the host"""
    folder = engine.folder / "propagated"
    (folder / "below").mkdir(parents=True, exist_ok=True)
    name = engine.run_detached(flags=[f"--volume={folder}:/mnt:rshared", "--cap-add=SYS_ADMIN"])
    engine.exec(name, "mount", "-t", "tmpfs", "x", "/mnt/below")
    assert os.path.ismount(folder / "below")
    engine.exec(name, "umount", "/mnt/below")
    assert not os.path.ismount(folder / "below")


def test_read_only(engine):
    """--read-only, --tmpfs"""
    flags = ["--read-only", "--tmpfs=/scratch:size=1m,mode=1777"]
    engine.run("sh", "-c", "touch /scratch/new && ! touch /new", flags=flags)


def test_user(engine):
    """--user, --group-add, --workdir, --env, --hostname"""
    flags = ["--user=alice", "--group-add=500", "--workdir=/home/alice", "--env=ANSWER=42", "--hostname=ham"]
    script = "id -u; id -G; pwd; echo $ANSWER; hostname"
    assert engine.run("sh", "-c", script, flags=flags).stdout == "1000\n1000 500\n/home/alice\n42\nham\n"


def test_capabilities(engine):
    """--cap-add, --cap-drop, no-new-privileges"""
    engine.run("mount", "-t", "tmpfs", "x", "/tmp", check=1)
    engine.run("mount", "-t", "tmpfs", "x", "/tmp", flags=["--cap-add=SYS_ADMIN"])
    engine.run("chown", "1000", "/tmp", flags=["--cap-drop=CHOWN"], check=1)
    flags = ["--cap-drop=ALL", "--security-opt=no-new-privileges"]
    status = proc.parse_status(engine.run("cat", "/proc/self/status", flags=flags).stdout)
    assert (status["CapEff"], status["CapBnd"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")


def test_seccomp(engine):
    """--security-opt seccomp: docker's profile, one of the user's, none"""
    assert proc.parse_status(engine.run("cat", "/proc/self/status").stdout)["Seccomp"] == "2"
    profile = engine.folder / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    engine.run("mkdir", "/tmp/x", flags=[f"--security-opt=seccomp={profile}"], check=1)
    flags = ["--security-opt=seccomp=unconfined"]
    assert proc.parse_status(engine.run("cat", "/proc/self/status", flags=flags).stdout)["Seccomp"] == "0"


@pytest.mark.differs(runc="runc 1.1.5 asks for capabilities that root of this machine has not")
def test_privileged(engine):
    """--privileged: may mount"""
    engine.run("mount", "-t", "tmpfs", "x", "/tmp", flags=["--privileged"])


@pytest.mark.differs(runc="runc 1.1.5 asks for capabilities that root of this machine has not")
def test_exec_privileged(engine):
    """exec --privileged: all capabilities that docker knows and the machine has"""
    name = engine.run_detached()
    status = proc.parse_status(engine.exec(name, "cat", "/proc/self/status", flags=["--privileged"]).stdout)
    effective = int(status["CapEff"], 16)
    assert effective & (1 << 21), "no CAP_SYS_ADMIN"
    # docker lists those that it knows; what the machine has not cannot be had.
    assert effective & ~int(proc.parse_status(proc.read("self", "status"))["CapBnd"], 16) == 0


def test_device(engine):
    """--device: only those asked for"""
    flags = ["--device=/dev/fuse:/dev/ham:r"]
    assert engine.run("sh", "-c", ": </dev/ham && echo opened", flags=flags).stdout == "opened\n"
    assert "Operation not permitted" in engine.run("sh", "-c", ": >>/dev/ham", flags=flags, check=1).stderr
    script = "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg"
    assert "Operation not permitted" in engine.run("sh", "-c", script, check=1).stderr


def test_sysctl(engine):
    """--sysctl"""
    flags = ["--sysctl=net.ipv4.ip_forward=1", "--sysctl=kernel.shmmax=123456"]
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax"
    assert engine.run("sh", "-c", script, flags=flags).stdout == "1\n123456\n"


def test_init(engine):
    """--init: docker's init is pid 1 and reaps"""
    name = engine.run_detached("sh", "-c", "sleep 1000", flags=["--init"])
    assert "docker-init" in engine.exec(name, "cat", "/proc/1/cmdline").stdout


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts"])
def test_namespace_of_host(engine, kind):
    """--pid, --ipc, --uts host"""
    inside = engine.run("readlink", f"/proc/self/ns/{kind}", flags=[f"--{kind}=host"]).stdout.strip()
    assert inside == proc.namespace("self", kind)


@pytest.mark.parametrize("kind", ["pid", "ipc"])
def test_namespace_of_container(engine, kind):
    """--pid, --ipc container:NAME"""
    name = engine.run_detached(flags=["--ipc=shareable"])
    look = ("readlink", f"/proc/self/ns/{kind}")
    assert engine.run(*look, flags=[f"--{kind}=container:{name}"]).stdout == engine.exec(name, *look).stdout


@pytest.mark.parametrize("mode", ["host", "private"])
def test_cgroup_namespace(engine, mode):
    """--cgroupns"""
    inside = engine.run("readlink", "/proc/self/ns/cgroup", flags=[f"--cgroupns={mode}"]).stdout.strip()
    assert (inside == proc.namespace("self", "cgroup")) == (mode == "host")


def test_restart_policy(engine):
    """--restart: a container that fails is started again"""
    name = engine.run_detached("sh", "-c", "exit 3", flags=["--restart=on-failure:2"])
    proc.wait_until(lambda: engine.inspect(name)["RestartCount"] == 2, "it was restarted twice")


def test_health(engine):
    """--health-cmd: unhealthy, then healthy"""
    flags = ["--health-cmd=test -e /healthy", "--health-interval=0.2s", "--health-retries=1"]
    name = engine.run_detached(flags=flags)
    proc.wait_until(lambda: engine.state(name)["Health"]["Status"] == "unhealthy", "unhealthy")
    engine.exec(name, "touch", "/healthy")
    proc.wait_until(lambda: engine.state(name)["Health"]["Status"] == "healthy", "healthy")


def test_nothing_is_left(engine):
    """removed containers leave no cgroups and no state"""
    name = engine.run_detached()
    identity = engine.inspect(name)["Id"]
    engine("rm", "--force", name)
    assert not [path for path in leaks.cgroups() if identity in path]
    assert not list((engine.folder / "exec").glob(f"**/{identity}"))
