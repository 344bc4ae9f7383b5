"""Descriptors that pass through: --preserve-fds, LISTEN_FDS, --pidfd-socket, NOTIFY_SOCKET, and none else."""

from __future__ import annotations

import os
import select
import signal
import socket

import pytest
from support import proc
from support.refusal import refused
from support.runtime import ENVIRONMENT


@pytest.fixture
def three_files(runtime):
    """Three files, open as 3, 4 and 5 in a command that gets them by `pass_fds` and a shell in front of it."""
    paths = [runtime.folder / f"file{number}" for number in range(3)]
    for path in paths:
        path.write_text(f"{path.name}\n")
    return paths


def opened(paths) -> list[str]:
    """The words in front of a command that open files from descriptor 3 on."""
    redirections = " ".join(f"{number}<>{path}" for number, path in enumerate(paths, 3))
    return ["/bin/sh", "-c", f'exec "$@" {redirections}', "sh"]


# What can be read from the descriptors 3 to 5.
READ = "for fd in 3 4 5; do [ -e /proc/self/fd/$fd ] && cat <&$fd; done; true"


def test_nothing_is_passed_unasked(container, three_files):
    """A shim's listening socket is open at 3 when it calls its first create."""
    box = container(sh=READ)
    assert box.run(wrap=opened(three_files)).stdout == ""


@pytest.mark.parametrize("count", [1, 2, 3])
def test_preserve_fds(container, three_files, count):
    box = container(sh=READ)
    result = box.run("--preserve-fds", str(count), wrap=opened(three_files))
    assert result.stdout == "".join(f"file{number}\n" for number in range(count))


@pytest.mark.parametrize("count", [0, 2])
def test_preserve_fds_of_exec(container, three_files, count):
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.start()
    words = ("exec", "--preserve-fds", str(count), box.id, "/bin/sh", "-c", READ)
    result = box.runtime.run(*words, wrap=opened(three_files))
    assert result.stdout == "".join(f"file{number}\n" for number in range(count))


def test_preserved_descriptors_of_a_created_container(container, three_files):
    box = container(sh=READ + "; echo done")
    box.create("--preserve-fds", "1", wrap=opened(three_files))
    box.start()
    assert box.await_output("done") == "file0\ndone\n"


@pytest.mark.ours
def test_a_descriptor_that_is_not_open_is_refused(container):
    """Else it would be one of the runtime's own; runc's Go has some open by then and passes one of those."""
    box = container()
    before = set(proc.children())
    refused(box.runtime, box.run("--preserve-fds", "2", check=None), "descriptor 3 is not open", "--preserve-fds")
    assert set(proc.children()) <= before


@pytest.mark.ours
@pytest.mark.parametrize("text", ["x", "-1"])
def test_preserve_fds_is_a_number(container, text):
    box = container()
    refused(box.runtime, box.create("--preserve-fds", text, check=None), "--preserve-fds")


@pytest.mark.differs(crun="crun 1.8.1 leaves LISTEN_PID as it was")
def test_listen_fds(container, three_files):
    """Socket activation: sd_listen_fds(3) in the container finds what systemd gave to the runtime."""
    box = container(sh=READ + "; echo $LISTEN_FDS $LISTEN_PID $$")
    redirections = " ".join(f"{number}<>{path}" for number, path in enumerate(three_files, 3))
    wrap = ["/bin/sh", "-c", f'LISTEN_PID=$$ LISTEN_FDS=2 exec "$@" {redirections}', "sh"]
    assert box.run(wrap=wrap).stdout.splitlines() == ["file0", "file1", "2 1 1"]


@pytest.mark.differs(crun="crun 1.8.1 believes it")
def test_listen_fds_of_another_process(container, three_files):
    """LISTEN_PID says whom the descriptors are for."""
    box = container(sh=READ + "; echo .$LISTEN_FDS.")
    env = {**ENVIRONMENT, "LISTEN_FDS": "2", "LISTEN_PID": "1"}
    assert box.run(wrap=opened(three_files), env=env).stdout == "..\n"


