"""Commands do not wait for ever because of a container: whatever holds up our process on its way, they say what it is
and give up, and `delete --force` removes the container."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support import attack, leaks, proc, silent
from support.agent import Agent
from support.refusal import refused
from support.runtime import ENVIRONMENT, Runtime

pytestmark = pytest.mark.ours

# The real one looks every 30 s.
PATIENCE = 0.4 * proc.SLOW
HASTY = "from pyruntime import runtime\nfrom pyruntime.commands import kill\n"
HASTY += f"runtime.PATIENCE = {PATIENCE}\nkill._DEATH_SECONDS = 1.0\n"
STANDS = "makes no progress"


@pytest.fixture
def hasty(runtime: Runtime):
    """Let a container's commands look after two fifths of a second, and not after half a minute."""

    def make(box, more: str = ""):
        folder = runtime.folder / "hasty"
        folder.mkdir()
        runtime.executable = attack.weaken(folder, HASTY + more)
        return box

    return make


def gives_up(box, result, *words: str) -> None:
    refused(box.runtime, result, STANDS, *words)


def signal_hook(signal: str) -> dict:
    """A hook that sends init a signal, before init goes on."""
    script = f"pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); kill -{signal} $pid"
    return {"path": "/bin/sh", "args": ["sh", "-c", script]}


def test_create_below_a_silent_filesystem(container, hasty, runtime):
    """The rootfs lies on it."""
    box = hasty(container())
    with silent.on(box.rootfs):
        result = box.create(check=None)
    gives_up(box, result, "a FUSE filesystem does not answer", "--debug")


def test_create_with_a_silent_directory_in_the_rootfs(container, hasty):
    box = hasty(container())
    with silent.on(box.rootfs / "dev"):
        box.config["mounts"] = [one for one in box.config["mounts"] if not one["destination"].startswith("/dev")]
        gives_up(box, box.create(check=None), "a FUSE filesystem does not answer")


def test_create_with_a_silent_program(container, hasty):
    """Found on it as the last thing before the exec fifo."""
    box = hasty(container(["/mnt/program"]))
    with silent.on(box.rootfs / "mnt"):
        gives_up(box, box.create(check=None), "a FUSE filesystem does not answer", "find its program")


def test_create_whose_init_is_stopped(container, hasty):
    """As its neighbours in a shared pid namespace can."""
    box = hasty(container())
    box.config["hooks"] = {"createRuntime": [signal_hook("STOP")]}
    gives_up(box, box.create(check=None), "SIGSTOP", "enter its root")


# hierarchy: the file, what freezes, what thaws.
FREEZING = {"freezer": ("freezer.state", "FROZEN", "THAWED"), "unified": ("cgroup.freeze", "1", "0")}


@pytest.mark.parametrize("hierarchy", FREEZING)
def test_create_in_a_frozen_cgroup(container, hasty, hierarchy):
    """A cgroup above the container's is."""
    box = hasty(container())
    parent = Path("/sys/fs/cgroup") / hierarchy / f"{leaks.PREFIX}-frozen"
    file, value, thawed = FREEZING[hierarchy]
    if not parent.parent.is_dir():
        pytest.skip(f"this host has no {parent.parent}")
    parent.mkdir()
    try:
        (parent / file).write_text(value)
        box.config["linux"]["cgroupsPath"] = f"/{parent.name}/box"
        box.bundle.save()
        command = box.runtime.spawn("create", "--bundle", box.bundle.path, box.id)
        result = command.wait()
        # On v1 not even a SIGKILL gets through.
        (parent / file).write_text(thawed)
        box.delete("--force")
    finally:
        (parent / file).write_text(thawed)
        leaks.reap()
        leaks.remove_cgroup_parent(f"/{parent.name}")
    gives_up(box, result, "its cgroup is frozen")


def test_exec_out_of_memory_without_a_killer(container, hasty):
    """v1: memory.disableOOMKiller lets who is over the limit wait until somebody raises it."""
    if not Path("/sys/fs/cgroup/memory/memory.oom_control").exists():
        pytest.skip("the OOM killer can be turned off in a v1 hierarchy only, and this host has none for memory")
    # By page faults, which wait; a write(2) to a tmpfs may end with ENOMEM instead.
    box = hasty(container(["/bin/awk", "BEGIN { s = 1; for (;;) s = s s }"]))
    box.config["linux"]["resources"] = {"memory": {"limit": 3 << 20, "disableOOMKiller": True}}
    box.create()
    box.start()
    memory = Path("/sys/fs/cgroup/memory") / box.config["linux"]["cgroupsPath"].lstrip("/") / "memory.oom_control"
    proc.wait_until(lambda: "under_oom 1" in memory.read_text(), "it has taken all")
    gives_up(box, box.runtime.run("exec", box.id, "/bin/true", check=None), "out of memory", "disableOOMKiller")
    box.delete("--force")


def test_start_of_a_silent_program(container, hasty):
    """The program was there at create. What does not start stays, for who wants to look at it, and can be deleted."""
    box = hasty(container(["/bin/sleep", "100"]))
    box.create()
    with silent.inside(box.pid, "/bin"):
        gives_up(box, box.start(check=None), "a FUSE filesystem does not answer")
        assert box.status() == "created"
        box.delete("--force")


