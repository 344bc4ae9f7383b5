"""/hooks: programs of the bundle's author, run at six moments (runtime-spec config.md, "POSIX-platform Hooks").

    prestart                  parent, runtime's namespaces, before the pivot   state: created, from 1.1 on creating
    createRuntime             the same                                         state: creating
    createContainer           init, container's namespaces, before the pivot   state: creating
    startContainer            init, container's namespaces and root            state: created
    poststart                 parent of `start`, once the user's process runs  state: running
    poststop                  `delete`, once everything else is gone           state: stopped

Each gets the state as JSON on standard input; it need not read it. createContainer hooks start in the rootfs,
startContainer hooks in process.cwd, the others in the bundle. Without `env`, createContainer hooks have
process.env, startContainer hooks the environment of the user's process, the others that of the runtime.
"""

from __future__ import annotations

import posix
import select
import time

from pyruntime import version
from pyruntime.errors import HookError, StepError, errno_name, strerror
from pyruntime.kernel import files
from pyruntime.kernel.constants import ENOENT, ENOEXEC, O_PATH, SIGKILL, SIGPIPE, SIGXFSZ
from pyruntime.plan.step import Step
from pyruntime.state.status import oci_state
from pyruntime.state.store import ABANDONED
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.plan.actors import HookActor, InitActor
    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import Hook
    from pyruntime.state.store import Record

_KEPT = 4096  # bytes of a hook's output that are kept for its error
_LOOK_MS = 1000
_DAY = 86400.0  # poll(2) takes less than a month at once


def plan_runtime(request: Request) -> Iterator[Step]:
    """HOOKS: prestart, then createRuntime."""
    # Before 1.1 prestart hooks ran after `start` was called, on a created container; the state still says so.
    before_1_1 = version.of_spec(request.config["ociVersion"]) < (1, 1)
    yield from _plan(request, "prestart", "created" if before_1_1 else "creating")
    yield from _plan(request, "createRuntime", "creating")


def plan_create_container(request: Request) -> Iterator[Step]:
    """ENTER, before the pivot."""
    yield from _plan(request, "createContainer", "creating", request.process.get("env") or [])


def plan_start_container(request: Request) -> Iterator[Step]:
    """EXECUTE, before the user's program."""
    yield from _plan(request, "startContainer", "created")


class RecordActor:
    """What poststart and poststop hooks act on: the record of a container, without a process of it."""

    __slots__ = ("record", "trace")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.trace: Callable[..., None] | None = None

    def oci_state(self, status: str) -> dict[str, object]:
        """Return the state that a hook reads."""
        return oci_state(self.record, status)


def plan_poststart(hooks: dict[str, list[Hook]]) -> Iterator[Step]:
    """STARTED: from the hooks that the state record keeps."""
    return _steps(hooks, "poststart", "running")


def plan_poststop(hooks: dict[str, list[Hook]]) -> Iterator[Step]:
    """STOPPED: from the hooks that the state record keeps."""
    return _steps(hooks, "poststop", "stopped")


def _plan(request: Request, kind: str, status: str, inherited: list[str] | None = None) -> Iterator[Step]:
    return _steps(request.config.get("hooks") or {}, kind, status, inherited)


def _steps(hooks: dict[str, list[Hook]], kind: str, status: str, inherited: list[str] | None = None) -> Iterator[Step]:
    """inherited: the environment of a hook without one; None for what the actor has when the hook is run."""
    for index, hook in enumerate(hooks.get(kind) or ()):
        env = hook.get("env")
        yield Step(
            f"/hooks/{kind}/{index}",
            run,
            kind=kind,
            index=index,
            path=hook["path"],
            args=hook.get("args") or [hook["path"]],
            env=inherited if env is None else env,
            timeout=hook.get("timeout"),
            status=status,
        )


def run(
    actor: HookActor,
    kind: str,
    index: int,
    path: str,
    args: list[str],
    env: list[str] | None,
    timeout: int | None,
    status: str,
) -> None:
    """run the {kind} hook {index}: {path}"""
    state = fastjson.dumps(actor.oci_state(status)).encode("utf-8", "surrogateescape")
    title = f"{kind} hook #{index}: {path}"
    record = actor.record  # init has none: `delete --force` kills it, and its hook with it
    abandoned = record.path(ABANDONED) if record is not None and kind != "poststop" else ""
    environment: dict[str, str] | dict[bytes, bytes]
    if env is not None:
        environment = dict(entry.partition("=")[::2] for entry in env if "=" in entry)
    else:
        environment = _init(actor).environment if kind == "startContainer" else posix.environ
    # Descriptors that the caller left open are neither the hook's nor, without --preserve-fds, the container's.
    files.close_on_exec_from(3)
    files_of_output = _open_output(record)
    stdin_read, stdin_write = posix.pipe2(posix.O_CLOEXEC)
    output_read, output_write = posix.pipe2(posix.O_CLOEXEC)
    here = -1
    try:
        here = _enter_directory(actor, kind, record)
        pid = posix.posix_spawn(
            path,
            args,
            environment,
            file_actions=[
                (posix.POSIX_SPAWN_DUP2, stdin_read, 0),
                *(
                    (posix.POSIX_SPAWN_DUP2, output_write if fd < 0 else fd, number)
                    for number, fd in enumerate(files_of_output or (-1, -1), 1)
                ),
            ],
            setsigdef=(SIGPIPE, SIGXFSZ),
            setsigmask=(),
        )
    except OSError as error:
        for fd in (stdin_write, output_read):
            posix.close(fd)
        why, hint = _cause(path, error.errno or 0, kind)
        raise HookError(
            f"error running {title}: {strerror(error.errno)} ({errno_name(error.errno)})",
            errno=errno_name(error.errno),
            why=why,
            hint=hint,
        ) from None
    finally:
        if here >= 0:
            posix.fchdir(here)
            posix.close(here)
        for fd in (stdin_read, output_write, *files_of_output):
            if fd >= 0:
                posix.close(fd)
    try:
        code, output = _attend(pid, stdin_write, output_read, state, timeout, title, abandoned)
    finally:
        posix.close(output_read)
    if code:
        ended = f"exit status {code}" if code > 0 else f"killed by signal {-code}"
        raise HookError(
            f"error running {title}: {ended}",
            why=f"it said: {output}" if output else "it said nothing",
            hint="try the hook by hand with the container's state as JSON on standard input",
        )


