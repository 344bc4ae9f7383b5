"""One more process in a container: `exec`, the parent's half and the child's (docs/handshake.md, "exec").

The parent clones a child into the container's cgroup. The child joins the other namespaces in one setns(2) by init's
pidfd, becomes the program's user, and clones the process that executes the program (spawn.py): only that one is in
the container's pid namespace, and so in sight of the container's processes, which are hostile and may have
CAP_SYS_PTRACE (CVE-2016-9962). Two things are unlike `create`:

* no exec fifo: the sync socket closes at execve(2), which is how the parent knows that the program runs;
* the process that runs the program is not the one that did the steps, but a child of the same parent.
"""

from __future__ import annotations

import posix
import sys

from pyruntime.errors import PyruntimeError, StepError, from_json, from_oserror
from pyruntime.features.cgroups import enter
from pyruntime.features.namespaces import target as targets
from pyruntime.features.process import program
from pyruntime.kernel import files, process
from pyruntime.kernel.constants import PR_GET_DUMPABLE, PR_SET_DUMPABLE
from pyruntime.plan.step import BECOME, ENTER, EXECUTE, PREPARE, READY, SETUP, SPAWNED, execute, recording
from pyruntime.plan.step import from_json as step_from_json
from pyruntime.runtime import channel as messages
from pyruntime.runtime import spawn
from pyruntime.runtime.init import Init, open_proc, read_plan, report
from pyruntime.runtime.parent import Parent, adopt, end_init, open_init_pipe, send_plan
from pyruntime.runtime.spawn import Spawn
from pyruntime.state.status import oci_state
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import NoReturn

    from pyruntime.features.exec_registry import ExecPlan, ExecRequest
    from pyruntime.features.namespaces.target import Target
    from pyruntime.runtime.channel import Channel
    from pyruntime.state.store import Record
    from pyruntime.util.log import Log

_PHASES = (ENTER, BECOME, EXECUTE)


class Entrant(Init):
    """The child: what its steps act on.

    target:  the container's init.
    proc_fd: the host's /proc, which the parent opened."""

    __slots__ = ("target",)

    def __init__(
        self, channel: Channel, target: Target, console: _socket.socket | None, proc_fd: int, spawn: Spawn
    ) -> None:
        super().__init__(channel, -1, -1, console)
        self.target = target
        self.proc_fd = proc_fd
        self.setgroups_denied = target.setgroups_denied
        self.spawn = spawn


class ExecParent(Parent):
    """What the steps of the parent act on.

    pid, pidfd: the child's, and once that is adopted those of the process that runs the program."""

    __slots__ = ("patient",)

    plan: ExecPlan  # type: ignore[assignment]  # nothing that `exec` calls asks for the rest of a Plan
    request: ExecRequest

    def __init__(self, plan: ExecPlan, record: Record, log: Log) -> None:
        super().__init__(plan, record, log)  # type: ignore[arg-type]
        self.awaited = messages.READY
        self.patient = False  # into a paused container: it waits until that is resumed

    def overdue(self) -> None:
        """Look after a process that has been silent for long. Raises StepError when it is stuck."""
        if not self.patient:
            super().overdue()

    def thaw(self) -> None:
        """Nothing: the cgroup is the container's, and paused for a reason. The process dies when it is resumed."""

    def oci_state(self, status: str) -> dict[str, object]:
        """Return the container's state; its pid is init's."""
        return oci_state(self.record, status)


