"""init: the first process of a container, from the clone to the user's program (docs/handshake.md).

It runs in the interpreter that the parent was cloned with: everything is imported already, and nothing may be
imported from here on, since the root is soon the container's.
"""

from __future__ import annotations

import fcntl
import posix
import sys

from pyruntime.errors import NO_MEMORY, PyruntimeError, StepError, from_oserror
from pyruntime.features.process import program, user
from pyruntime.kernel import files, process
from pyruntime.kernel.constants import O_PATH, PR_SET_DUMPABLE, PROC_SUPER_MAGIC, TIOCSCTTY
from pyruntime.plan.step import BECOME, BUILD, ENTER, EXECUTE, execute, from_json, recording
from pyruntime.runtime import channel as messages
from pyruntime.runtime import exec_fifo
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import NoReturn, TypedDict

    from pyruntime.plan.step import Step, StepFields
    from pyruntime.runtime.channel import Channel
    from pyruntime.runtime.spawn import Spawn

    class InitPlan(TypedDict, total=False):
        """Init's half of the plan, as the init pipe carries it. `exec` sends debug and steps."""

        debug: bool
        state: dict[str, object]
        user_namespace: bool
        steps: dict[str, list[StepFields]]
        forget: bool


class Init:
    """What the steps of init act on.

    channel:  the sync socket, until init stands at the exec fifo.
    fifo, failure: the exec fifo, and where errors go once the channel is closed (runtime/exec_fifo.py).
    console:  the connection to the console socket, or None.
    cgroup_tasks: descriptors to enter the container's cgroup by (features/cgroups/place.py).
    proc_fd:  the host's /proc (O_PATH), shown to be one; -1 from the pivot on.
    root_fd:  the new root (O_PATH); rootfs: its path on the host.
    proc_contexts: of the proc filesystems that were opened for it in the pid namespace (runtime/shared_pid.py).
    mounted:  "/proc", "/sys", "/dev" -> what is mounted there, whatever the name means by now.
    late:     destination -> a mount that becomes read-only at the end.
    dev_fd:   the directory of the default devices (O_PATH), -1 until it is asked for.
    empty_fd: the mount that covers masked directories, -1 until there is one.
    spawn:    what is left to the process that this one clones to execute the program; None when it does so itself.
    """

    record = None  # it is the parent's

    __slots__ = (
        "cgroup_tasks",
        "channel",
        "console",
        "cwd_pending",
        "dev_fd",
        "empty_fd",
        "environment",
        "failure",
        "fifo",
        "late",
        "mounted",
        "proc_contexts",
        "proc_fd",
        "program",
        "root_fd",
        "rootfs",
        "setgroups_denied",
        "spawn",
        "state",
        "trace",
    )

    def __init__(self, channel: Channel, fifo: int, failure: int, console: _socket.socket | None = None) -> None:
        self.channel = channel
        self.fifo = fifo
        self.failure = failure
        self.console = console
        self.cgroup_tasks: list[int] = []
        self.cwd_pending = False
        self.dev_fd = self.empty_fd = self.proc_fd = self.root_fd = -1
        self.environment: dict[str, str] = {}
        self.late: dict[str, int] = {}
        self.mounted: dict[str, int] = {}
        self.proc_contexts: list[int] = []
        self.program = ""
        self.rootfs = ""
        self.setgroups_denied = False
        self.spawn: Spawn | None = None
        self.state: dict[str, object] = {}
        self.trace: Callable[[Step], None] | None = None

    def warn(self, text: str) -> None:
        """Send a warning to the parent, which shows it."""
        self.channel.send(messages.LOG, ["warning", text])

    def ask_parent(self, wanted: dict[str, object]) -> int:
        """Have the parent open what init may not. Return a descriptor. Raises the parent's error."""
        self.channel.send(messages.MOUNT_PLEASE, wanted)
        return self.channel.expect(messages.MOUNT_FD)[1][0]

    def tell_step(self, step: Step) -> None:
        """Log the next step with --debug."""
        self.channel.send(messages.LOG, ["debug", f"init: {step.describe()}"])

    def oci_state(self, status: str) -> dict[str, object]:
        """Return the state for a hook that runs in the container: the pid is the one seen there."""
        return {**self.state, "status": status, "pid": posix.getpid()}

    def close_descriptors(self, first: int) -> None:
        """Mark everything from first on close-on-exec: the exec fifo reports the execve to `start` by closing.

        What a process to be spawned does not need is closed: its descriptors can be seen in its pid namespace."""
        if self.spawn is None:
            files.close_on_exec_from(first)
            return
        recorder = recording()
        own = [self.channel.fileno(), self.fifo, self.failure, -1 if recorder is None else recorder.spool]
        files.close_all_but([fd for fd in own if fd >= 0], first)


