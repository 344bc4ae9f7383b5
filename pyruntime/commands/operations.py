"""The commands as a program that keeps an interpreter warm does them: each in a forked child of that program.

The library's helper (cli/serve.py) and the containerd shim (shim/) are such programs. A child, because making a
container changes the process that makes it (dumpable, namespaces for a moment, descriptors 0 to 2), and because
one that hangs can be killed. What comes back is a value as JSON, or the error.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only the slow half
import _socket
import gc
import posix

from pyruntime.cgroupfs import freezer
from pyruntime.cli import create as cli_create
from pyruntime.cli import exec as cli_exec
from pyruntime.cli import flags
from pyruntime.commands import lifecycle
from pyruntime.errors import PyruntimeError, StateError, Unknown, from_json, from_oserror
from pyruntime.features.cgroups import enter
from pyruntime.features.exec_registry import ExecPlan
from pyruntime.features.namespaces import target
from pyruntime.kernel import files, process
from pyruntime.kernel.constants import PR_SET_PDEATHSIG
from pyruntime.runtime import exec
from pyruntime.spec import load
from pyruntime.state import store
from pyruntime.state.status import status_of
from pyruntime.util import fastjson
from pyruntime.util.fileio import read_file
from pyruntime.util.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from pyruntime.util.ids import ContainerId

_SIGKILL = 9
_EMSGSIZE = 90
_SHORT, _FEW = 4096, 10
END = b"\n"  # of an answer: it is whole, whatever the child still has to do
_CREATE_DEFAULTS, _ = flags.parse([], cli_create.FLAGS)
_EXEC_DEFAULTS, _ = flags.parse([], cli_exec.FLAGS)


class Warnings(Log):
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def _write(self, level: str, text: str) -> None:
        self.texts.append(text)


class Settings:
    """What every operation needs to know of its caller: cli.main.Context without a command line."""

    __slots__ = ("log", "root", "rootless", "systemd_cgroup")

    def __init__(self, root: str, *, rootless: bool = False, systemd_cgroup: bool = False) -> None:
        self.root = root
        self.rootless = rootless
        self.systemd_cgroup = systemd_cgroup
        self.log = Warnings()


def create(settings: Settings, id: ContainerId, *, console: int = -1, **options: Any) -> dict[str, Any]:
    """Create a container with this process's descriptors 0 to 2: {"pid", "start"} of its init.

    options: `bundle`, `no-pivot`, `no-new-keyring` as the command's flags.
    console: a connected socket that gets the terminal's master, if there is to be one."""
    context: Any = settings
    request, raw = cli_create.request_of(context, {**_CREATE_DEFAULTS, **options}, id, detach=console < 0)
    set_console(request, console)
    record = lifecycle.create(request, settings.root, raw, settings.log)
    return {"pid": record.pid, "start": record.start}


class Prepared:
    """A container that is planned, and of which nothing is made yet.

    raw: config.json as it was read."""

    def __init__(self, settings: Settings, id: ContainerId, **options: Any) -> None:
        """Arguments as of `create`. Raises PyruntimeError."""
        context: Any = settings
        self.settings = settings
        self.request, self.raw = cli_create.request_of(context, {**_CREATE_DEFAULTS, **options}, id, detach=False)
        self.plan = lifecycle.plan_for(self.request)

    def create(self, console: int = -1) -> dict[str, Any]:
        """Make it, as `create` does."""
        set_console(self.request, console)
        record = lifecycle.create(self.request, self.settings.root, self.raw, self.settings.log, self.plan)
        return {"pid": record.pid, "start": record.start}


def start(settings: Settings, id: ContainerId) -> None:
    """Let a container's init become the user's process."""
    lifecycle.start(store.load(settings.root, id), settings.log)


class PreparedProcess:
    """One more process of a container, planned and not made yet."""

    def __init__(
        self,
        settings: Settings,
        id: ContainerId,
        *,
        process: dict[str, Any] | None = None,
        attached: bool,
        **options: Any,
    ) -> None:
        """Arguments as of `run_process`; attached: there will be a console. Raises PyruntimeError."""
        context: Any = settings
        self.settings = settings
        self.record = store.load(settings.root, id)
        self.ignore_paused = bool(options.pop("ignore-paused", False))
        cli_exec.check_status(self.record, ignore_paused=self.ignore_paused)
        config = load.load_object(self.record.path(store.CONFIG))
        first = config.get("process") or {}
        self.origin = cli_exec.Origin()
        if process is not None:
            config["process"] = cli_exec.complete(context, first, process, "process", self.origin)
        else:
            args = options.pop("args")
            config["process"] = cli_exec.process_of(context, first, {**_EXEC_DEFAULTS, **options}, args, self.origin)
        self.target = target.find(self.record)
        self.request = cli_exec.request_of(
            self.record,
            config,
            self.target,
            settings.rootless,
            cgroups=enter.chosen(self.record.cgroups, []),
            detach=not attached,
        )
        try:
            self.plan = ExecPlan(self.request)
        except PyruntimeError as error:
            self.origin.correct(error)
            raise

    def run(self, console: int = -1) -> dict[str, Any]:
        """Run it, as `run_process` does, if the container is still in a state for that."""
        cli_exec.check_status(self.record, ignore_paused=self.ignore_paused)
        set_console(self.request, console)
        for text in self.request.warnings:
            self.settings.log.warning(text)
        parent = exec.ExecParent(self.plan, self.record, self.settings.log)
        parent.patient = self.ignore_paused
        try:
            exec.start(parent, self.target)
        except PyruntimeError as error:
            self.origin.correct(error)
            raise
        self.target.close()
        return {"pid": parent.pid, "start": start_of(parent.pid)}