def start(parent: ExecParent, target: Target, ready: Callable[[], None] | None = None) -> None:
    """Bring a process into the container: when this returns, it runs its program.

    parent: its plan is an ExecPlan; its pid and pidfd are the new process's afterwards. The connection in its
            request's `console` gets the terminal's master and is closed.
    ready:  called once the terminal is made, before the program runs.
    Raises PyruntimeError; then the process is dead and reaped."""
    execute(parent.plan.steps[PREPARE], parent)
    try:
        write_end, rest = _clone(parent, target)
        try:
            execute(parent.plan.steps[SETUP], parent)
            send_plan(parent, write_end, rest)
        finally:
            posix.close(write_end)
        _attend(parent, target, ready)
    except (BrokenPipeError, ConnectionResetError):
        died = _died(parent, target)
        _blame_filter(parent, died)
        raise died from None
    except OSError as error:
        end_init(parent)
        raise from_oserror(error, doing="run the process") from error
    except BaseException as error:
        end_init(parent)
        _blame_filter(parent, error)
        raise
    finally:
        if parent.channel is not None:
            parent.channel.close()


def _blame_filter(parent: ExecParent, error: BaseException) -> None:
    """Name linux.seccomp as the cause of an error, if it is."""
    if parent.request.linux.get("seccomp"):
        from pyruntime.features.security import seccomp_blame

        seccomp_blame.explain(error, parent.request.config)


def end(parent: ExecParent) -> None:
    """Kill the process, and reap it."""
    end_init(parent)


def _clone(parent: ExecParent, target: Target) -> tuple[int, bytes]:
    """Clone the child; it waits for its plan. Gives back what `send_plan` takes."""
    read_end, write_end, rest = open_init_pipe(_plan_of_child(parent))
    parent.channel, theirs = messages.pair()
    parent.channel.overdue = parent.overdue
    parent.spawned = process.SharedInt()
    proc_fd = open_proc()
    request = parent.request
    terminal = request.console
    dumpable = process.prctl(PR_GET_DUMPABLE)
    recorder = recording()
    if recorder is not None:
        recorder.before_clone(parent, _PHASES, target=target.pid)
    oom_by_child = request.oom_by_child()
    if not oom_by_child:
        process.prctl(PR_SET_DUMPABLE, 0)  # the clone inherits it
    try:
        parent.pid, parent.pidfd = enter.clone(request)
        if parent.pid == 0:
            try:
                if oom_by_child:
                    _set_own_oom_score(request.process.get("oomScoreAdj"))
                    process.prctl(PR_SET_DUMPABLE, 0)
                own = Spawn(parent.spawned)
                own.wait = bool(parent.plan.steps[SPAWNED])
                entrant = Entrant(theirs, target, terminal, proc_fd, own)
                entrant.cgroup_tasks = parent.cgroup_tasks
                start_setns_initialization(read_end, entrant, 3 + request.preserve_fds)
            finally:
                posix._exit(255)  # whatever happened, the child must not climb into the parent's undoing
    finally:
        if dumpable == 1:
            process.prctl(PR_SET_DUMPABLE, 1)
        for fd in (read_end, proc_fd, *parent.cgroup_tasks):
            posix.close(fd)
        parent.cgroup_tasks = []
        theirs.close()
        if terminal is not None:
            terminal.close()
    return write_end, rest


