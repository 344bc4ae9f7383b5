"""The parent's half of a start: clone init, attend to it, and answer for what went wrong (docs/handshake.md)."""

from __future__ import annotations

import posix
import select
import time

from pyruntime.errors import PyruntimeError, StepError, from_json, from_oserror
from pyruntime.features.cgroups import place
from pyruntime.features.process import program
from pyruntime.kernel import files, process
from pyruntime.kernel.constants import PR_SET_DUMPABLE, SIGKILL
from pyruntime.kernel.pidfd import send_signal
from pyruntime.plan.step import EXECUTE, HOOKS, INIT_PHASES, PREPARE, READY, SETUP, SPAWNED, execute, recording
from pyruntime.runtime import channel as messages
from pyruntime.runtime import exec_fifo, joining, spawn
from pyruntime.runtime.init import Init, start_initialization
from pyruntime.runtime.joining import await_descriptor
from pyruntime.state.status import note_init, oci_state
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime.features.registry import Plan
    from pyruntime.plan.step import Step
    from pyruntime.runtime import stall
    from pyruntime.runtime.channel import Channel
    from pyruntime.state.store import Record
    from pyruntime.util.log import Log

_DEATH_MS = 2000  # after that cgroupfs.kill waits longer
# What init is about while a message of its is awaited.
_DOING = {
    messages.HOOKS: "to make its mounts and devices",
    messages.READY: "to enter its root",
    messages.WAITING: "to become its user and find its program",
}


class Parent:
    """What the steps of the parent act on.

    pid, pidfd: init's, as the parent sees it; 0 and -1 before the clone.
    awaited: the message expected from init next; watch: checks init when the message does not arrive.
    cgroup_tasks, cgroup_directory: how init gets into its cgroup (features/cgroups/place.py).
    spawned: where init's clone leaves the pid of the process that executes the program, until that is adopted; None
             when init executes it (runtime/spawn.py).
    proc_contexts: in init, opened proc filesystems of the pid namespace that it is not in (runtime/shared_pid.py).
    """

    __slots__ = (
        "awaited",
        "cgroup_directory",
        "cgroup_tasks",
        "channel",
        "log",
        "pid",
        "pidfd",
        "plan",
        "proc_contexts",
        "record",
        "request",
        "spawned",
        "trace",
        "watch",
    )

    def __init__(self, plan: Plan, record: Record, log: Log) -> None:
        self.plan = plan
        self.request = plan.request
        self.record = record
        self.log = log
        self.pid = 0
        self.pidfd = -1
        self.cgroup_tasks: list[int] = []
        self.cgroup_directory: int | None = None
        self.channel: Channel | None = None
        self.spawned: process.SharedInt | None = None
        self.proc_contexts: list[int] = []
        self.awaited = messages.HOOKS
        self.watch: stall.Watch | None = None
        self.trace: Callable[[Step], None] | None = self.tell_step if log.debugging else None

    def warn(self, text: str) -> None:
        """Log a message."""
        self.log.warning(text)

    def tell_step(self, step: Step) -> None:
        """Log the next step with --debug."""
        self.log.debug(f"parent: {step.describe()}")

    def overdue(self) -> None:
        """Check an init that has been silent for long. Raises StepError when it makes no progress."""
        from pyruntime.runtime import stall

        doing = _DOING[self.awaited]
        if self.watch is None or self.watch.doing != doing:
            self.watch = stall.Watch(self.pid, doing)
        self.watch.look()

    def thaw(self) -> None:
        """Thaw init, so that a pending SIGKILL reaches it."""
        from pyruntime.cgroupfs import kill

        kill.thaw_for_death(self.record.cgroups)

    def oci_state(self, status: str) -> dict[str, object]:
        """Return the state for a hook that runs in the runtime's namespaces."""
        return oci_state(self.record, status, self.pid)


def create(parent: Parent) -> None:
    """Bring a container to the exec fifo: when this returns, init waits for `start`.

    Raises PyruntimeError; then init is dead, and what was made stands in the record for `container.destroy`."""
    execute(parent.plan.steps[PREPARE], parent)
    try:
        _clone_init(parent)
    except BaseException:
        end_init(parent)
        raise
    try:
        _attend(parent)
    except (BrokenPipeError, ConnectionResetError):
        raise _died(parent) from None
    except OSError as error:
        end_init(parent)
        raise from_oserror(error, doing="start the container's init") from error
    except BaseException:
        end_init(parent)
        raise


