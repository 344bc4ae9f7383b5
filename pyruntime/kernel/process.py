"""Processes: clone3(2), namespaces, signals by pidfd, limits, capabilities, prctl(2)."""

from __future__ import annotations

import _prctl  # the C half of python-prctl: its Python half costs 4 ms to import

from pyruntime.errors import KernelError
from pyruntime.kernel.call import check, ffi, lib, text
from pyruntime.kernel.constants import CLONE_INTO_CGROUP, CLONE_PIDFD, ENOMEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def clone(flags: int, *, cgroup_fd: int | None = None, exit_signal: int = 17) -> tuple[int, int]:
    """clone3(2) as fork(2) with new namespaces: (pid, pidfd) in the parent, (0, -1) in the child.

    flags are CLONE_NEW* and CLONE_PARENT; exit_signal is SIGCHLD, 0 with CLONE_PARENT.
    The process must have one thread only: nothing is done about locks that another thread may hold."""
    flags |= CLONE_PIDFD
    if cgroup_fd is not None:
        flags |= CLONE_INTO_CGROUP
    pidfd = ffi.new("int *", -1)
    pid = lib.shim_clone3(flags, exit_signal, cgroup_fd or 0, pidfd)
    if pid < 0:
        raise KernelError(-pid, "clone3", (clone_flag_names(flags),))
    return int(pid), int(pidfd[0])


def clone_flag_names(flags: int) -> str:
    """Return the names of clone flags: "CLONE_NEWPID|CLONE_NEWNS"."""
    from pyruntime.kernel import constants

    names = [n for n, v in vars(constants).items() if n.startswith("CLONE_") and flags & v]
    return "|".join(names) or "0"


def unshare(flags: int) -> None:
    """unshare(2)."""
    check(lib.shim_unshare(flags), "unshare", clone_flag_names(flags))


def setns(fd: int, flags: int, shown: str = "") -> None:
    """setns(2); shown is the namespace's path, for messages."""
    check(lib.shim_setns(fd, flags), "setns", shown or f"fd {fd}", clone_flag_names(flags))


def set_limit(pid: int, resource: int, soft: int, hard: int) -> None:
    """prlimit(2); 2**64 - 1 is RLIM_INFINITY."""
    check(lib.shim_prlimit(pid, resource, soft, hard), "prlimit", resource, soft, hard)


def prctl(option: int, argument: int = 0) -> int:
    """prctl(2). Raises KernelError."""
    try:
        return int(_prctl.prctl(option, argument) or 0)
    except OSError as error:
        raise KernelError(error.errno or 0, "prctl", (option, argument)) from None