def _set_own_oom_score(value: int | None) -> None:
    """process.oomScoreAdj, by the process itself: once it is not dumpable, an ordinary user cannot write the file."""
    if value is None:
        return
    fd = posix.open("/proc/self/oom_score_adj", posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(fd, b"%d" % value)
    except PermissionError:
        pass  # lower than the caller's own, which features/process/oom_score_adj.py warned about at create
    finally:
        posix.close(fd)


def _plan_of_child(parent: ExecParent) -> bytes:
    """Return the child's half of the plan: one JSON object."""
    steps = {phase: [step.to_json() for step in parent.plan.steps[phase]] for phase in _PHASES}
    return fastjson.dumps({"debug": parent.log.debugging, "steps": steps}).encode("utf-8", "surrogateescape")


def _attend(parent: ExecParent, target: Target, ready: Callable[[], None] | None) -> None:
    """Answer the child's messages, and the spawned process's, until the socket closes, which it does at execve."""
    channel = parent.channel
    assert channel is not None
    running = False
    while True:
        type, arg, _ = channel.receive()
        if type == messages.READY:
            execute(parent.plan.steps[READY], parent)
            if ready is not None:
                ready()
            parent.awaited = messages.WAITING
            channel.send(messages.RUN)
            running = True
        elif type == messages.LOG:
            level, text = arg
            parent.log.tell(level, text)
        elif type == messages.SPAWN:
            if not adopt(parent):
                raise _died(parent, target)
            execute(parent.plan.steps[SPAWNED], parent)
            channel.send(messages.RUN)
        elif type == messages.SECCOMP:
            if not adopt(parent):
                raise _died(parent, target)
            _forward_listener(parent, int(arg["fd"]))
            channel.send(messages.SECCOMP_DONE)
        elif type == messages.ERROR:
            raise spawn.error_of(arg, program.not_executed) if "spawn" in arg else from_json(arg)
        elif not type:
            if not running or not adopt(parent):
                raise _died(parent, target)
            return
        else:
            raise StepError(f"the process sent {type}, which the parent does not know")


def _forward_listener(parent: ExecParent, number: int) -> None:
    from pyruntime.features.security import notify

    notify.forward(
        parent.request.linux["seccomp"],
        pid=parent.pid,
        pidfd=parent.pidfd,
        number=number,
        state=parent.oci_state("running"),
        oci_version=parent.record.oci_version,
    )


def _died(parent: ExecParent, target: Target) -> PyruntimeError:
    """Return the error for a process that ended without a word: its pid namespace did, or it alone."""
    how = end_init(parent, grace=1000)
    if targets.is_dead(target.pidfd):
        return targets.gone(parent.record.id)
    return StepError(
        f"the process died before it became its program: {how}",
        hint="look for an out-of-memory kill (dmesg, linux.resources.memory.limit)",
    )


def start_setns_initialization(init_pipe: int, entrant: Entrant, first: int) -> NoReturn:
    """Read the plan from the init pipe, do it, and become the program. Never returns.

    Descriptors from `first` on that are not the child's own are closed."""
    try:
        _close_inherited(init_pipe, entrant, first)
        _initialize(init_pipe, entrant)
    except PyruntimeError as error:
        report(entrant, error)
    except OSError as error:
        report(entrant, from_oserror(error, doing="run the process"))
    except BaseException as error:
        report(entrant, StepError(f"bug in pyruntime's exec: {type(error).__name__}: {error}"))
    posix._exit(255)


def _close_inherited(init_pipe: int, entrant: Entrant, first: int) -> None:
    own = [init_pipe, entrant.channel.fileno(), entrant.target.pidfd, entrant.target.root, entrant.proc_fd]
    own += entrant.cgroup_tasks
    if entrant.console is not None:
        own.append(entrant.console.fileno())
    recorder = recording()
    if recorder is not None:
        own.append(recorder.in_child())
    files.close_all_but([fd for fd in own if fd >= 0], first)


def _initialize(init_pipe: int, entrant: Entrant) -> None:
    # Whatever may still be asked for by an import statement: from here on the files are the container's.
    sys.meta_path.clear()
    plan = read_plan(init_pipe)
    if plan["debug"]:
        entrant.trace = entrant.tell_step
    steps = {phase: [step_from_json(step) for step in plan["steps"][phase]] for phase in _PHASES}

    execute(steps[ENTER], entrant)
    # Nothing that is a directory of the host's, or the way to one, is open from here on: the next steps follow
    # paths of the container's, and /proc/self/fd/N is one (CVE-2024-21626).
    for fd in (entrant.proc_fd, entrant.root_fd):
        posix.close(fd)
    entrant.target.close()
    entrant.channel.send(messages.READY)
    entrant.channel.expect(messages.RUN)
    execute(steps[BECOME], entrant)
    if entrant.spawn is not None and entrant.spawn.wait:
        entrant.channel.send(messages.SPAWN)
    execute(steps[EXECUTE], entrant)