def start_initialization(init_pipe: int, init: Init) -> NoReturn:
    """Read the plan from the init pipe, do it, and become the user's process. Never returns."""
    try:
        _initialize(init_pipe, init)
    except PyruntimeError as error:
        report(init, error)
    except OSError as error:
        report(init, from_oserror(error, doing="start the container's init"))
    except MemoryError:
        report(init, StepError(f"out of memory: {NO_MEMORY}"))
    except BaseException as error:
        report(init, StepError(f"bug in pyruntime's init: {type(error).__name__}: {error}"))
    posix._exit(1)


def _initialize(init_pipe: int, init: Init) -> None:
    # Whatever may still be asked for by an import statement: from here on the files are the container's.
    sys.meta_path.clear()
    posix.setsid()
    # Nodes and directories below the root get the modes that they are asked for.
    posix.umask(0)
    plan = read_plan(init_pipe)
    # From here on no other process may look into this one: until execve it holds what is the host's
    # (CVE-2016-9962). Before, the parent had to write its maps.
    process.prctl(PR_SET_DUMPABLE, 0)
    init.state = plan["state"]
    if plan["debug"]:
        init.trace = init.tell_step
    if plan["user_namespace"]:
        _become_root(init)
    init.proc_fd = open_proc()
    steps = {phase: [from_json(step) for step in list] for phase, list in plan["steps"].items()}

    execute(steps[BUILD], init)
    init.channel.send(messages.HOOKS)
    init.channel.expect(messages.HOOKS_DONE)
    execute(steps[ENTER], init)
    posix.close(init.proc_fd)
    init.proc_fd = -1
    init.channel.send(messages.READY)
    init.channel.expect(messages.RUN)
    if init.spawn is not None:
        init.spawn.in_python = len(steps[EXECUTE]) != 1 or steps[EXECUTE][0].do is not program.execute
    execute(steps[BECOME], init)
    if init.spawn is not None:
        _spawn(init, init.spawn, steps[EXECUTE])
    init.channel.send(messages.WAITING)
    init.channel.close()
    init.trace = None

    if plan.get("forget") and init.spawn is None and recording() is None:
        program.wait_and_execute(init, **steps[EXECUTE][0].args)
    exec_fifo.wait(init.fifo)
    execute(steps[EXECUTE], init)
    # execve(2) does not return.
    raise StepError("config.json has no process to start", pointer="/process/args")


def _spawn(init: Init, spawn: Spawn, steps: list[Step]) -> None:
    """Clone the process that executes the program. Returns in that process when it has more to do than that."""
    init.channel.send(messages.SPAWN)
    if not spawn.in_python:
        args = steps[0].args["args"]
        spawn.execute(init.program, args, init.environment, init.channel.fileno(), init.fifo, init.failure)
    spawn.clone()
    posix.setsid()
    if spawn.terminal:
        fcntl.ioctl(0, TIOCSCTTY, 0)
    init.channel.expect(messages.RUN)
    spawn.finish(init)
    init.spawn = None


def read_plan(init_pipe: int) -> InitPlan:
    """Wait on the init pipe until the parent has written the plan, whose last byte is a line's end."""
    data = bytearray()
    while not data.endswith(b"\n") and (chunk := posix.read(init_pipe, 1 << 20)):
        data += chunk
    posix.close(init_pipe)
    if not data.endswith(b"\n"):
        posix._exit(1)  # the parent is gone: there is no reader of an error
    plan: InitPlan = fastjson.loads(data.decode("utf-8", "surrogateescape"))
    return plan


def _become_root(init: Init) -> None:
    """Become root of the user namespace, whose maps are written by now."""
    fd = posix.open("/proc/self/setgroups", posix.O_RDONLY | posix.O_CLOEXEC)
    init.setgroups_denied = posix.read(fd, 16).startswith(b"deny")
    posix.close(fd)
    user.become_root()
    if not init.setgroups_denied:
        posix.setgroups([])
    process.prctl(PR_SET_DUMPABLE, 0)


def open_proc() -> int:
    """Open the host's /proc (O_PATH). Raises StepError when it is none."""
    fd = posix.open("/proc", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    if files.filesystem_magic(fd) != PROC_SUPER_MAGIC:
        raise StepError("/proc of the host is not a proc filesystem", hint="mount proc on /proc")
    return fd


def report(init: Init, error: PyruntimeError) -> None:
    """Report an error to the parent of `create`, or past the exec fifo to `start`."""
    try:
        init.channel.send_error(error)
    except OSError:
        try:
            text = fastjson.dumps(error.to_json())
            posix.write(init.failure, text.encode("utf-8", "surrogateescape"))
        except OSError:
            pass  # there is no reader