def _open_output(record: Record | None) -> list[int]:
    """Return descriptors of the files for a hook's output and errors that crun's annotations name; -1 for none."""
    if record is None or not any(name.startswith("run.oci.hooks.") for name in record.annotations):
        return []
    found = []
    for name in ("stdout", "stderr"):
        file = record.annotations.get(f"run.oci.hooks.{name}")
        if not file:
            found.append(-1)
            continue
        flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NONBLOCK
        try:
            fd = posix.open(file, flags, 0o600)
        except OSError as error:
            for fd in found:
                if fd >= 0:
                    posix.close(fd)
            reason = f"{strerror(error.errno)} ({errno_name(error.errno)})"
            raise HookError(f"open {file}: {reason}", pointer=f"/annotations/run.oci.hooks.{name}") from None
        posix.set_blocking(fd, True)
        found.append(fd)
    return found


def _init(actor: HookActor) -> InitActor:
    """Return the actor of createContainer and startContainer hooks, which are in phases of init."""
    return actor  # type: ignore[return-value]


def _cause(path: str, number: int, kind: str) -> tuple[str | None, str]:
    """Return why a hook cannot be executed, and what to do: the file is looked at where execve(2) does not say."""
    if number in (ENOENT, ENOEXEC) and posix.access(path, posix.F_OK):
        from pyruntime.features.process import executable  # in init since the plan

        try:
            executable.check(path, path)
        except StepError as error:
            return error.why, error.hint or ""
    return None, f"correct the path in hooks.{kind}, or install the program"


def _enter_directory(actor: HookActor, kind: str, record: Record | None) -> int:
    """Change into the directory that a hook starts in: the descriptor of the way back, -1 where none is needed."""
    if kind == "startContainer" or (record is None and kind != "createContainer"):
        return -1
    here = posix.open(".", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        if record is None:
            posix.fchdir(_init(actor).root_fd)
        else:
            try:
                posix.chdir(record.bundle)
            except FileNotFoundError:
                if kind != "poststop":
                    raise
                posix.chdir("/")  # an engine may have removed the bundle: the hook cleans up all the same
    except BaseException:
        posix.close(here)
        raise
    return here


def _attend(
    pid: int, stdin: int, output: int, state: bytes, timeout: int | None, title: str, abandoned: str
) -> tuple[int, str]:
    """Feed a hook, keep what it says, and wait for it: (exit code or minus the signal, output).

    abandoned: a file that appears when the container is deleted meanwhile; "" for none."""
    pidfd = posix.pidfd_open(pid)
    posix.set_blocking(stdin, False)
    posix.set_blocking(output, False)
    deadline = None if timeout is None else time.monotonic() + timeout
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(output, select.POLLIN)
    poll.register(stdin, select.POLLOUT)
    said = b""
    unsent = memoryview(state)
    try:
        while True:
            left = None if deadline is None else min(max(0.0, deadline - time.monotonic()), _DAY) * 1000
            ready = dict(poll.poll(_LOOK_MS if abandoned and (left is None or left > _LOOK_MS) else left))
            late = deadline is not None and time.monotonic() >= deadline
            if pidfd not in ready and (late or (abandoned and posix.access(abandoned, posix.F_OK))):
                posix.kill(pid, SIGKILL)
                posix.waitpid(pid, 0)
                if not late:
                    raise HookError(f"error running {title}: killed: the container was deleted by force meanwhile")
                raise HookError(
                    f"error running {title}: timed out after {timeout} s",
                    why=f"it said: {_text(said)}" if said else None,
                    hint="make the hook quicker, or its timeout longer",
                )
            if stdin >= 0 and stdin in ready:
                try:
                    unsent = unsent[posix.write(stdin, unsent) :]
                except BlockingIOError:
                    pass
                except BrokenPipeError:  # it does not want to know
                    unsent = memoryview(b"")
                if not unsent:
                    poll.unregister(stdin)
                    posix.close(stdin)
                    stdin = -1
            if output in ready:
                said = _read(output, poll, said)
            if pidfd in ready:
                # What it started may hold the pipe for ever: take what is there, do not wait for an end.
                said = _read(output, None, said)
                _, status = posix.waitpid(pid, 0)
                return posix.waitstatus_to_exitcode(status), _text(said)
    finally:
        posix.close(pidfd)
        if stdin >= 0:
            posix.close(stdin)


def _read(output: int, poll: select.poll | None, said: bytes) -> bytes:
    try:
        chunk = posix.read(output, 65536)
    except BlockingIOError:
        return said
    if not chunk and poll is not None:
        poll.unregister(output)
    return (said + chunk)[-_KEPT:]


def _text(said: bytes) -> str:
    return " / ".join(said.decode("utf-8", "replace").split("\n")).strip(" /")
