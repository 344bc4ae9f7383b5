"""Record with --trace: run the steps and take their times, in the command and in the container's init.

One clock, CLOCK_MONOTONIC, which all processes of a host share; one in a time namespace has it shifted by a number
that the kernel reports, and that is subtracted again (time_namespaces(7)).

What the command does is kept in a list. Init writes a line to a file, the spool, at each begin and end: so its last
step is known when it is killed, its steps after the exec fifo are kept, and it needs nothing but write(2), which is
all that a seccomp profile surely leaves to it. For `create` and `run` the spool is ROOT/ID/exec.trace, where `start`
finds it; for `exec` it is a memfd. Lines, all times in nanoseconds:

    B NUMBER TIME, E NUMBER TIME, F NUMBER TIME   a step begins, ends, fails; steps are counted from 0
    S START END WORDS                             something else took so long; R START END NAME: until a message came
    M TIME NAME                                   a message was sent
    O OFFSET                                      from here on the clock is ahead of the host's
    {"steps": …}                                  what the numbers mean, once `create` is done
"""

from __future__ import annotations

import posix
import time

from pyruntime.errors import PyruntimeError, UsageError
from pyruntime.kernel.constants import MFD_CLOEXEC, S_IFDIR, S_IFIFO, S_IFMT
from pyruntime.plan.step import record_with
from pyruntime.trace import spans
from pyruntime.trace.event_format import COMMAND, FAILED, INIT, OK, PARENT, STEP, WAIT, Event, Trace
from pyruntime.trace.spool import Spool
from pyruntime.util import fastjson
from pyruntime.util.fileio import read_file
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pyruntime.commands.settings import Settings
    from pyruntime.plan.actors import PlannedActor, StepActor
    from pyruntime.plan.step import Step
    from pyruntime.state.store import Record

    class Command(Protocol):
        """The module of a command, of pyruntime/cli."""

        def run(self, settings: Settings, values: dict[str, object], words: list[str], /) -> int:
            """Execute the command: its exit status."""


SPOOL = "exec.trace"
_MAX_SPOOL = 1 << 24


