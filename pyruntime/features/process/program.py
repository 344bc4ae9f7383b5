"""/process/args, cwd and env: what is executed, where, and with which environment."""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, StepError, errno_name, strerror
from pyruntime.features.process import executable
from pyruntime.features.rootfs import path as rootfs_path
from pyruntime.kernel import process
from pyruntime.kernel.constants import EACCES, ENOTDIR, EPERM, EROFS, S_IFDIR, S_IFMT, S_IFREG
from pyruntime.plan.step import Step
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import Seccomp

_PASSWD_LIMIT = 1 << 20
_HARMLESS = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_ERRNO")
_FORGETTING = frozenset(("madvise", "mmap"))


def plan_cwd(request: Request) -> Iterator[Step]:
    """ENTER: make /process/cwd where it is missing, like runc."""
    if request.process:
        yield Step("/process/cwd", make_cwd, cwd=request.process["cwd"])


def plan_descriptors(request: Request) -> Iterator[Step]:
    """BECOME, first of all: a seccomp filter may forbid it later."""
    if request.process:
        yield Step("", keep_descriptors, preserve_fds=request.preserve_fds)


def plan_environment(request: Request) -> Iterator[Step]:
    """BECOME: /process/env."""
    if request.process:
        yield Step("/process/env", set_environment, env=request.process.get("env") or [])


def plan_home(request: Request) -> Iterator[Step]:
    """BECOME, with the rights of the user's process: /etc/passwd is the image's, and may lead anywhere."""
    if request.process:
        homes = [entry[5:] for entry in request.process.get("env") or () if entry.startswith("HOME=")]
        if not homes or not homes[-1]:
            user = request.process.get("user") or {}
            yield Step("/process/env", set_home, uid=user.get("uid") or 0)


def plan_chdir(request: Request) -> Iterator[Step]:
    """BECOME: into /process/cwd, while still root."""
    if request.process:
        yield Step("/process/cwd", change_directory, cwd=request.process["cwd"])


def plan_chdir_as_user(request: Request) -> Iterator[Step]:
    """BECOME: once more as the user."""
    if request.process:
        yield Step("/process/cwd", change_directory_as_user, cwd=request.process["cwd"])


def plan_find(request: Request) -> Iterator[Step]:
    """BECOME: so that a missing program is an error of `create`, not of `start`."""
    args = request.process.get("args")
    if args:
        yield Step("/process/args/0", find, name=args[0])


def plan_execute(request: Request) -> Iterator[Step]:
    """EXECUTE: the last step."""
    args = request.process.get("args")
    if args:
        yield Step("/process/args", execute, args=args, preserve_fds=request.preserve_fds)


def plan_signals(request: Request) -> Iterator[Step]:
    """BECOME, before a seccomp filter that may forbid it."""
    if request.process:
        yield Step("", reset_signals)


def may_forget(steps: list[Step], seccomp: Seccomp | None) -> bool:
    """Return whether init may wait for `start` without the interpreter: execve(2) is all that is left to do, and the
    container's filter at most refuses the system calls that forgetting takes."""
    # Without a process the one step may be a startContainer hook.
    if len(steps) != 1 or steps[0].do is not execute:
        return False
    if not seccomp:
        return True
    return seccomp["defaultAction"] in _HARMLESS and all(
        rule["action"] in _HARMLESS or not _FORGETTING & set(rule["names"]) for rule in seccomp.get("syscalls") or ()
    )


def make_cwd(init: InitActor, cwd: str) -> None:
    """make sure that the working directory {cwd} is there"""
    try:
        posix.close(rootfs_path.make_directory(init.root_fd, cwd))
    except OSError as error:
        if error.errno == ENOTDIR:
            raise ConfigError(f"{cwd} is not a directory", hint="give a directory of the container") from None
        if error.errno not in (EACCES, EPERM, EROFS):  # left for chdir(2) to judge, as the user
            raise


def set_environment(init: InitActor, env: list[str]) -> None:
    """set the environment"""
    environment = {}
    for entry in env:
        name, equals, value = entry.partition("=")
        if equals and name:
            environment[name] = value
    init.environment = environment


def set_home(init: InitActor, uid: int) -> None:
    """set HOME from the entry of uid {uid} in /etc/passwd"""
    init.environment["HOME"] = home_of(uid)


def home_of(uid: int) -> str:
    """Return the home directory of a user in the container's /etc/passwd, "/" where it has none."""
    wanted = str(uid)
    for line in _passwd().decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) >= 6 and fields[2] == wanted and "\0" not in fields[5]:
            return fields[5] or "/"
    return "/"


