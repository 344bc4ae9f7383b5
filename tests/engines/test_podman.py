"""podman as root."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support import leaks, proc

from engines import command
from engines.podman import SHORT, Podman


@pytest.fixture
def engine(podman: Podman):
    """The podman of the candidate; a test's containers are removed after it."""
    yield podman
    if podman("ps", "--all", "--quiet").stdout or podman("pod", "ls", "--quiet").stdout:
        podman.remove_all()


def test_run(engine):
    """run: output and exit status 0"""
    assert engine.run("echo", "hello").stdout == "hello\n"


def test_info(engine):
    """info: names the runtime and its version"""
    info = engine("info", "--format", "{{.Host.OCIRuntime.Path}} {{.Host.OCIRuntime.Version}}").stdout
    assert info.startswith(engine.candidate.path)
    assert "version" in info


@pytest.mark.parametrize("code", [1, 42, 255])
def test_exit_code(engine, code):
    """run: exit status"""
    engine.run("sh", "-c", f"exit {code}", check=code)


def test_missing_command(engine):
    """run: 127 for a missing command, 126 for one that cannot be executed"""
    result = engine.run("nosuch", check=127)
    assert "executable file not found in $PATH" in result.stderr, result
    engine.run("/etc/passwd", check=126)


def test_input(engine):
    """run -i: standard input arrives"""
    assert engine.run("cat", flags=["--interactive"], input="typed\n").stdout == "typed\n"


def test_terminal(engine):
    """run -it: a terminal"""
    words = engine.words("sh", "-c", "tty; read line; echo got $line; exit 5", flags=["--rm", "-it"])
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
    engine.exec(name, "nosuch", check=127)


def test_exec_terminal(engine):
    """exec -it: a terminal of its own"""
    name = engine.run_detached()
    words = ("exec", "-it", name, "sh", "-c", "tty; read line; echo got $line; exit 6")
    result = engine.on_terminal(*words, talk=[("/dev/pts/0", "typed\n")], check=6)
    assert "got typed" in result.stdout


def test_exec_detached(engine):
    """exec -d, top"""
    name = engine.run_detached()
    engine.exec(name, "sleep", "999", flags=["--detach"])
    proc.wait_until(lambda: "sleep 999" in engine("top", name).stdout, "top shows it")


def test_kill_and_stop(engine):
    """kill, stop, start, restart"""
    name = engine.run_detached()
    engine("kill", "--signal=KILL", name)
    assert engine.await_exit(name) == 137
    engine("start", name)
    assert engine.state(name)["Running"]
    first = engine.state(name)["Pid"]
    engine("restart", "--time=0", name)
    assert engine.state(name)["Pid"] != first
    engine("stop", "--time=1", name)
    assert engine.state(name)["Status"] == "exited"


def test_stop_is_heard(engine):
    """stop: SIGTERM first, which pid 1 may handle"""
    name = engine.run_detached("sh", "-c", "trap 'exit 33' TERM; echo ready; while :; do sleep 0.05; done")
    proc.wait_until(lambda: "ready" in engine("logs", name).stdout, "the trap is set")
    engine("stop", "--time=10", name)
    assert engine.state(name)["ExitCode"] == 33


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
    engine("unpause", name)
    proc.wait_until(lambda: file.stat().st_size > size, "it runs again")


def test_stats(engine):
    """stats"""
    name = engine.run_detached()
    words = engine("stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", name).stdout.split()
    assert words[0] == "1"


def test_memory(engine):
    """--memory: in the cgroup, and who exceeds it is killed"""
    name = engine.run_detached(flags=["--memory=32m"])
    assert engine.cgroup_file(name, "memory", "memory.limit_in_bytes") == str(32 << 20)
    engine.run("sh", "-c", "tail -c 90000000 /dev/zero >/dev/null; exit $?", flags=["--memory=16m"], check=137)


def test_limits(engine):
    """--pids-limit, --cpus, --cpu-shares"""
    name = engine.run_detached(flags=["--pids-limit=7", "--cpus=0.5", "--cpu-shares=512"])
    assert engine.cgroup_file(name, "pids", "pids.max") == "7"
    assert engine.cgroup_file(name, "cpu", "cpu.cfs_quota_us") == "50000"
    assert engine.cgroup_file(name, "cpu", "cpu.shares") == "512"


def test_update(engine):
    """update: limits of a running container"""
    name = engine.run_detached(flags=["--memory=32m"])
    result = engine("update", "--memory=48m", name, check=None)
    if "unrecognized command" in result.stderr or "unknown flag" in result.stderr:
        pytest.skip("this podman has no update")
    assert engine.cgroup_file(name, "memory", "memory.limit_in_bytes") == str(48 << 20)