class Recorder:
    """The recorder of one command, in its own process and, after the clone, in init.

    actor: what the steps of the plan act on (runtime/parent.py), once there is a plan to be carried out.
    started: the record of the container whose exec fifo was opened."""

    def __init__(self) -> None:
        self.begin = time.monotonic_ns()
        self.events: list[Event] = []
        self.done: list[tuple[Step, StepActor, int, int, str]] = []
        self.sent: list[tuple[int, str]] = []
        self.received: list[tuple[int, str]] = []
        self.actor: PlannedActor | None = None
        self.started: Record | None = None
        self.phases: tuple[str, ...] = ()
        self.spool = -1
        self.left = 0
        self._child = False
        self._count = 0
        self._offset = 0
        self._target_offset = 0

    # What start/ and plan/step.py call.

    def before_clone(self, parent: PlannedActor, phases: tuple[str, ...], directory: str = "", target: int = 0) -> None:
        """Make the spool. phases: init's, in order. target: the pid of the container that `exec` joins."""
        self.actor = parent
        self.phases = phases
        if directory:
            flags = posix.O_RDWR | posix.O_CREAT | posix.O_EXCL | posix.O_APPEND | posix.O_CLOEXEC
            self.spool = posix.open(f"{directory}/{SPOOL}", flags, 0o600)
        else:
            self.spool = posix.memfd_create("trace", MFD_CLOEXEC)
            self._target_offset = _clock_offset(target)

    def in_child(self) -> int:
        """Become the recorder of init. Gives back the descriptor that init keeps until its execve."""
        self._child = True
        self._shift(_clock_offset(0))
        return self.spool

    def do(self, step: Step, actor: StepActor) -> None:
        """Do a step, and note when it began and ended."""
        if self._child:
            self._do_in_child(step, actor)
            return
        begin = time.monotonic_ns()
        result = FAILED
        try:
            step.do(actor, **step.args)
            result = OK
        finally:
            self.done.append((step, actor, begin, time.monotonic_ns(), result))

    def _do_in_child(self, step: Step, actor: StepActor) -> None:
        number = self._count
        self._count += 1
        self._write(b"B %d %d\n" % (number, time.monotonic_ns()))
        word = b"F"
        try:
            step.do(actor, **step.args)
            word = b"E"
        finally:
            if step.name == "target.join":
                self._shift(self._target_offset)  # with the time namespace came its clock
            self._write(b"%s %d %d\n" % (word, number, time.monotonic_ns()))

    # What spans.py calls.

    def span(self, kind: str, words: str, begin: int, result: str = OK) -> None:
        """Record something other than a step that has taken from begin until now."""
        end = time.monotonic_ns()
        if self._child:
            self._write(b"S %d %d %s\n" % (begin, end, words.encode()))
        else:
            self.events.append(Event(PARENT, kind, words, begin, end, result))

    def message_sent(self, name: str) -> None:
        """A message of the handshake goes out."""
        if self._child:
            self._write(b"M %d %s\n" % (time.monotonic_ns(), name.encode()))
        else:
            self.sent.append((time.monotonic_ns(), name))

    def message_received(self, name: str, begin: int) -> None:
        """A message has come, "" for the end of the channel; it was waited for from begin on."""
        end = time.monotonic_ns()
        if self._child:
            self._write(b"R %d %d %s\n" % (begin, end, name.encode()))
            return
        self.left = end
        if name:
            self.received.append((end, name))
        words = f"wait for init: {name}" if name else "wait for init: the end"
        self.events.append(Event(PARENT, WAIT, words, begin, end))

    def _shift(self, offset: int) -> None:
        if offset != self._offset:
            self._offset = offset
            self._write(b"O %d\n" % offset)

    def _write(self, line: bytes) -> None:
        try:
            posix.write(self.spool, line)
        except OSError:
            pass  # no trace is worth a container

    # The end.

    def finish(self, command: str, id: str, error: BaseException | None) -> Trace:
        """Put together what both processes have noted."""
        end = time.monotonic_ns()
        pid = getattr(self.actor, "pid", 0)
        if not pid and self.started is not None:
            pid = self.started.pid
        trace = Trace(command, id, {PARENT: posix.getpid(), INIT: pid})
        trace.version = spans.version()
        failure = error.to_json() if isinstance(error, PyruntimeError) else _words(error)
        whole = Event(PARENT, COMMAND, f"{command} {id}", self.begin, end, OK if error is None else FAILED)
        trace.error = failure
        trace.events = [whole, *self.events, *self._own_steps()]
        spool = self._read_spool()
        if spool is not None:
            trace.messages = spool.messages(self.sent, self.received)
            trace.events += spool.events(self.left or end, since=self.begin)
            trace.events += _whole_of_init(trace)
        failed = [event for event in trace.events if event.result != OK and event.kind != COMMAND]
        if failure is not None and failed:
            # The step that failed, not what it was done within.
            max(failed, key=lambda event: (event.kind == STEP, event.end)).error = failure
        return trace

    def _own_steps(self) -> list[Event]:
        phases: dict[int, str] = {}
        plan = getattr(self.actor, "plan", None)
        if plan is None and self.done:
            plan = getattr(self.done[0][1], "plan", None)
        for phase, steps in (plan.steps if plan is not None else {}).items():
            phases |= {id(step): phase for step in steps}
        return [
            Event(
                PARENT,
                STEP,
                step.describe(),
                begin,
                end,
                result,
                field=step.pointer,
                step=step.name,
                phase=phases.get(id(step), ""),
            )
            for step, _, begin, end, result in self.done
        ]

    def _read_spool(self) -> Spool | None:
        """Return what init has written: to our own spool, or, for `start`, to that of `create`."""
        if self.spool >= 0 and self.actor is not None:
            steps = [
                [step.describe(), phase, step.pointer, step.name]
                for phase in self.phases
                for step in self.actor.plan.steps[phase]
            ]
            data = posix.pread(self.spool, _MAX_SPOOL, 0)
            self._write(fastjson.dumps({"steps": steps}).encode("utf-8", "surrogateescape") + b"\n")
            posix.close(self.spool)
            self.spool = -1
            return Spool(data, steps)
        if self.started is None:
            return None
        try:
            text = read_file(self.started.path(SPOOL))
        except OSError:
            return None  # `create` was called without --trace
        return Spool(text.encode("utf-8", "surrogateescape"))