def _clone_init(parent: Parent) -> None:
    request, record = parent.request, parent.record
    fifo, failure = exec_fifo.make(record.directory)
    terminal = request.console
    if terminal is None and request.console_socket:
        from pyruntime.features.rootfs import console

        terminal = console.connect(request.console_socket)
    read_end, write_end, rest = open_init_pipe(_plan_of_init(parent))
    ours, theirs = messages.pair()
    found = parent.plan.namespaces
    own: list[tuple[int, int]] = []
    recorder = recording()
    if recorder is not None:
        recorder.before_clone(parent, INIT_PHASES, record.directory)
    if not request.rootless:
        # Init inherits this, and so does the process that it spawns into a shared pid namespace (CVE-2016-9962). An
        # ordinary user could not write the maps of a process that is not dumpable.
        process.prctl(PR_SET_DUMPABLE, 0)
    try:
        if request.spawns():
            from pyruntime.runtime import shared_pid

            parent.spawned = process.SharedInt()
            parent.pid, parent.pidfd = shared_pid.clone(parent)
        elif found.user is not None:
            parent.pid, parent.pidfd = joining.clone_in_user_namespace(parent)
        else:
            own = joining.join_around(parent)
            parent.pid, parent.pidfd = place.clone(parent, found.new)
        if parent.pid == 0:
            try:
                init = Init(theirs, fifo, failure, terminal)
                init.cgroup_tasks = parent.cgroup_tasks
                init.proc_contexts = parent.proc_contexts
                if parent.spawned is not None:
                    init.spawn = spawn.Spawn(parent.spawned)
                    init.spawn.wait = True
                # The lock, the parent's ends, and whatever the caller left open are not init's.
                kept = [read_end, fifo, failure, theirs.fileno(), *parent.cgroup_tasks, *parent.proc_contexts]
                if terminal is not None:
                    kept.append(terminal.fileno())
                if recorder is not None:
                    kept.append(recorder.in_child())
                files.close_all_but(kept, 3 + request.preserve_fds)
                start_initialization(read_end, init)
            finally:
                posix._exit(1)  # whatever happened, the child must not climb into the parent's undoing
    finally:
        joining.go_back(own)
    theirs.close()
    for fd in (read_end, fifo, failure, *parent.cgroup_tasks):
        posix.close(fd)
    if parent.cgroup_directory is not None:
        posix.close(parent.cgroup_directory)
    if terminal is not None:
        terminal.close()
    ours.overdue = parent.overdue
    parent.channel = ours
    _record_pid(parent)
    try:
        execute(parent.plan.steps[SETUP], parent)
        send_plan(parent, write_end, rest)
    except BaseException:
        end_init(parent)
        raise
    finally:
        posix.close(write_end)


def _record_pid(parent: Parent) -> None:
    note_init(parent.record, parent.pid, parent.pidfd)
    parent.record.save()


def adopt(parent: Parent) -> bool:
    """Wait until init, or an exec's child, has cloned the process that executes the program, and ended.

    parent's pid and pidfd are that process's then. Returns whether there is one."""
    if parent.spawned is None:
        return True
    await_descriptor(parent.pidfd, select.POLLIN, parent.pid, "to clone the process")
    pid = parent.spawned.value()
    if not pid:
        return False
    posix.waitpid(parent.pid, 0)
    posix.close(parent.pidfd)
    # Our own child, not reaped yet: its pid cannot be reused.
    parent.pid, parent.pidfd = pid, posix.pidfd_open(pid)
    parent.spawned.free()
    parent.spawned = None
    return True


def _plan_of_init(parent: Parent) -> bytes:
    """init's half of the plan: one JSON object, in one line."""
    message = {
        "debug": parent.log.debugging,
        "state": oci_state(parent.record, "creating", 0),
        "user_namespace": parent.request.namespace("user")[0],
        "steps": {phase: [step.to_json() for step in parent.plan.steps[phase]] for phase in INIT_PHASES},
        "forget": program.may_forget(parent.plan.steps[EXECUTE], parent.request.linux.get("seccomp")),
    }
    return fastjson.dumps(message).encode("utf-8", "surrogateescape")


def open_init_pipe(plan: bytes) -> tuple[int, int, bytes]:
    """Return the init pipe, the end to read from and the one to write to, and what of the plan is not in it yet: at
    least its last byte, without which init does not begin.

    Before the clone, because each page that one of the two writes to after it is copied."""
    read_end, write_end = posix.pipe2(posix.O_CLOEXEC)
    posix.set_blocking(write_end, False)
    written = posix.write(write_end, plan)  # perhaps not all: a pipe may be small (pipe(7))
    return read_end, write_end, plan[written:] + b"\n"


def send_plan(parent: Parent, write_end: int, rest: bytes) -> None:
    """Write the rest to the init pipe: the plan is whole, and init begins.

    Raises StepError when init makes no progress, BrokenPipeError when it is dead."""
    while rest:
        try:
            rest = rest[posix.write(write_end, rest) :]
        except BlockingIOError:
            await_descriptor(write_end, select.POLLOUT, parent.pid, "to read its plan")