def run_process(
    settings: Settings, id: ContainerId, *, process: dict[str, Any] | None = None, console: int = -1, **options: Any
) -> dict[str, Any]:
    """Run one more process in a container: {"pid", "start"} of it.

    process: a whole process object; else the container's own with `args` and what options change, which are the
             command's flags (`cwd`, `env`, `user`, `tty`)."""
    prepared = PreparedProcess(settings, id, process=process, attached=console >= 0, **options)
    return prepared.run(console)


def set_console(request: Any, console: int) -> None:
    """Let a connected socket get the terminal's master; -1: there is nobody who takes it. Raises StateError."""
    if console >= 0:
        request.console = _socket.socket(fileno=console)
    elif request.process.get("terminal"):
        raise StateError("the process has a terminal, and nobody takes it", hint="ask for the terminal, or for none")


def kill(settings: Settings, id: ContainerId, *, signal: int, everything: bool = False) -> None:
    """Send a signal to a container's init, or with everything to all of its processes."""
    record = store.load(settings.root, id)
    try:
        lifecycle.kill(record, signal, everything=everything)
    except Unknown:
        raise
    except StateError:
        if not everything:
            raise


def delete(settings: Settings, id: ContainerId, *, force: bool = False) -> None:
    """Remove a container. With force an unknown one is no error."""
    lifecycle.delete_by_id(settings.root, id, force=force, log=settings.log)


def pause(settings: Settings, id: ContainerId) -> None:
    """Freeze all processes of a container."""
    record = store.load(settings.root, id)
    lock = store.lock(record.directory, record.id)
    try:
        status = status_of(record)
        if status not in ("running", "created"):
            raise StateError(f"container not running or created: {record.id} is {status}")
        freezer.freeze(record.cgroups)
    finally:
        posix.close(lock)


def resume(settings: Settings, id: ContainerId) -> None:
    """Let a paused container go on."""
    record = store.load(settings.root, id)
    lock = store.lock(record.directory, record.id)
    try:
        status = status_of(record)
        if status != "paused":
            raise StateError(f"container not paused: {record.id} is {status}")
        freezer.thaw(record.cgroups)
    finally:
        posix.close(lock)


def update(settings: Settings, id: ContainerId, *, resources: dict[str, Any]) -> None:
    """Change limits; resources as of linux.resources."""
    from pyruntime.features.cgroups import update as cgroup_update
    from pyruntime.spec import check

    record = store.load(settings.root, id)
    for problem in check.without_errors(check.check_resources(resources), "resources"):
        settings.log.warning(f"resources: {problem}")
    lock = store.lock(record.directory, record.id)
    try:
        if status_of(record) == "stopped":
            raise StateError(f"container not running: {record.id} is stopped")
        cgroup_update.update(record, resources, settings.log.warning)
    finally:
        posix.close(lock)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "create": create,
    "start": start,
    "exec": run_process,
    "kill": kill,
    "delete": delete,
    "pause": pause,
    "resume": resume,
    "update": update,
}


def fork(
    name: str,
    work: Callable[..., Any],
    settings: Settings,
    id: ContainerId,
    answer: int,
    *,
    stdio: tuple[int, ...] = (),
    console: int = -1,
    kept: tuple[int, ...] = (),
    tied: bool = False,
    arguments: dict[str, Any] | None = None,
) -> int:
    """Do an operation, `work(settings, id, **arguments)`, in a child: its pid.

    The child writes one JSON object and END to the descriptor answer, and ends: {"value", "warnings"} or
    {"error", "warnings"}; see `result`. name: the operation, for messages.

    stdio: what the child's descriptors 0, 1, 2 are to be; without it they are /dev/null. kept: others that it keeps.
    tied: the child is killed when the caller dies: what it has begun is then for `delete`, and nothing comes later."""
    caller = posix.getpid()
    pid = posix.fork()
    if pid != 0:
        return pid
    try:
        if tied:
            process.prctl(PR_SET_PDEATHSIG, _SIGKILL)
            if posix.getppid() != caller:  # it has died meanwhile
                posix._exit(1)
        _perform(name, work, settings, id, answer, stdio, console, kept, arguments or {})
    finally:
        posix._exit(1)  # nothing of the child may climb into the caller's loop


def _perform(
    name: str,
    work: Callable[..., Any],
    settings: Settings,
    id: ContainerId,
    answer: int,
    stdio: tuple[int, ...],
    console: int,
    kept: tuple[int, ...],
    arguments: dict[str, Any],
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
    answered["warnings"] = settings.log.texts
    _answer(answer, answered)
    posix._exit(0)


def _answer(fd: int, answered: dict[str, Any]) -> None:
    data = fastjson.dumps(answered).encode("utf-8", "surrogateescape") + END
    try:
        while data:
            data = data[posix.write(fd, data) :]
    except OSError as error:
        if error.errno != _EMSGSIZE:
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


def _explained(error: PyruntimeError) -> dict[str, Any]:
    if error.errno and not error.why:
        from pyruntime.diagnose import hints

        hints.add(error)
    return error.to_json()


def _above(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def result(data: bytes, doing: str) -> tuple[Any, list[str]]:
    """What a child of `fork` has written: (value, warnings). Raises the error."""
    if not data:
        raise PyruntimeError(f"{doing}: the process that did it died", hint="dmesg may tell who killed it")
    answered: Any = fastjson.loads(data.decode("utf-8", "surrogateescape"))
    if "error" in answered:
        raise from_json(answered["error"])
    return answered["value"], answered["warnings"]


def start_of(pid: int) -> int:
    """When a child of ours started, one that has ended and is not reaped, too: proc(5), stat, field 22."""
    text = read_file(f"/proc/{pid}/stat")
    return int(text[text.rindex(")") + 2 :].split()[19])