def get_capabilities() -> tuple[int, int, int]:
    """capget(2): this process's effective, permitted and inheritable sets as bit masks."""
    words = [ffi.new("unsigned int[2]") for _ in range(3)]
    check(lib.shim_capget(*words), "capget")
    effective, permitted, inheritable = (int(w[0]) | int(w[1]) << 32 for w in words)
    return effective, permitted, inheritable


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) from bit masks."""
    check(
        lib.shim_capset(effective, permitted, inheritable),
        "capset",
        f"effective={effective:#x}",
        f"permitted={permitted:#x}",
        f"inheritable={inheritable:#x}",
    )


def set_ambient(capabilities: int) -> None:
    """prctl(2), PR_CAP_AMBIENT: the ambient set becomes this bit mask."""
    check(lib.shim_ambient(capabilities), "prctl", "PR_CAP_AMBIENT_RAISE", hex(capabilities))


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    data = text(name)
    check(lib.shim_sethostname(data, len(data)), "sethostname", name)


def set_domainname(name: str) -> None:
    """setdomainname(2)."""
    data = text(name)
    check(lib.shim_setdomainname(data, len(data)), "setdomainname", name)


def set_personality(persona: int) -> None:
    """personality(2)."""
    check(lib.shim_personality(persona), "personality", hex(persona))


def join_session_keyring(name: str) -> int:
    """Make and join a session keyring: keyctl(2), KEYCTL_JOIN_SESSION_KEYRING. Gives back its serial."""
    return check(lib.shim_join_session_keyring(text(name)), "keyctl", "JOIN_SESSION_KEYRING", name)


def set_keyring_permissions(keyring: int, permissions: int) -> None:
    """keyctl(2), KEYCTL_SETPERM."""
    check(lib.shim_keyring_setperm(keyring, permissions), "keyctl", "SETPERM", hex(permissions))


def wait_and_execute(
    fifo: int, failure: int, words: str, program: str, args: list[str], environment: dict[str, str]
) -> None:
    """Wait for the exec fifo without the interpreter's memory, then execve(2). Returns only where that cannot be done.

    An error of execve(2) is written to `failure`: the words, three digits, and the end of a JSON string and object."""
    texts = [ffi.new("char[]", text(arg)) for arg in args]
    variables = [ffi.new("char[]", text(f"{name}={value}")) for name, value in environment.items()]
    lib.shim_wait_and_execute(
        fifo,
        failure,
        text(words),
        text(program),
        ffi.new("char *[]", [*texts, ffi.NULL]),
        ffi.new("char *[]", [*variables, ffi.NULL]),
    )


class SharedInt:
    """An int in memory that this process shares with its clones."""

    __slots__ = ("pointer",)

    def __init__(self) -> None:
        self.pointer: Any = lib.shim_shared_int()
        if self.pointer == ffi.NULL:
            raise KernelError(ENOMEM, "mmap", ("MAP_SHARED",))

    def value(self) -> int:
        """Return the int, 0 at first."""
        return int(self.pointer[0])

    def set(self, value: int) -> None:
        """Set the int."""
        self.pointer[0] = value

    def free(self) -> None:
        """Unmap it in this process."""
        if self.pointer is not None:
            lib.shim_free_shared_int(self.pointer)
            self.pointer = None


def spawn(
    program: str,
    args: list[str],
    environment: dict[str, str],
    *,
    pid: SharedInt,
    channel: int,
    fifo: int,
    failure: int,
    reports: tuple[str, str, str, str],
    terminal: bool,
    wait: bool,
    limit: tuple[int, int] | None,
    filter: bytes | None,
    filter_flags: int,
    capabilities: tuple[int, int, int] | None,
) -> None:
    """Clone a process that has nothing of this one but what it is given, and end: native/spawn.h has the order.

    pid:     gets the process's pid as this one sees it.
    reports: what the process writes: to the channel, or past the exec fifo to `failure`, when it fails; to the
             channel with its seccomp listener, and before it waits at the exec fifo. "###" stands for a number of three
             digits, "?" for a call.
    Raises KernelError when it cannot be cloned."""
    kept: list[Any] = []  # cffi frees what no Python object refers to

    def hold(data: Any) -> Any:
        kept.append(data)
        return data

    def lines(values: list[str]) -> Any:
        return hold(ffi.new("char *[]", [*(hold(ffi.new("char[]", text(value))) for value in values), ffi.NULL]))

    own = ffi.new("struct spawn *")
    own.program = hold(ffi.new("char[]", text(program)))
    own.arguments = lines(args)
    own.environment = lines([f"{name}={value}" for name, value in environment.items()])
    own.channel, own.fifo, own.failure = channel, fifo, failure
    own.terminal, own.wait = terminal, wait
    if limit is not None:
        own.has_limit, own.limit = True, limit
    if filter is not None:
        own.filter, own.filter_length = ffi.from_buffer(filter), len(filter) // 8
        own.filter_flags = filter_flags
    if capabilities is not None:
        own.has_capabilities = True
        own.capabilities = [mask >> shift & 0xFFFFFFFF for shift in (0, 32) for mask in capabilities]
    for name, report in zip(("report", "last_report", "listener", "waiting"), map(text, reports), strict=True):
        setattr(own, name, hold(ffi.new("char[]", report)))
        setattr(own, f"{name}_length", len(report))
    error, last_error, listener, _ = map(text, reports)
    own.report_call, own.report_errno = error.rfind(b'"?"') + 1, error.rfind(b"###")
    own.last_report_errno = last_error.rfind(b"###")
    own.listener_number = listener.rfind(b"###")
    own.pid = pid.pointer
    check(lib.shim_spawn(own), "clone", "CLONE_PARENT")


def reset_signals() -> None:
    """Every signal to its default action, none blocked: a program starts as its image expects."""
    check(lib.shim_reset_signals(), "sigprocmask")