@pytest.mark.parametrize("network", ["none", "host", "bridge"])
def test_network(engine, network):
    """--network"""
    names = engine.run("ls", "/sys/class/net", flags=[f"--network={network}"]).stdout.split()
    assert "lo" in names
    assert ("eth0" in names) == (network == "bridge")


def test_network_of_container(engine):
    """--network container:NAME"""
    name = engine.run_detached()
    look = ("readlink", "/proc/self/ns/net")
    theirs = engine.exec(name, *look).stdout
    assert engine.run(*look, flags=[f"--network=container:{name}"]).stdout == theirs


def test_port(engine):
    """--publish: a port of the host leads into the container"""
    flags = ["--network=bridge", "--publish=8088:80"]
    engine.run_detached("httpd", "-f", "-p", "80", "-h", "/www", flags=flags)
    fetch = [*engine.network.enter, "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8088/"]
    proc.wait_until(lambda: command.run(fetch, check=None).stdout == "hello\n", "the port answers")


def test_volume(engine):
    """--volume: a named volume and a directory of the host, read-only too"""
    engine.run("sh", "-c", "echo kept >/data/file", flags=["--volume=named:/data"])
    assert engine.run("cat", "/data/file", flags=["--volume=named:/data"]).stdout == "kept\n"
    folder = engine.folder / "shared"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("host\n")
    assert engine.run("cat", "/mnt/file", flags=[f"--volume={folder}:/mnt:ro"]).stdout == "host\n"
    engine.run("touch", "/mnt/new", flags=[f"--volume={folder}:/mnt:ro"], check=1)


def test_read_only(engine):
    """--read-only, --tmpfs"""
    flags = ["--read-only", "--tmpfs=/scratch:size=1m"]
    engine.run("sh", "-c", "touch /scratch/new && ! touch /new", flags=flags)


def test_user_and_capabilities(engine):
    """--user, --cap-add, --cap-drop, --security-opt no-new-privileges"""
    assert engine.run("id", "-u", flags=["--user=alice"]).stdout == "1000\n"
    engine.run("mount", "-t", "tmpfs", "x", "/tmp", flags=["--cap-add=sys_admin"])
    engine.run("chown", "1000", "/tmp", flags=["--cap-drop=chown"], check=1)
    flags = ["--security-opt=no-new-privileges"]
    assert proc.parse_status(engine.run("cat", "/proc/self/status", flags=flags).stdout)["NoNewPrivs"] == "1"


def test_privileged(engine):
    """--privileged: may mount"""
    engine.run("mount", "-t", "tmpfs", "x", "/tmp", flags=["--privileged"])


def test_sysctl_and_ulimit(engine):
    """--sysctl, --ulimit, --hostname, --device"""
    flags = [
        "--sysctl=net.ipv4.ip_forward=1",
        "--ulimit=nofile=100:200",
        "--ulimit=nproc=20000",
        "--hostname=ham",
        "--device=/dev/fuse",
    ]
    script = "cat /proc/sys/net/ipv4/ip_forward; ulimit -n; hostname; test -c /dev/fuse && echo fuse"
    wanted = "1\n100\nham\nfuse\n"
    if not os.path.exists("/dev/fuse"):
        flags, wanted = flags[:-1], wanted.removesuffix("fuse\n")
    assert engine.run("sh", "-c", script, flags=flags).stdout == wanted


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts"])
def test_namespace_of_host(engine, kind):
    """--pid, --ipc, --uts host"""
    inside = engine.run("readlink", f"/proc/self/ns/{kind}", flags=[f"--{kind}=host"]).stdout.strip()
    assert inside == proc.namespace("self", kind)


def test_user_namespace(engine):
    """--uidmap: root inside is an ordinary user outside"""
    name = engine.run_detached(flags=["--uidmap=0:400000:65536", "--gidmap=0:400000:65536"])
    assert proc.parse_status(proc.read(engine.state(name)["Pid"], "status"))["Uid"].split()[0] == "400000"
    assert engine.exec(name, "id", "-u").stdout == "0\n"


def test_a_private_volume_in_a_user_namespace(engine, tmp_path):
    """--uidmap with -v of a directory below one of mode 0700"""
    private = tmp_path / "private"
    (private / "data").mkdir(parents=True)
    (private / "data" / "file").write_text("readable\n")
    private.chmod(0o700)
    maps = ["--uidmap=0:400000:65536", "--gidmap=0:400000:65536"]
    assert engine.run("cat", "/data/file", flags=[*maps, f"--volume={private}/data:/data"]).stdout == "readable\n"


