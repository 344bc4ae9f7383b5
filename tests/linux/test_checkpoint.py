"""checkpoint and restore: a container goes on where it was, by criu.

criu is tied to the kernel; where it cannot work (`criu check`), only the refusals are tested. `make test-vm` has a
kernel on which it does.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import termios
from pathlib import Path

import pytest
from support import config as configs
from support import proc
from support.runtime import ENVIRONMENT

COUNTER = 'i=0; while :; do i=$((i+1)); echo "$i" >/count.new; mv /count.new /count; sleep 0.1; done'


def count(box) -> int:
    return int((box.rootfs / "count").read_text())


def await_count(box, more_than: int) -> int:
    def above() -> bool:
        return (box.rootfs / "count").exists() and count(box) > more_than

    proc.wait_until(above, f"the count of {box.id} is above {more_than}")
    return count(box)


def started(box, *flags: str):
    box.create(*flags)
    box.start()
    await_count(box, 0)
    return box


def images(box) -> str:
    return str(box.runtime.folder / "images")


def checkpoint(box, *flags: str, **options):
    return box.runtime.run("checkpoint", "--image-path", images(box), *flags, box.id, timeout=60, **options)


def restore(box, *flags: str, **options):
    words = ["--bundle", str(box.bundle.path), "--image-path", images(box), "--pid-file", str(box.pid_file)]
    return box.runtime.run("restore", *words, *flags, box.id, timeout=60, **options)


def mount_lines() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


@pytest.mark.ours
def test_a_container_goes_on_where_it_was(container, criu):
    box = container(sh=f"exec 5</etc/passwd; {COUNTER}", annotations={"kept": "yes"})
    box.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 40}}
    box.config["linux"]["maskedPaths"] = ["/proc/keys", "/proc/acpi", "/sys/firmware"]
    box.config["linux"]["readonlyPaths"] = ["/proc/sys"]
    host = box.runtime.folder / "host"
    host.mkdir()
    (host / "file").write_text("of the host\n")
    configs.bind(box.config, host, "/mnt/host")
    configs.bind(box.config, host / "file", "/mnt/file", "ro")
    started(box)
    checkpoint(box)
    assert box.wait() == 137
    before, mounts = count(box), mount_lines()
    assert not (box.runtime.root / box.id).exists()
    assert list(Path(images(box)).glob("core-*.img"))

    restore(box, "--detach")
    assert box.status() == "running"
    assert box.state()["annotations"] == {"kept": "yes"}
    assert before < await_count(box, before) < before + 1000
    assert mount_lines() == mounts
    told = box.runtime.run("exec", box.id, "sh", "-c", "cat /mnt/host/file /mnt/file; wc -c </proc/keys; hostname")
    assert told.stdout == "of the host\nof the host\n0\npyruntime\n"
    limit = [line for line in told_limits(box) if line]
    assert limit == [str(64 << 20), "40"]
    box.kill("KILL")
    assert box.wait() == 137
    box.delete()


def told_limits(box) -> list[str]:
    """The limits of memory and of tasks, as the cgroup of init has them."""
    record = json.loads((box.runtime.root / box.id / "state.json").read_text())
    cgroups = record["cgroups"]
    memory, pids = ("memory.limit_in_bytes", "pids.max") if "memory" in cgroups else ("memory.max", "pids.max")
    folders = (cgroups.get("memory") or cgroups["unified"], cgroups.get("pids") or cgroups["unified"])
    assert str(box.pid) in Path(folders[0], "cgroup.procs").read_text().split()
    return [Path(folders[0], memory).read_text().strip(), Path(folders[1], pids).read_text().strip()]


@pytest.mark.ours
def test_leave_running_and_restore_under_another_id(container, criu):
    """The images are of a moment, and the container goes on: no file that it has open then may change since."""
    box = container(sh="trap 'date +%N >/told' USR1; while :; do sleep 0.2; done")
    box.create()
    box.start()
    told = box.rootfs / "told"
    box.kill("USR1")
    proc.wait_until(told.exists, "the signal is taken")
    checkpoint(box, "--leave-running", "--work-path", str(box.runtime.folder / "work"))
    assert (box.runtime.folder / "work/dump.log").exists()
    await_told(box, told)
    box.delete("--force")
    assert box.wait() == 137
    box.id += "-again"
    restore(box, "--detach")
    await_told(box, told)
    box.delete("--force")
    assert box.wait() == 137


def await_told(box, told: Path) -> None:
    """The container runs, and takes a signal."""
    assert box.status() == "running"
    told.unlink()
    box.kill("USR1")
    proc.wait_until(told.exists, "the signal is taken")


@pytest.mark.ours
def test_in_the_foreground_with_pipes(container, criu):
    """restore waits as run does, and what the process writes comes out of the restore."""
    box = container(sh="while [ ! -e /go ]; do echo tick; sleep 0.2; done; echo went; exit 7")
    piped = '{ "$@" | cat; } & while [ ! -s "$0" ]; do sleep 0.1; done'
    box.create(wrap=["sh", "-c", piped, str(box.pid_file)])
    box.start()
    box.await_output("tick")
    checkpoint(box)
    assert box.wait() == 137
    box.bundle.write("go", "")
    result = restore(box, check=7)
    assert "went" in result.stdout
    assert "went" not in box.output()
    assert not (box.runtime.root / box.id).exists()


@pytest.mark.ours
def test_a_terminal(container, criu):
    """The master of the restored one goes over the console socket again."""
    box = container(sh="while :; do read line && echo got $line >/line; done")
    box.process["terminal"] = True
    path = box.runtime.folder / "console.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(30 * proc.SLOW)
        box.create("--console-socket", str(path))
        first = receive(listener)
        box.start()
        os.write(first, b"one\n")
        proc.wait_until((box.rootfs / "line").exists, "the line is read")
        checkpoint(box)
        os.close(first)
        assert box.wait() == 137
        restore(box, "--detach", "--console-socket", str(path))
        master = receive(listener)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 5, 6, 0, 0))
    os.write(master, b"two\n")
    proc.wait_until(lambda: (box.rootfs / "line").read_text() == "got two\n", "the second line is read")
    box.delete("--force")
    assert box.wait() == 137
    os.close(master)


def receive(listener: socket.socket) -> int:
    connection, _ = listener.accept()
    with connection:
        _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
    return descriptors[0]


@pytest.mark.ours
def test_memory_beforehand(container, criu):
    """--pre-dump, and then only what has changed since."""
    tracking = subprocess.run(["criu", "check", "--feature", "mem_dirty_track"], env=ENVIRONMENT, capture_output=True)
    if tracking.returncode:
        pytest.skip("this kernel does not track written pages (CONFIG_MEM_SOFT_DIRTY)")
    box = started(container(sh=COUNTER))
    folder = box.runtime.folder
    box.runtime.run("checkpoint", "--pre-dump", "--image-path", str(folder / "before"), box.id, timeout=60)
    assert box.status() == "running"
    checkpoint(box, "--parent-path", "../before")
    assert box.wait() == 137
    assert (folder / "images/parent").is_symlink()
    before = count(box)
    restore(box, "--detach")
    await_count(box, before)
    box.delete("--force")
    assert box.wait() == 137


@pytest.mark.ours
def test_a_network_namespace_by_path_and_hooks(container, criu):
    """The namespace is that of config.json now; runtime hooks run for the restored container, too."""
    box = container(sh=COUNTER)
    holder = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
    try:
        proc.wait_until(
            lambda: proc.namespace(holder.pid, "net") != proc.namespace(os.getpid(), "net"), "the namespace is there"
        )
        configs.set_namespace(box.config, "network", f"/proc/{holder.pid}/ns/net")
        marks = box.runtime.folder / "marks"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >>{marks}; echo >>{marks}"]}
        box.config["hooks"] = {"createRuntime": [hook]}
        started(box)
        checkpoint(box)
        assert box.wait() == 137
        restore(box, "--detach")
        assert proc.namespace(box.pid, "net") == proc.namespace(holder.pid, "net")
        states = [json.loads(line) for line in marks.read_text().splitlines() if line]
        assert [one["status"] for one in states] == ["creating", "creating"]
        assert states[1]["pid"] == box.pid
        box.delete("--force")
        assert box.wait() == 137
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.ours
@pytest.mark.skipif(not os.path.exists("/run/systemd/system"), reason="systemd does not run here (`make test-vm`)")
def test_in_a_scope_of_systemd(container, criu):
    """The restored processes are in a scope again, which has the limits."""
    box = container(sh=COUNTER)
    box.config["linux"]["cgroupsPath"] = f"system.slice:box:{box.id}"
    box.config["linux"]["resources"] = {"pids": {"limit": 44}}
    flags = ("--systemd-cgroup",)
    box.create(flags=flags)
    box.start()
    before = await_count(box, 0)
    checkpoint(box)
    assert box.wait() == 137
    restore(box, "--detach", flags=flags)
    await_count(box, before)
    where = proc.cgroups(box.proc("cgroup"))
    assert where.get("", where.get("name=systemd")).endswith(f"/system.slice/box-{box.id}.scope")
    limit = subprocess.run(
        ["systemctl", "show", "-P", "TasksMax", f"box-{box.id}.scope"], capture_output=True, text=True, check=True
    )
    assert limit.stdout.strip() == "44"
    box.delete("--force")
    assert box.wait() == 137


@pytest.mark.ours
def test_what_criu_says_is_told_and_the_container_runs_on(container, criu):
    box = started(container(sh=COUNTER))
    result = checkpoint(box, "--page-server", "127.0.0.1:1", check=1)
    assert "criu failed to checkpoint" in result.stderr
    assert "dump.log" in result.stderr
    now = count(box)
    await_count(box, now)
    assert box.status() == "running"


# Without criu.


@pytest.mark.ours
def test_help_answers_podmans_probe(runtime):
    for command in "checkpoint", "restore":
        result = runtime.run(command, "--help", env={})
        assert "--image-path" in result.stdout


@pytest.mark.ours
def test_a_missing_criu_is_named(container):
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    result = checkpoint(box, check=1, env={"PATH": "/nonexistent"})
    assert 'exec: "criu": executable file not found in $PATH' in result.stderr
    assert "install it" in result.stderr
    assert box.status() == "running"
    assert not os.path.exists(images(box))
    result = box.runtime.run(
        *("restore", "--bundle", str(box.bundle.path), "--image-path", images(box), f"{box.id}-2"),
        check=1,
        env={"PATH": "/nonexistent"},
    )
    assert 'exec: "criu": executable file not found in $PATH' in result.stderr


@pytest.mark.ours
def test_a_container_that_does_not_run(container):
    box = container(["/bin/sleep", "100"])
    box.create()
    assert "container cannot be checkpointed in created state" in checkpoint(box, check=1).stderr
    box.kill("KILL")
    box.wait()
    assert "container cannot be checkpointed in stopped state" in checkpoint(box, check=1).stderr


@pytest.mark.ours
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--manage-cgroups-mode", "odd"], "invalid manage-cgroups-mode"),
        (["--empty-ns", "uts"], "namespace 'uts' is not supported"),
        (["--parent-path", "/absolute"], "--parent-path /absolute is absolute"),
        (["--page-server", "nowhere"], "use --page-server ADDRESS:PORT"),
        (["--parent-path", "../nosuch"], "there is no ../nosuch"),
        (["--status-fd", "x"], "--status-fd: 'x' is not a number"),
    ],
)
def test_wrong_usage(container, flags, words):
    if shutil.which("criu", path=ENVIRONMENT["PATH"]) is None:
        pytest.skip("criu is not installed")
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    assert words in checkpoint(box, *flags, check=1).stderr
    assert box.status() == "running"


@pytest.mark.ours
def test_nothing_to_restore_from(bundle, runtime):
    if shutil.which("criu", path=ENVIRONMENT["PATH"]) is None:
        pytest.skip("criu is not installed")
    made = bundle(["/bin/true"])
    made.save()
    flags = ["--bundle", str(made.path), "--image-path", str(made.path / "nosuch")]
    result = runtime.run("restore", *flags, "nobody", check=1)
    assert "nosuch: no such file or directory" in result.stderr
    flags[-1] = str(made.path)
    result = runtime.run("restore", *flags, "nobody", check=1)
    assert "the directory has no images of a container" in result.stderr
    assert not (runtime.root / "nobody").exists()
