"""Kubernetes' CRI, by containerd's plugin"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import leaks, proc

from engines import command
from engines.cri import EXITED, RUNNING, Cri


@pytest.fixture
def pod(cri: Cri):
    """A pod; afterwards it is removed, and nothing of it is left."""
    made = cri.pod()
    yield made
    if made[0] in cri.pods:
        cri.remove_pod(made[0])


def test_two_containers_and_exec(cri: Cri, pod):
    """a pod of two containers: exec in each, one network and one IPC namespace"""
    one = cri.container(pod, "one", "sleep", "1000")
    two = cri.container(pod, "two", "sleep", "1000")
    assert cri.exec_sync(one, "sh", "-c", "echo $NAME; exit 3") == (3, "one\n")
    assert cri.exec_sync(two, "sh", "-c", "echo $NAME") == (0, "two\n")
    links = [cri.exec_sync(id, "readlink", f"/proc/self/ns/{kind}")[1] for kind in ("net", "ipc") for id in (one, two)]
    assert links[0] == links[1] and links[2] == links[3]
    assert cri.exec_sync(one, "readlink", "/proc/self/ns/mnt") != cri.exec_sync(two, "readlink", "/proc/self/ns/mnt")
    assert cri.exec_sync(one, "sh", "-c", "cat /proc/1/cmdline")[1].replace("\0", " ") == "sleep 1000 "


def test_a_pod_with_a_user_namespace(cri: Cri, tmp_path: Path):
    """`hostUsers: false`: a user namespace, and a volume below a directory of mode 0700"""
    if command.run(["containerd", "--version"]).stdout.split()[2].startswith("1."):
        pytest.skip("containerd 1 has no user namespaces of pods: make test-engines ENGINES_RELEASE=forky")
    private = tmp_path / "private"
    (private / "data").mkdir(parents=True)
    (private / "data" / "file").write_text("readable\n")
    private.chmod(0o700)
    made = cri.pod(users=400000)
    one = cri.container(made, "one", "sleep", "1000", volume=(private / "data", "/data"))
    assert proc.parse_status(proc.read(cri.pid(one), "status"))["Uid"].split()[0] == "400000"
    assert cri.exec_sync(one, "sh", "-c", "id -u; cat /data/file") == (0, "0\nreadable\n")
    cri.remove_pod(made[0])


def test_logs(cri: Cri, pod):
    """what a container writes is in its log file"""
    cri.container(pod, "talker", "sh", "-c", "echo out; echo err >&2; sleep 1000")
    proc.wait_until(lambda: sorted(cri.log(pod, "talker")) == ["err", "out"], "the log is written")


def test_stats(cri: Cri, pod):
    """stats of a container: CPU time and memory"""
    busy = cri.container(pod, "busy", "sh", "-c", "while :; do :; done", memory=64 << 20)
    proc.wait_until(lambda: cri.stats(busy)[0] > 10**8, "a tenth of a second of CPU time is used")
    assert 0 < cri.stats(busy)[1] <= 64 << 20


def test_update(cri: Cri, pod):
    """another memory limit for a running container"""
    one = cri.container(pod, "one", "sleep", "1000", memory=64 << 20)
    cri.limit_memory(one, 32 << 20)
    own = proc.cgroups(proc.read(cri.pid(one), "cgroup"))["memory"]
    assert int(Path(f"/sys/fs/cgroup/memory{own}/memory.limit_in_bytes").read_text()) == 32 << 20


def test_limit(cri: Cri, pod):
    """a memory limit is the container's, and who exceeds it is killed"""
    eat = "dd if=/dev/zero of=/dev/shm/x bs=1M count=60; echo status $?; rm /dev/shm/x; sleep 1000"
    cri.container(pod, "hungry", "sh", "-c", eat, memory=32 << 20)
    proc.wait_until(lambda: "status 137" in cri.log(pod, "hungry"), "dd is killed")


def test_exit_status(cri: Cri, pod):
    """a container's exit status, and that its end is not the pod's"""
    short = cri.container(pod, "short", "sh", "-c", "exit 7")
    other = cri.container(pod, "other", "sleep", "1000")
    proc.wait_until(lambda: cri.status(short) == (EXITED, 7), "it has ended")
    assert cri.status(other)[0] == RUNNING


def test_stop(cri: Cri, pod):
    """stop: SIGTERM, SIGKILL after the grace; remove"""
    deaf = cri.container(pod, "deaf", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    cri.stop_container(deaf, seconds=1)
    assert cri.status(deaf) == (EXITED, 137)
    cri.remove_container(deaf)
    with pytest.raises(cri.error):
        cri.status(deaf)


def test_shared_process_namespace(cri: Cri):
    """a pod with one pid namespace: containers see each other, and removal ends all"""
    pod = cri.pod(shared_pids=True)
    one = cri.container(pod, "one", "sleep", "4711")
    two = cri.container(pod, "two", "sh", "-c", "sleep 4712 & sleep 4713")
    seen = cri.exec_sync(one, "ps")[1]
    assert "sleep 4712" in seen and "sleep 4713" in seen
    assert cri.exec_sync(two, "readlink", "/proc/self/ns/pid") == cri.exec_sync(one, "readlink", "/proc/self/ns/pid")
    pid = cri.pid(one)
    assert os.path.exists(f"/proc/{pid}")
    cri.remove_pod(pod[0])
    proc.wait_until(lambda: proc.process_state(pid) in ("", "Z"), "all have ended")


def test_the_handler_is_ours(cri: Cri, pod):
    """the runtime class's handler runs the container, and takes away what it made"""
    one = cri.container(pod, "one", "sleep", "1000")
    state = cri.folder / "runtime/k8s.io" / one
    assert state.exists()
    assert [path for path in leaks.cgroups() if path.endswith(f"/{one}")]
    cri.remove_pod(pod[0])
    assert not state.exists()
    assert not [path for path in leaks.cgroups() if path.endswith(f"/{one}")]