def _attend(parent: Parent) -> None:
    """Answer init's messages until it stands at the exec fifo."""
    channel = parent.channel
    assert channel is not None
    waiting = False
    while True:
        type, arg, _ = channel.receive()
        if type == messages.HOOKS:
            execute(parent.plan.steps[HOOKS], parent)
            parent.awaited = messages.READY
            channel.send(messages.HOOKS_DONE)
        elif type == messages.READY:
            execute(parent.plan.steps[READY], parent)
            parent.record.created = _now()
            parent.record.save()
            parent.awaited = messages.WAITING
            channel.send(messages.RUN)
        elif type == messages.MOUNT_PLEASE:
            _open_for_init(parent, channel, arg)
        elif type == messages.SPAWN:
            if not adopt(parent):
                raise _died(parent)
            _record_pid(parent)
            execute(parent.plan.steps[SPAWNED], parent)
            channel.send(messages.RUN)
        elif type == messages.SECCOMP:
            _forward_listener(parent, int(arg["fd"]))
            channel.send(messages.SECCOMP_DONE)
        elif type == messages.LOG:
            level, text = arg
            parent.log.tell(level, text)
        elif type == messages.WAITING:
            waiting = True
        elif type == messages.ERROR:
            raise spawn.error_of(arg, program.not_executed) if "spawn" in arg else from_json(arg)
        elif not type:
            if not waiting:
                raise _died(parent)
            channel.close()
            return
        else:
            raise StepError(f"init sent {type}, which the parent does not know")


def _open_for_init(parent: Parent, channel: Channel, wanted: dict[str, object]) -> None:
    """Answer `procMountPlease`, with a descriptor or with what went wrong."""
    from pyruntime.features.rootfs import sources  # few containers have such mounts

    try:
        fd = sources.open_for_init(parent, wanted)
    except OSError as error:
        channel.send_error(from_oserror(error, doing=f"open {wanted['source']}"))
        return
    except PyruntimeError as error:
        channel.send_error(error)
        return
    channel.send(messages.MOUNT_FD, None, (fd,))
    posix.close(fd)


def _forward_listener(parent: Parent, number: int) -> None:
    """Send the listener of init's seccomp filter, descriptor `number` of init, to the agent that waits for it."""
    from pyruntime.features.security import notify  # few containers have one

    notify.forward(
        parent.request.linux["seccomp"],
        pid=parent.pid,
        pidfd=parent.pidfd,
        number=number,
        state=parent.oci_state("creating"),
        oci_version=parent.record.oci_version,
    )


def _died(parent: Parent) -> StepError:
    """Return the error for an init that ended without a word."""
    from pyruntime.cgroupfs import oom

    how = end_init(parent, grace=1000)
    died = StepError(f"the container's init died: {how}", hint="see dmesg(1) for what killed it")
    return oom.init_killed(parent.record.cgroups) or died


def end_init(parent: Parent, grace: int = 0) -> str:
    """End init after a grace of so many milliseconds, and what it has spawned; say how it ended."""
    how = _end_child(parent, grace)
    if parent.spawned is not None:
        # Init is dead, so that no other clone follows.
        pid = parent.spawned.value()
        parent.spawned.free()
        parent.spawned = None
        if pid:
            parent.pid, parent.pidfd = pid, posix.pidfd_open(pid)
            how = _end_child(parent, 0)
    return how


def _end_child(parent: Parent, grace: int) -> str:
    if parent.pidfd < 0:
        return "before"
    poll = select.poll()
    poll.register(parent.pidfd, select.POLLIN)
    # A dying process closes its sockets a moment before its pidfd is readable.
    if not poll.poll(grace):
        try:
            send_signal(parent.pidfd, SIGKILL)
        except ProcessLookupError:
            pass
        if not poll.poll(200):
            parent.thaw()
            if not poll.poll(_DEATH_MS):
                posix.close(parent.pidfd)
                parent.pidfd = -1
                return f"it does not even die of SIGKILL (pid {parent.pid})"
    try:
        _, status = posix.waitpid(parent.pid, 0)
    except ChildProcessError:
        return "another process took its exit status"
    finally:
        posix.close(parent.pidfd)
        parent.pidfd = -1
    code = posix.waitstatus_to_exitcode(status)
    if code == -SIGKILL:
        return "killed by signal 9 (by another process, or by the kernel when out of memory)"
    return f"killed by signal {-code}" if code < 0 else f"exit status {code}"


def _now() -> str:
    """Return the time as RFC 3339 with nanoseconds, in UTC."""
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"
