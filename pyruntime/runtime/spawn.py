"""The clone that executes the program, made from a process outside the container's pid namespace.

A process is in sight of a container from the moment that it is in its pid namespace, and CAP_SYS_PTRACE in that
container is enough to read its memory, root and descriptors and to take it over (ptrace(2), "PTRACE_MODE checks").
So whatever needs the host's files or privileges is done outside, by a process that joins every namespace but that
one; it then clones into the pid namespace a process that has nothing but what the program will have
(native/spawn.c): the program's root, descriptors, user and capabilities, the sync socket, and of memory a few pages
with the program's name, arguments and environment.

What can only be done inside is left to it: setsid(2), the controlling terminal, RLIMIT_NPROC (which counts both
processes while they coexist), and a seccomp filter that forbids the clone, or that the parent must forward.
"""

from __future__ import annotations

import posix

from pyruntime.errors import PyruntimeError, StepError, errno_name, strerror
from pyruntime.kernel import process
from pyruntime.kernel.constants import CLONE_PARENT, RLIMIT_NPROC
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from pyruntime.kernel.process import SharedInt
    from pyruntime.runtime.init import Init

# The calls of native/spawn.c by the character in its reports: step, pointer, system call.
_CALLS = {
    "t": ("make the terminal the controlling one", "/process/terminal", "ioctl(0, TIOCSCTTY)"),
    "l": ("limit the number of processes", "/process/rlimits", "prlimit(RLIMIT_NPROC)"),
    "f": ("load the system call filter", "/linux/seccomp", "seccomp(SECCOMP_SET_MODE_FILTER)"),
    "c": ("set the capabilities", "/process/capabilities", "capset"),
}


class Spawn:
    """What is left to the process that executes the program.

    pid:          shared with the parent; the process's pid as the parent sees it, once it is cloned.
    terminal:     standard input becomes its controlling terminal.
    wait:         it waits for `procRun` after the clone.
    limit:        (soft, hard) of RLIMIT_NPROC, or None.
    filter:       program of a seccomp filter that it loads, with filter_flags (kernel/filter.py); None without.
    keep:         capabilities, as a bit mask, that it needs for that, and gives up right after.
    capabilities: (effective, permitted, inheritable) for that moment, or None.
    in_python:    it has more to do, and continues in Python (`clone`)."""

    __slots__ = ("capabilities", "filter", "filter_flags", "in_python", "keep", "limit", "pid", "terminal", "wait")

    def __init__(self, pid: SharedInt) -> None:
        self.pid = pid
        self.terminal = self.wait = self.in_python = False
        self.limit: tuple[int, int] | None = None
        self.filter: bytes | None = None
        self.filter_flags = 0
        self.keep = 0
        self.capabilities: tuple[int, int, int] | None = None

    def execute(
        self,
        program: str,
        args: list[str],
        environment: dict[str, str],
        channel: int,
        fifo: int = -1,
        failure: int = -1,
    ) -> NoReturn:
        """Clone the process that executes the program, and end. Raises KernelError when it cannot be cloned.

        fifo, failure: the exec fifo to wait at and the file for errors past it (runtime/exec_fifo.py)."""
        process.spawn(
            program,
            args,
            environment,
            pid=self.pid,
            channel=channel,
            fifo=fifo,
            failure=failure,
            reports=_reports(program),
            terminal=self.terminal,
            wait=self.wait,
            limit=self.limit,
            filter=self.filter,
            filter_flags=self.filter_flags,
            capabilities=self.capabilities,
        )
        raise AssertionError("native/spawn.c has returned")

    def clone(self) -> None:
        """Clone a process that continues in Python, for startContainer hooks, and exit; return in the clone.

        It has this process's memory, and so the runtime's, in sight of the pid namespace."""
        pid, _ = process.clone(CLONE_PARENT, exit_signal=0)
        if pid:
            self.pid.set(pid)
            posix._exit(0)

    def finish(self, init: Init) -> None:
        """In the clone: what `execute` leaves to native/spawn.c."""
        if self.limit is not None:
            process.set_limit(0, RLIMIT_NPROC, *self.limit)
        if self.filter is not None:
            from pyruntime.features.security import seccomp  # in memory since the plan

            seccomp.load_bits(init, self.filter, self.filter_flags)
        if self.capabilities is not None:
            process.set_capabilities(*self.capabilities)


def _reports(program: str) -> tuple[str, str, str, str]:
    """Return what the process writes: errors to the parent, errors past the exec fifo, its listener, that it waits.

    ### and ? stand for what it fills in."""
    arg = fastjson.dumps({"spawn": program, "call": "?", "errno": "###"})
    return (
        f'{{"type":"procError","arg":{arg}}}',
        fastjson.dumps({"execve": program, "errno": "###"}),
        '{"type":"procSeccomp","arg":{"fd":"###"}}',
        '{"type":"procWaiting"}',
    )


def error_of(arg: dict[str, str], execve: Callable[[str, int], PyruntimeError]) -> PyruntimeError:
    """Return the error that the process reported. execve: makes the one of execve(2) of program and number."""
    number = int(arg["errno"])
    if arg["call"] == "e":
        return execve(arg["spawn"], number)
    step, pointer, syscall = _CALLS[arg["call"]]
    why = None
    if arg["call"] == "f" and number == 13:
        why = "without noNewPrivileges this takes CAP_SYS_ADMIN in init's user namespace"
    return StepError(
        f"{step}: {strerror(number)} ({errno_name(number)})",
        why=why,
        pointer=pointer,
        step=step,
        syscall=syscall,
        errno=errno_name(number),
    )