def test_start_of_an_init_that_is_stopped(container, hasty):
    box = hasty(container(["/bin/sleep", "100"]))
    box.create()
    os.kill(box.pid, 19)
    gives_up(box, box.start(check=None), "SIGSTOP")
    os.kill(box.pid, 18)
    proc.wait_until(lambda: box.status() == "running", "it goes on after all")
    assert box.start(check=None).code != 0


def test_start_with_an_agent_that_does_not_answer(container, hasty, runtime):
    box = hasty(container(["/bin/sleep", "100"]))
    path = runtime.folder / "agent.sock"
    agent = Agent(path, errno=1, silent=True)
    box.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(path),
        "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_NOTIFY"}],
    }
    box.create()
    result = box.start(check=None)
    box.delete("--force")
    agent.close()
    gives_up(box, result, "listenerPath", "does not answer")


@pytest.mark.parametrize("target", ["/etc", "/mnt"])
def test_exec_where_a_filesystem_is_silent(container, hasty, target):
    """Of the container's own making: at the user's home directory's entry, and at the working directory."""
    box = hasty(container(["/bin/sleep", "100"]))
    box.create()
    box.start()
    with silent.inside(box.pid, target):
        began = time.monotonic()
        result = box.runtime.run("exec", "--cwd", "/mnt", box.id, "/bin/true", check=None)
        assert time.monotonic() - began < 10 * PATIENCE + 2
        gives_up(box, result, "a FUSE filesystem does not answer")
        assert result.code == 255
        box.delete("--force")


def test_exec_of_a_silent_program_in_the_background(container, hasty):
    box = hasty(container(["/bin/sleep", "100"]))
    box.create()
    box.start()
    with silent.inside(box.pid, "/bin"):
        gives_up(box, box.runtime.run("exec", "--detach", box.id, "/bin/true", check=None), "a FUSE filesystem")
        box.delete("--force")


def test_exec_into_a_frozen_part(container, hasty):
    """The container has frozen a cgroup below its own; `state` says running."""
    box = hasty(container(["/bin/sleep", "100"]))
    if not os.path.isdir("/sys/fs/cgroup/freezer"):
        pytest.skip("this host has no /sys/fs/cgroup/freezer")
    box.create()
    box.start()
    part = Path("/sys/fs/cgroup/freezer") / box.config["linux"]["cgroupsPath"].lstrip("/") / "part"
    part.mkdir()
    (part / "freezer.state").write_text("FROZEN")
    result = box.runtime.run("exec", "--cgroup", "freezer:part", box.id, "/bin/true", check=None)
    gives_up(box, result, "its cgroup is frozen")
    # Its process is dead once it may run.
    (part / "freezer.state").write_text("THAWED")
    proc.wait_until(lambda: (part / "cgroup.procs").read_text() == "", "it dies")
    leaks.reap()


def test_exec_into_a_paused_container_waits_if_it_is_told_to(container, hasty):
    box = hasty(container(["/bin/sleep", "100"]))
    box.create()
    box.start()
    box.runtime.run("pause", box.id)
    command = box.runtime.spawn("exec", "--ignore-paused", box.id, "/bin/echo", "hello")
    time.sleep(4 * PATIENCE)
    assert command.process.poll() is None
    box.runtime.run("resume", box.id)
    assert command.wait().stdout == "hello\n"


def test_ps_that_hangs(container, hasty, runtime):
    """ps(1) reads the arguments of processes, and who has FUSE can have it wait for them. Here it just hangs."""
    box = hasty(container(["/bin/sleep", "100"]), "from pyruntime.commands import ps\nps.SECONDS = 0.5\n")
    box.create()
    folder = runtime.folder / "programs"
    folder.mkdir()
    (folder / "ps").symlink_to("/bin/sleep")
    environment = {**ENVIRONMENT, "PATH": f"{folder}:{ENVIRONMENT['PATH']}"}
    result = runtime.run("ps", box.id, "100", env=environment, check=None)
    refused(runtime, result, "does not end within 0.5 s", "--format json")
    assert runtime.run("ps", "--format", "json", box.id, env=environment).stdout == f"[{box.pid}]\n"


def test_slow_is_not_silent(container, hasty):
    """Init sleeps and wakes for longer than it would be waited for, were it silent; so does a hook."""
    slow = """
def send(channel, type, *rest):
    import time
    if type == "procReady":
        for _ in range(24):
            time.sleep(PATIENCE / 8)
    return old(channel, type, *rest)
import posix
from pyruntime.runtime.channel import Channel
old = Channel.send
Channel.send = send
"""
    box = hasty(container(["/bin/true"]), f"import time\nPATIENCE = {PATIENCE}\n{slow}")
    pause = {"path": "/bin/sleep", "args": ["sleep", str(3 * PATIENCE)]}
    box.config["hooks"] = {kind: [pause] for kind in ("createRuntime", "createContainer", "startContainer")}
    box.create()
    box.start()


@pytest.mark.parametrize("name", ["cgroup.freeze", "cgroup.kill"])
def test_a_limit_that_would_stop_init_is_refused(container, name):
    box = container()
    box.config["linux"]["resources"] = {"unified": {name: "1"}}
    if not any(mount.fstype == "cgroup2" for mount in proc.parse_mountinfo(proc.read("self", "mountinfo"))):
        pytest.skip("this host has no cgroup2 tree")
    refused(box.runtime, box.create(check=None), f"/linux/resources/unified/{name}", "init")
