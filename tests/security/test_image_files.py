"""The image's files that the runtime reads: /etc/passwd for HOME, and the program.

A link in the image turned the read into one of the host's kernel log, with the capabilities of the runtime.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

SYSLOG_ACTION_SIZE_UNREAD = 9
IN_OPEN = 0x20  # inotify(7)
LIBC = ctypes.CDLL(None, use_errno=True)


def own_passwd(box) -> Path:
    """The container's /etc/passwd, which is no longer a hard link that other tests' containers have too."""
    path = box.rootfs / "etc/passwd"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


def replace_passwd(box, target: str) -> None:
    (box.rootfs / "etc/passwd").unlink()
    (box.rootfs / "etc/passwd").symlink_to(target)


def executed(box, *words: str) -> str:
    """The output of `exec` in a running container."""
    box.create()
    box.start()
    return box.runtime.run("exec", *words, box.id, "/bin/sh", "-c", "echo $HOME").stdout


def unread() -> int:
    """How many bytes of the kernel's log the next reader of /proc/kmsg would get."""
    size = LIBC.klogctl(SYSLOG_ACTION_SIZE_UNREAD, None, 0)
    if size < 0:
        pytest.skip(f"klogctl(SYSLOG_ACTION_SIZE_UNREAD): {os.strerror(ctypes.get_errno())}")
    return size


@pytest.fixture
def kernel_log():
    """A line in the kernel's log that nobody has read; gives its text."""
    try:
        fd = os.open("/dev/kmsg", os.O_WRONLY)
    except OSError as error:
        pytest.skip(f"/dev/kmsg: {error.strerror}")
    text = b"pyruntime-test: a line of the host's\n"
    try:
        os.write(fd, text)
    finally:
        os.close(fd)
    if unread() < len(text):
        pytest.skip("something reads /proc/kmsg on this machine")
    return text


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_the_kernel_log_is_not_read(container, kernel_log, verb):
    """Whoever reads /proc/kmsg takes the lines away from the host's own log daemon; it needs CAP_SYSLOG."""
    box = container(["/bin/sleep", "100"] if verb == "exec" else ["/bin/true"])
    replace_passwd(box, "/proc/kmsg")
    if verb == "exec":
        box.process["env"].append("HOME=/root")  # the first process needs no look
    if verb == "run":
        box.run()
    else:
        box.create()
        box.start()
        box.runtime.run("exec", "--env", "HOME=", box.id, "/bin/true")
    assert unread() >= len(kernel_log)


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_no_file_of_the_kernel_is_taken_for_a_list_of_users(container, verb):
    """mountinfo(5) of procfs has text of config.json in it: the source of a mount, with the colons of an entry."""
    box = container(["/bin/sleep", "100"] if verb == "exec" else ["/bin/sh", "-c", "echo $HOME"])
    box.process["user"] = {"uid": 4711, "gid": 0}
    box.config["mounts"].append(
        {"destination": "/x", "type": "tmpfs", "source": "x:4711:0:0:/from-the-kernel:", "options": []}
    )
    replace_passwd(box, "/proc/self/mountinfo")
    text = box.run().stdout if verb == "run" else executed(box)
    assert text == "/\n"


def test_a_file_that_the_user_may_not_read_is_not_read_for_it(container):
    box = container(sh="echo $HOME")
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["capabilities"] = {}
    own_passwd(box).chmod(0o600)
    assert box.run().stdout == "/\n"


@pytest.mark.parametrize("verb", ["run", "exec"])
@pytest.mark.parametrize("place", ["/etc/passwd", "the program"])
def test_a_fifo_is_not_opened(container, place, verb):
    """To open it would let a writer on, whoever that is: a process of another container with the same volume."""
    box = container(["/bin/sleep", "100"] if verb == "exec" else ["/bin/true"])
    fifo = box.rootfs / ("etc/passwd" if place == "/etc/passwd" else "bin/fifo")
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    fifo.chmod(0o755)
    program = "/bin/true" if place == "/etc/passwd" else "/bin/fifo"
    if verb == "exec":
        box.process["env"].append("HOME=/root")
        box.create()
        box.start()
    watch = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        assert LIBC.inotify_add_watch(watch, os.fsencode(fifo), IN_OPEN) > 0
        if verb == "run":
            box.process["args"] = [program]
            box.run(check=None)
        else:
            box.runtime.run("exec", "--env", "HOME=", box.id, program, check=None)
        with pytest.raises(BlockingIOError):
            os.read(watch, 4096)
        os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
        assert os.read(watch, 4096), "the watch sees no open at all"
    finally:
        os.close(watch)


@pytest.mark.parametrize("target", ["/sys/kernel/uevent_seqnum", "/proc/self/fd/0", "/proc/self/exe", "/proc/1/maps"])
def test_other_files_that_are_none_of_the_image(container, target):
    """What is opened at all is opened with the rights of the user's process."""
    box = container(sh="echo $HOME")
    replace_passwd(box, target)
    assert box.run().stdout == "/\n"


# What a process needs to be executed and to say where its home is; no openat2(2), fstatfs(2) and the like.
FEW_CALLS = (
    "access arch_prctl brk capget capset chdir close close_range connect dup dup2 execve exit exit_group faccessat "
    "fchdir fchown fcntl fstat futex getcwd getegid geteuid getgid getgroups getpid getppid getrandom "
    "getuid ioctl lseek lstat madvise mmap mprotect mremap munmap newfstatat open openat poll pread64 prctl read "
    "readlink readlinkat recvmsg rseq rt_sigaction rt_sigprocmask rt_sigreturn sendmsg set_robust_list set_tid_address "
    "setgid setgroups setresgid setresuid setuid stat statx umask uname wait4 write writev prlimit64 sendto recvfrom "
    "sigaltstack"
).split()


@pytest.mark.ours
@pytest.mark.parametrize("default", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_home_is_found_below_a_strict_filter(container, default, no_new_privileges):
    """Without noNewPrivileges the filter is in force before privileges are given up, and /etc/passwd is read after."""
    box = container(sh="echo $HOME")
    box.process["noNewPrivileges"] = no_new_privileges
    box.config["linux"]["seccomp"] = {
        "defaultAction": default,
        "syscalls": [{"names": FEW_CALLS, "action": "SCMP_ACT_ALLOW"}],
    }
    assert box.run().stdout == "/root\n"


@pytest.mark.parametrize("home", [b"/a\0b", b""], ids=["NUL", "empty"])
def test_a_home_that_no_environment_can_hold(container, home):
    box = container(sh="echo $HOME")
    (box.rootfs / "etc/passwd").unlink()
    box.bundle.write("etc/passwd", b"root:x:0:0::" + home + b":/bin/sh\n")
    assert box.run().stdout == "/\n"


def test_a_list_of_users_without_end(container):
    """A sparse file of a tebibyte: no more than the first MiB is read."""
    box = container(sh="echo $HOME")
    with open(own_passwd(box), "r+b") as file:
        file.truncate(1 << 40)
    box.run(timeout=10)
