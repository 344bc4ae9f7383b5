"""Commands in forked children of a process that keeps an interpreter warm.

The library's helper (cli/serve.py) and the containerd shim (shim/) are such processes. A child, because making a
container changes the process that makes it (dumpable, namespaces for a moment, descriptors 0 to 2), and because
one that hangs can be killed. Arguments come as JSON and a value goes back as JSON, or the error.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only the slow half
import _socket
import gc
import posix

from pyruntime.commands import create, exec
from pyruntime.commands import delete as delete_command
from pyruntime.commands import kill as kill_command
from pyruntime.commands import pause as pause_command
from pyruntime.commands import resume as resume_command
from pyruntime.commands import start as start_command
from pyruntime.commands.create import CreateOptions
from pyruntime.commands.exec import ExecOptions
from pyruntime.commands.settings import Settings
from pyruntime.errors import PyruntimeError, StateError, from_json, from_oserror
from pyruntime.kernel import files, process
from pyruntime.kernel.constants import EMSGSIZE, PR_SET_PDEATHSIG, SIGKILL
from pyruntime.state import store
from pyruntime.util import fastjson, procfs
from pyruntime.util.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import Mount, Process, Resources
    from pyruntime.util.ids import ContainerId

_SHORT, _FEW = 4096, 10
END = b"\n"  # of an answer: it is whole, whatever the child still has to do


class Warnings(Log):
    """A log that keeps the texts of warnings: they go back with the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def _write(self, level: str, text: str) -> None:
        self.texts.append(text)


def settings(root: str, *, rootless: bool = False, systemd_cgroup: bool = False) -> Settings:
    """Return the settings of a child's command, with a log that keeps the warnings."""
    return Settings(root, rootless=rootless, systemd_cgroup=systemd_cgroup, log=Warnings())


class PreparedContainer:
    """A container that is planned, and of which nothing is made yet.

    raw: config.json as it was read."""

    def __init__(self, settings: Settings, id: ContainerId, **options: Any) -> None:
        """options: as of CreateOptions. Raises PyruntimeError."""
        self.settings = settings
        self.request, self.raw = create.request_of(settings, id, CreateOptions(**options, detach=False))
        self.plan = create.plan_for(self.request)

    def create(self, console: int = -1) -> dict[str, object]:
        """Make it, with this process's descriptors 0 to 2: {"pid", "start"} of its init.

        console: a connected socket that gets the master of the terminal, -1 if there is none."""
        set_console(self.request, console)
        record = create.make(self.request, self.settings.root, self.raw, self.settings.log, self.plan)
        return {"pid": record.pid, "start": record.start}


class PreparedProcess:
    """One more process of a container, planned and not run yet."""

    def __init__(self, settings: Settings, id: ContainerId, *, attached: bool, **options: Any) -> None:
        """options: as of ExecOptions. attached: there will be a console. Raises PyruntimeError."""
        self.prepared = exec.Prepared(settings, id, ExecOptions(**options, detach=not attached))

    def run(self, console: int = -1) -> dict[str, object]:
        """Run it, if the container is still in a state for that: {"pid", "start"} of the process."""
        set_console(self.prepared.request, console)
        parent = self.prepared.run_again()
        return {"pid": parent.pid, "start": start_of(parent.pid)}


def set_console(request: Request, console: int) -> None:
    """Send the terminal's master to a connected socket; -1: there is none. Raises StateError."""
    if console >= 0:
        request.console = _socket.socket(fileno=console)
    elif request.process.get("terminal"):
        raise StateError("the process has a terminal without a receiver", hint="ask for the terminal, or for none")


def _create(settings: Settings, id: ContainerId, *, console: int = -1, **options: Any) -> dict[str, object]:
    request, raw = create.request_of(settings, id, CreateOptions(**options, detach=console < 0))
    set_console(request, console)
    record = create.make(request, settings.root, raw, settings.log)
    return {"pid": record.pid, "start": record.start}


def _start(settings: Settings, id: ContainerId) -> None:
    start_command.start(store.load(settings.root, id), settings.log)


def _exec(settings: Settings, id: ContainerId, *, console: int = -1, **options: Any) -> dict[str, object]:
    return PreparedProcess(settings, id, attached=console >= 0, **options).run(console)


def _kill(settings: Settings, id: ContainerId, *, signal: int, everything: bool = False) -> None:
    kill_command.kill_by_id(settings.root, id, signal, everything=everything)


def _delete(settings: Settings, id: ContainerId, *, force: bool = False) -> None:
    delete_command.delete_by_id(settings.root, id, force=force, log=settings.log)


def _pause(settings: Settings, id: ContainerId) -> None:
    pause_command.pause(settings.root, id)


def _resume(settings: Settings, id: ContainerId) -> None:
    resume_command.resume(settings.root, id)


def _update(settings: Settings, id: ContainerId, *, resources: Resources, process: Process | None = None) -> None:
    from pyruntime.commands import update

    update.update(settings, id, resources, process=process)


def _add_mounts(settings: Settings, id: ContainerId, *, mounts: list[Mount]) -> None:
    from pyruntime.commands import mounts as mounts_command

    mounts_command.add(settings, id, mounts)