def test_systemd_always(engine):
    """--systemd=always: tmpfs where systemd wants them, some with an empty option"""
    mounts = engine.run("cat", "/proc/self/mounts", flags=["--systemd=always"]).stdout.splitlines()
    assert {line.split()[1] for line in mounts if line.split()[2] == "tmpfs"} >= {"/run", "/run/lock", "/tmp"}


def test_preserve_fds(engine):
    """run --preserve-fds: a descriptor of the caller's"""
    read, write = os.pipe()
    os.write(write, b"handed over\n")
    os.close(write)
    words = engine.words("cat", "/proc/self/fd/3", flags=["--rm", "--preserve-fds=1"])
    try:
        result = command.run(engine.shell(words, f"3<&{read}"), env=engine.env, pass_fds=(read,))
    finally:
        os.close(read)
    assert result.stdout == "handed over\n"


def test_copy_and_commit(engine):
    """cp, diff, commit"""
    name = engine.run_detached("sh", "-c", "echo new >/new; sleep 1000")
    proc.wait_until(lambda: "A /new" in engine("diff", name).stdout, "diff shows the file")
    engine("cp", f"{name}:/new", str(engine.folder / "copied"))
    assert (engine.folder / "copied").read_text() == "new\n"
    engine("commit", "--quiet", name, "localhost/committed")
    assert engine("run", "--rm", "--network=none", f"--cgroup-parent={engine.cgroup_parent}",
                  "localhost/committed", "cat", "/new").stdout == "new\n"  # fmt: skip


def test_healthcheck(engine):
    """healthcheck run"""
    name = engine.run_detached(flags=["--health-cmd=test -e /healthy", "--health-interval=disable"])
    engine("healthcheck", "run", name, check=1)
    engine.exec(name, "touch", "/healthy")
    engine("healthcheck", "run", name)


def test_pod(engine):
    """pod: containers share the network and ipc namespaces, and stop together"""
    engine("pod", "create", "--name=pod", f"--cgroup-parent={engine.cgroup_parent}", "--network=none",
           "--infra-command=sleep 1000")  # fmt: skip
    engine.run_detached("httpd", "-f", "-p", "127.0.0.1:80", "-h", "/www", flags=["--pod=pod"])
    other = engine.run_detached(flags=["--pod=pod"])
    fetch = ("wget", "-q", "-O", "-", "http://127.0.0.1/")
    proc.wait_until(lambda: engine.exec(other, *fetch, check=None).stdout == "hello\n", "a neighbour answers")
    engine("pod", "stop", "--time=0", "pod")
    assert engine.state(other)["Status"] == "exited"
    engine("pod", "rm", "--force", "pod")


KUBE = """\
apiVersion: v1
kind: Pod
metadata: {name: kube}
spec:
  containers:
  - name: main
    image: docker.io/library/busybox:latest
    imagePullPolicy: Never
    command: [sh, -c, "echo $GREETING; sleep 1000"]
    env: [{name: GREETING, value: hello}]
    resources: {limits: {memory: 32Mi}}
"""


def test_play_kube(engine):
    """play kube: a pod from a Kubernetes file"""
    file = engine.folder / "pod.yaml"
    file.write_text(KUBE)
    engine("play", "kube", str(file))
    proc.wait_until(lambda: engine("logs", "kube-main").stdout == "hello\n", "it runs")
    assert engine.cgroup_file("kube-main", "memory", "memory.limit_in_bytes") == str(32 << 20)
    engine("play", "kube", "--down", str(file))


def test_build(engine):
    """build --isolation oci: RUN with the candidate"""
    folder = engine.folder / "context"
    folder.mkdir(exist_ok=True)
    (folder / "Containerfile").write_text(f"FROM {SHORT}\nRUN echo built >/built && id -u\n")
    engine("build", "--isolation=oci", "--network=none", "--tag=localhost/built", str(folder))
    words = ("run", "--rm", "--network=none", f"--cgroup-parent={engine.cgroup_parent}", "localhost/built")
    assert engine(*words, "cat", "/built").stdout == "built\n"


def test_checkpoint(engine):
    """container checkpoint"""
    name = engine.run_detached()
    result = engine("container", "checkpoint", name, check=None)
    assert engine.state(name)["Running"] or result.code == 0
    if result.code != 0:
        pytest.skip("criu does not work here")


def test_nothing_is_left(engine):
    """removed containers leave no cgroups and no state"""
    name = engine.run_detached()
    identity = engine.inspect(name)["Id"]
    engine("rm", "--force", "--time=0", name)
    assert not [path for path in leaks.cgroups() if identity in path]
    assert not list(Path("/run").glob(f"*/{identity}"))