def test_listen_fds_then_preserved_ones(container, three_files):
    box = container(sh=READ)
    redirections = " ".join(f"{number}<>{path}" for number, path in enumerate(three_files, 3))
    wrap = ["/bin/sh", "-c", f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" {redirections}', "sh"]
    assert box.run("--preserve-fds", "1", wrap=wrap).stdout.splitlines() == ["file0", "file1"]


@pytest.fixture
def pidfd_listener(runtime):
    """(path, function that receives: the message, and the pid that the pidfd is of)."""
    path = runtime.folder / "pidfd.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        one.listen()
        one.settimeout(10)

        def receive() -> tuple[str, int, int]:
            connection, _ = one.accept()
            with connection:
                data, fds, _, _ = socket.recv_fds(connection, 4096, 1)
            with open(f"/proc/self/fdinfo/{fds[0]}") as file:
                pid = int(proc.parse_status(file.read())["Pid"])
            return data.decode(), pid, fds[0]

        yield path, receive


@pytest.mark.differs(runc="runc has it since 1.2", crun="crun has an annotation in its place")
def test_pidfd_of_init(container, pidfd_listener):
    path, receive = pidfd_listener
    box = container(["/bin/sleep", "1000"])
    box.create("--pidfd-socket", str(path))
    name, pid, fd = receive()
    assert (name, pid) == ("standard", box.pid)
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    assert select.select([fd], [], [], 5)[0]
    os.close(fd)


@pytest.mark.differs(runc="runc has it since 1.2", crun="crun has an annotation in its place")
def test_pidfd_of_exec(container, pidfd_listener, runtime):
    path, receive = pidfd_listener
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.start()
    pid_file = runtime.folder / "exec.pid"
    words = ("--pidfd-socket", str(path), "--pid-file", str(pid_file), "-d", box.id, "/bin/sleep", "1000")
    runtime.run("exec", *words)
    name, pid, fd = receive()
    assert (name, pid) == ("setns", int(pid_file.read_text()))
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(fd)


@pytest.mark.ours
def test_nobody_at_the_pidfd_socket(container):
    box = container()
    before = set(proc.children())
    refused(box.runtime, box.create("--pidfd-socket", "/nosuch.sock", check=None), "pidfd socket", "no such file")
    assert set(proc.children()) <= before
    assert not box.runtime.root.exists() or not os.listdir(box.runtime.root)


@pytest.fixture
def manager(runtime):
    """A service manager's notify socket: (environment, function that receives a message)."""
    path = runtime.folder / "manager.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(path))
        one.settimeout(10)

        def receive() -> bytes:
            data, fds, _, _ = socket.recv_fds(one, 4096, 4)
            for fd in fds:
                os.close(fd)
            return data

        yield {**ENVIRONMENT, "NOTIFY_SOCKET": str(path)}, receive


def tell_ready(box, text: str = "READY=1\n") -> None:
    """What sd_notify(3) in the container does: no tool of busybox can write to such a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.connect(f"{box.root}/run/notify/notify.sock")
        one.send(text.encode())


NOTIFY = "echo $NOTIFY_SOCKET; grep ' /run/notify ' /proc/self/mountinfo; exec sleep 1000"


@pytest.mark.differs(crun="crun 1.8.1 mounts the socket itself")
def test_notify_socket_with_create_and_start(container, manager):
    """`start` passes READY=1 on, and says which process is the main one; then it ends."""
    env, receive = manager
    box = container(sh=NOTIFY)
    box.create(env=env)
    command = box.runtime.spawn("start", box.id, env=env)
    assert "/run/notify/notify.sock" in box.await_output("/run/notify ")
    assert " ro," in box.output()
    proc.wait_until(lambda: os.path.exists(f"{box.root}/run/notify/notify.sock"), "the socket is there")
    assert command.process.poll() is None
    tell_ready(box)
    assert receive() == b"READY=1\n"
    assert receive() == b"MAINPID=%d\n" % box.pid
    if box.runtime.is_ours:
        assert receive() == b"BARRIER=1"
    assert command.wait().code == 0
    box.kill("KILL")
    box.wait()
    box.delete()


@pytest.mark.differs(runc="runc 1.1.5 takes a zombie for alive")
def test_notify_socket_of_a_container_that_ends(container, manager):
    """`start` waits no longer than the container lives."""
    env, _ = manager
    box = container(sh="exit 3")
    box.create(env=env)
    box.runtime.run("start", box.id, env=env, timeout=5)
    assert box.wait() == 3


@pytest.mark.ours
def test_notify_socket_in_the_foreground(container, manager):
    """Among other lines; a container that is never ready does not keep `run` (runc waits for ever)."""
    env, receive = manager
    box = container(sh=NOTIFY)
    command = box.spawn_run(env=env)
    proc.wait_until(lambda: "/run/notify " in command.stdout, "the process runs")
    tell_ready(box, "STATUS=nearly\nREADY=1\nFDSTORE=1\n")
    assert receive() == b"READY=1\n"
    assert receive() == b"MAINPID=%d\n" % command.process.pid
    os.kill(box.pid, signal.SIGKILL)
    assert command.wait().code == 137
    never = container(sh="exit 4")
    never.run(env=env, check=4)


def test_no_notify_socket_without_one(container):
    box = container(sh="echo .$NOTIFY_SOCKET.; ls -d /run/notify; true")
    assert box.run().stdout == "..\n"