def _remove_mounts(settings: Settings, id: ContainerId, *, destinations: list[str]) -> None:
    from pyruntime.commands import mounts as mounts_command

    mounts_command.remove(settings, id, destinations)


# command -> a function of (settings, id, **arguments), arguments and value being JSON. `create` and `exec` take the
# options of CreateOptions and ExecOptions, and `console`: see PreparedContainer.
COMMANDS: dict[str, Callable[..., object]] = {
    "create": _create,
    "start": _start,
    "exec": _exec,
    "kill": _kill,
    "delete": _delete,
    "pause": _pause,
    "resume": _resume,
    "update": _update,
    "add_mounts": _add_mounts,
    "remove_mounts": _remove_mounts,
}


def fork(
    name: str,
    work: Callable[..., object],
    settings: Settings,
    id: ContainerId,
    answer: int,
    *,
    stdio: tuple[int, ...] = (),
    console: int = -1,
    kept: tuple[int, ...] = (),
    tied: bool = False,
    arguments: dict[str, object] | None = None,
) -> int:
    """Do an operation, `work(settings, id, **arguments)`, in a child: its pid.

    The child writes one JSON object and END to the descriptor answer, and ends: {"value", "warnings"} or
    {"error", "warnings"}; see `result`. name: the operation, for messages.

    stdio: the child's descriptors 0, 1, 2; without it they are /dev/null. kept: others that it keeps.
    tied: the child is killed when the caller dies: what it has begun is then for `delete`, and nothing comes later."""
    caller = posix.getpid()
    pid = posix.fork()
    if pid != 0:
        return pid
    try:
        if tied:
            process.prctl(PR_SET_PDEATHSIG, SIGKILL)
            if posix.getppid() != caller:  # it has died meanwhile
                posix._exit(1)
        _perform(name, work, settings, id, answer, stdio, console, kept, arguments or {})
    finally:
        posix._exit(1)  # nothing of the child may climb into the caller's loop


def _perform(
    name: str,
    work: Callable[..., object],
    settings: Settings,
    id: ContainerId,
    answer: int,
    stdio: tuple[int, ...],
    console: int,
    kept: tuple[int, ...],
    arguments: dict[str, object],
) -> NoReturn:
    gc.disable()
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    # First of all: the caller may have as many open as it is allowed to.
    files.close_all_but([fd for fd in (answer, console, *kept, *stdio) if fd >= 0], 3)
    take_streams(stdio)
    for fd in {fd for fd in stdio if fd > 2}:
        posix.close(fd)
    if console >= 0:
        arguments = {**arguments, "console": console}
    answered: dict[str, Any] = {}
    try:
        answered["value"] = work(settings, id, **arguments)
    except PyruntimeError as error:
        answered["error"] = _explained(error)
    except OSError as error:
        answered["error"] = _explained(from_oserror(error, doing=name))
    except Exception as error:
        answered["error"] = PyruntimeError(f"bug in pyruntime: {type(error).__name__}: {error}").to_json()
    answered["warnings"] = settings.log.texts if isinstance(settings.log, Warnings) else []
    _answer(answer, answered)
    posix._exit(0)


def _answer(fd: int, answered: dict[str, Any]) -> None:
    data = fastjson.dumps(answered).encode("utf-8", "surrogateescape") + END
    try:
        while data:
            data = data[posix.write(fd, data) :]
    except OSError as error:
        if error.errno != EMSGSIZE:
            raise
        # One packet of a socket: the message of an error may quote all of a long command line.
        if "error" in answered:
            answered["error"]["message"] = answered["error"]["message"][:_SHORT] + "..."
            answered["error"] |= {"why": None, "syscall": None}
        answered["warnings"] = [text[:_SHORT] for text in answered["warnings"][:_FEW]]
        posix.write(fd, fastjson.dumps(answered).encode("utf-8", "surrogateescape") + END)


def take_streams(stdio: tuple[int, ...]) -> None:
    """Make these descriptors this process's 0, 1 and 2; without them /dev/null."""
    if stdio:
        # Above 2 first: one of them may be where another is to go.
        high = [fd if fd > 2 else _above(fd) for fd in stdio]
        for number, fd in enumerate(high):
            posix.dup2(fd, number)
        return
    null = posix.open("/dev/null", posix.O_RDWR)
    for number in (0, 1, 2):
        posix.dup2(null, number)


def _explained(error: PyruntimeError) -> dict[str, object]:
    if error.errno and not error.why:
        from pyruntime.diagnose import hints

        hints.add(error)
    return error.to_json()


def _above(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def result(data: bytes, doing: str) -> tuple[Any, list[str]]:
    """Return what a child of `fork` has written: (value, warnings). Raises the error."""
    if not data:
        raise PyruntimeError(f"{doing}: the process that did it died", hint="see dmesg(1) for what killed it")
    answered = fastjson.loads(data.decode("utf-8", "surrogateescape"))
    if "error" in answered:
        raise from_json(answered["error"])
    return answered["value"], answered["warnings"]


def start_of(pid: int) -> int:
    """Return when a child of ours started, one that has ended and is not reaped, too: proc(5), stat, field 22."""
    return int(procfs.stat(pid)[procfs.START_TIME])