def _passwd() -> bytes:
    """Return the first MiB of /etc/passwd if it is a regular file that holds data, else nothing.

    A link may lead to a file that the kernel makes up and whose contents are the host's (/proc/kmsg, sysfs), or to a
    device. Such a file is not even opened. No other system calls than the search for the program takes: without
    noNewPrivileges the container's seccomp filter is in force already."""
    try:
        if not _holds_data(posix.stat("/etc/passwd")):
            return b""
        # O_NONBLOCK: it may have become a fifo meanwhile.
        fd = posix.open("/etc/passwd", posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if not _holds_data(posix.fstat(fd)):
            return b""
        data = b""
        while len(data) < _PASSWD_LIMIT and (chunk := posix.read(fd, 65536)):
            data += chunk
        return data
    except OSError:
        return b""
    finally:
        posix.close(fd)


def _holds_data(found: posix.stat_result) -> bool:
    """Return whether a file is a regular one with contents of its own: procfs, cgroup, debugfs and tracefs say that
    theirs have 0 bytes, sysfs that they have a page without a block."""
    made_up = found.st_size == 0 or (found.st_size == 4096 and found.st_blocks == 0)
    return found.st_mode & S_IFMT == S_IFREG and not made_up


def change_directory(init: InitActor, cwd: str) -> None:
    """change into {cwd}"""
    try:
        posix.chdir(cwd)
    except PermissionError:
        init.cwd_pending = True  # root may not, perhaps the user may (NFS, FUSE)
        return
    except OSError as error:
        raise _cannot_enter(cwd, error) from None
    _refuse_outside(cwd)


def change_directory_as_user(init: InitActor, cwd: str) -> None:
    """change into {cwd} as the user, if root could not"""
    if not init.cwd_pending:
        return
    try:
        posix.chdir(cwd)
    except OSError as error:
        raise _cannot_enter(cwd, error) from None
    _refuse_outside(cwd)


def _cannot_enter(cwd: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"chdir to cwd ({cwd!r}): {strerror(error.errno)} ({errno_name(error.errno)})",
        hint="give a directory that is there and that the user may enter",
    )


def _refuse_outside(cwd: str) -> None:
    """A working directory that getcwd(2) cannot name from this root is the host's (CVE-2024-21626)."""
    try:
        inside = posix.getcwd().startswith("/")
    except OSError:
        inside = False
    if not inside:
        raise ConfigError(f"cwd {cwd!r} is outside of the container's root", hint="give a directory of the container")


def find(init: InitActor, name: str) -> None:
    """find the program {name}"""
    init.program = look_up(name, init.environment.get("PATH", ""))
    executable.check(init.program, name)


def look_up(name: str, search: str) -> str:
    """Return the path of a program: the name itself when it has a slash, else the first in PATH. Raises StepError."""
    if "/" in name:
        _check_executable(name, name)
        return name
    denied = False
    for directory in search.split(":"):
        if directory[:1] != "/":
            continue  # like runc and crun: the working directory is not searched, whatever is in PATH
        candidate = f"{directory}/{name}"
        try:
            found = posix.stat(candidate)
        except OSError:
            continue
        if found.st_mode & S_IFMT == S_IFDIR:
            continue
        if _may_execute(candidate):
            return candidate
        denied = True
    if denied:
        raise StepError(
            f'exec: "{name}": permission denied',
            errno="EACCES",
            why=f"it is in $PATH ({search}), but not executable for this user",
            hint="chmod +x it in the image",
        )
    raise StepError(
        f'exec: "{name}": executable file not found in $PATH',
        errno="ENOENT",
        why=f"PATH is {search}" if search else "PATH is not set",
        hint="give an absolute path, or set PATH to the directories of the container's programs",
    )


def _may_execute(file: str) -> bool:
    """Return whether execve(2) would not refuse a file for its mode: with the effective ids and capabilities, as it
    judges.

    access(2) goes by the real uid, and without capabilities unless that is 0. It is asked first all the same:
    it usually suffices, and the container's seccomp filter may know nothing of faccessat2(2)."""
    return posix.access(file, posix.X_OK) or posix.access(file, posix.X_OK, effective_ids=True)


def _check_executable(file: str, name: str) -> None:
    try:
        found = posix.stat(file)
    except OSError as error:
        raise StepError(
            f'exec: "{name}": stat {file}: {strerror(error.errno)}',
            errno=errno_name(error.errno),
            hint="correct the path, or put the program into the image",
        ) from None
    if found.st_mode & S_IFMT == S_IFDIR:
        # In execve(2)'s words too: docker 20.10 knows no others for its exit status 126.
        raise StepError(
            f'exec: "{name}": is a directory', errno="EACCES", why="permission denied", hint="give a program's path"
        )
    if not _may_execute(file):
        raise StepError(
            f'exec: "{name}": permission denied',
            errno="EACCES",
            why="the file is not executable for this user, or its mount is noexec",
            hint="chmod +x it in the image",
        )


def keep_descriptors(init: InitActor, preserve_fds: int) -> None:
    """keep standard input, output, error and {preserve_fds} more descriptors open over execve"""
    init.close_descriptors(3 + preserve_fds)
    for fd in range(3, 3 + preserve_fds):
        try:
            posix.set_inheritable(fd, True)  # a hook before this one was not to have it
        except OSError:
            pass  # the caller counted one that is not open, as runc allows


def reset_signals(init: InitActor) -> None:
    """give all signals their default action, and block none"""
    process.reset_signals()


def wait_and_execute(init: InitActor, args: list[str], preserve_fds: int) -> None:
    """Wait at the exec fifo and execute, as the step `execute` does, but with no more memory than that takes.

    Returns where it cannot be done: on architectures that native/bare.h lacks, or when mmap(2) fails."""
    words = fastjson.dumps({"execve": init.program, "errno": ""})[:-2]
    process.wait_and_execute(init.fifo, init.failure, words, init.program, args, init.environment)


def not_executed(program: str, number: int) -> StepError:
    """Return the error of execve(2)."""
    return StepError(
        f"exec {program}: {strerror(number)}",
        syscall=f'execve("{program}")',
        errno=errno_name(number),
        pointer="/process/args",
    )


def execute(init: InitActor, args: list[str], preserve_fds: int) -> None:
    """execute {args}"""
    try:
        # Once more, for what a hook may have left.
        init.close_descriptors(3 + preserve_fds)
    except OSError:
        pass  # the container's seccomp filter forbids it; everything since `keep_descriptors` is close-on-exec
    if init.spawn is not None:
        init.spawn.execute(init.program, args, init.environment, init.channel.fileno())
    try:
        posix.execve(init.program, args, init.environment)
    except OSError as error:
        raise not_executed(init.program, error.errno or 0) from None
