"""init at the exec fifo: what it keeps while it waits for `start`, and what it becomes."""

from __future__ import annotations

import os
import shutil

import pytest
from support import proc

COLLAPSES = pytest.mark.skipif(
    os.uname().machine not in ("x86_64", "aarch64"), reason="shim_wait_and_execute is not written for this architecture"
)
# What busybox and the interpreter need.
ALLOWED = """
    access arch_prctl brk close close_range dup dup2 execve exit_group fcntl fstat futex getcwd getdents64 getegid
    geteuid getgid getpid getppid getrandom getuid ioctl lseek mmap mprotect mremap munmap newfstatat open openat poll
    prctl prlimit64 read readlink readlinkat recvmsg rseq rt_sigaction rt_sigprocmask rt_sigreturn sendmsg sendto
    set_robust_list set_tid_address sigaltstack stat sysinfo uname write writev
""".split()


def anonymous(box) -> int:
    """KiB of init's memory that are no file's."""
    return int(box.process_status()["RssAnon"].split()[0])


def settled(box) -> int:
    """The same once init has done all that comes before the exec fifo; `create` does not wait for its last steps."""
    proc.wait_until(lambda: box.proc("wchan") in ("pipe_read", "fifo_pipe_read", "anon_pipe_read"), "init waits")
    return anonymous(box)


@COLLAPSES
@pytest.mark.ours
def test_it_keeps_next_to_no_memory(container):
    box = container(["/bin/true"])
    box.create()
    assert settled(box) <= 64
    box.start()
    assert box.wait() == 0


@COLLAPSES
@pytest.mark.ours
def test_it_keeps_what_it_is_to_execute(container):
    """Arguments and environment of a megabyte, as the largest have."""
    args = ["/bin/sh", "-c", 'echo $# $1 "$LAST"', "sh", *["x" * 5000] * 100]
    box = container(args)
    box.process["env"] += [*(f"V{number}={'y' * 5000}" for number in range(100)), "LAST=end"]
    box.create()
    assert settled(box) <= 1200
    box.start()
    assert box.wait() == 0
    assert box.output() == f"100 {'x' * 5000} end\n"


@pytest.mark.ours
def test_execve_that_fails_is_told_to_start(container):
    """It was there when `create` looked for it."""
    box = container(["/bin/program"])
    shutil.copy(box.rootfs / "bin/busybox", box.rootfs / "bin/program")
    box.create()
    (box.rootfs / "bin/program").unlink()
    result = box.start(check=None)
    assert result.code == 1
    assert "exec /bin/program: no such file or directory" in result.stderr
    assert "/process/args" in result.stderr
    assert box.status() == "stopped"


@pytest.mark.ours
def test_execve_that_fails_in_a_program_with_a_strange_name(container):
    """Its name is written without an interpreter."""
    name = '/bin/a "b" \\ \n\u00e9'
    box = container([name])
    path = os.fsencode(box.rootfs) + os.fsencode(name)
    shutil.copy(box.rootfs / "bin/busybox", path)
    box.create()
    os.unlink(path)
    assert "no such file or directory" in box.start(check=None).stderr


@pytest.mark.ours
@pytest.mark.parametrize("default", ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_ALLOW"])
def test_a_filter_that_kills_for_what_forgetting_takes(container, default):
    """With such a filter the interpreter waits."""
    box = container(sh="echo here")
    killing = {"names": ["madvise"], "action": "SCMP_ACT_KILL_PROCESS"}
    allowing = {"names": ALLOWED, "action": "SCMP_ACT_ALLOW"}
    box.config["linux"]["seccomp"] = {
        "defaultAction": default,
        "syscalls": [allowing if default == "SCMP_ACT_KILL_PROCESS" else killing],
    }
    box.create()
    assert settled(box) > 64
    box.start()
    assert box.wait() == 0
    assert box.output() == "here\n"


@pytest.mark.ours
def test_a_filter_that_refuses_madvise_costs_memory_only(container):
    box = container(sh="echo here")
    box.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["madvise", "rt_sigaction"], "action": "SCMP_ACT_ERRNO"}],
    }
    assert box.run().stdout == "here\n"


def test_signals_are_as_if_nobody_had_ignored_any(container):
    box = container(["/bin/sleep", "100"])
    box.create()
    box.start()
    proc.wait_until(lambda: "sleep" in box.proc("cmdline"), "the process runs")
    status = box.process_status()
    assert [int(status[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]