def _whole_of_init(trace: Trace) -> list[Event]:
    """Return one event that holds all of init's, and the messages that it sent between them."""
    found = trace.on(INIT)
    if not found:
        return []
    end = max([event.end for event in found] + [one.sent for one in trace.messages if one.sender == INIT])
    result = next((event.result for event in found if event.result != OK), OK)
    return [Event(INIT, COMMAND, trace.name_of_init(), found[0].start, end, result)]


def _words(error: BaseException | None) -> dict[str, object] | None:
    return None if error is None else {"kind": type(error).__name__, "message": str(error)}


def _clock_offset(pid: int) -> int:
    """Return how far the clock of a process (0: this one) is ahead of the initial time namespace's, in nanoseconds."""
    try:
        lines = read_file(f"/proc/{pid or 'self'}/timens_offsets").splitlines()
        _, seconds, nanoseconds = next(line for line in lines if line.startswith("monotonic")).split()
        return int(seconds) * 10**9 + int(nanoseconds)
    except (OSError, StopIteration, ValueError):
        return 0  # a kernel without time namespaces


def traced(
    path: str, module: Command, command: str, settings: Settings, values: dict[str, object], words: list[str]
) -> int:
    """Run a command and write its trace to a file, also when it fails: the command's exit status.

    path: the file, or a directory, in which it is called ID.COMMAND.json (for exec ID.exec-PID.json).
    Raises UsageError when the file cannot be written, before anything is done."""
    id = words[0] if words else ""
    path = _file(path, command, id)
    spans.load(command)
    recorder = Recorder()
    restore = spans.install(recorder)
    record_with(recorder)
    error: BaseException | None = None
    recorder.begin = time.monotonic_ns()
    try:
        return module.run(settings, values, words)
    except BaseException as raised:
        error = raised
        raise
    finally:
        record_with(None)
        restore()
        try:
            _save(path, recorder.finish(command, id, error))
        except Exception as failure:  # whatever it is, it must not stand in place of the command's own error
            settings.log.warning(f"cannot write the trace {path}: {failure}")


def _file(path: str, command: str, id: str) -> str:
    try:
        kind = posix.stat(path).st_mode & S_IFMT
    except OSError:
        kind = 0
    if kind == S_IFIFO and not path.startswith(("/dev/", "/proc/")):
        # A reader would see an end of file before the trace, and without one open(2) waits.
        raise UsageError(f"cannot write the trace {path}: it is a FIFO", hint="name a file, or /dev/stdout")
    if kind == S_IFDIR:
        if id:
            ContainerId(id)
        number = f"-{posix.getpid()}" if command == "exec" else ""
        path = f"{path}/{id or 'none'}.{command}{number}.json"
    try:
        # Not kept open: the caller may have promised descriptors with --preserve-fds, and this one would be taken for
        # the first of them. Steps name arguments of programs, which are not for everybody.
        posix.close(posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC, 0o600))
    except OSError as error:
        raise UsageError(f"cannot write the trace {path}: {error.strerror}", hint="name another file") from None
    return path


def _save(path: str, trace: Trace) -> None:
    data = (fastjson.dumps(trace.to_json()) + "\n").encode("utf-8", "surrogateescape")
    fd = posix.open(path, posix.O_WRONLY | posix.O_TRUNC | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[posix.write(fd, data) :]
    finally:
        posix.close(fd)
