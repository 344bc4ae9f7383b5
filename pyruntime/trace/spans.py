"""What a trace shows besides the steps: functions that are wrapped while a command is recorded.

They know nothing of it, so that it costs nothing without --trace. A test sees to it that each is there.
"""

from __future__ import annotations

import sys
import time

from pyruntime.trace.event_format import CALL, FAILED, OK, PAUSE, WAIT
from pyruntime.trace.spool import EXEC_FIFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyruntime.runtime.channel import Channel
    from pyruntime.trace.recorder import Recorder

# command -> modules to have before the clock starts, and before the clone: imports are not what is measured.
_START = ("pyruntime.runtime.exec_fifo", "pyruntime.features.hooks")
_END = ("pyruntime.cgroupfs.kill", "pyruntime.features.cgroups.remove", "pyruntime.features.hooks")
_CREATE = ("pyruntime.features.registry", "pyruntime.runtime.parent", "pyruntime.commands.delete", *_END)
MODULES = {
    "create": _CREATE,
    "run": (*_CREATE, *_START),
    "start": _START,
    "exec": ("pyruntime.runtime.exec",),
    "delete": _END,
}

_RELEASE_INIT = "open the exec fifo, wait until the program runs"

# (module, function or Class.method, kind, words)
SPANS = (
    ("pyruntime.spec.load", "read_config", CALL, "read config.json"),
    ("pyruntime.spec.load", "parse_object", CALL, "parse config.json"),
    ("pyruntime.spec.load", "load_object", CALL, "read the container's config.json"),
    ("pyruntime.spec.check", "require", CALL, "check config.json"),
    ("pyruntime.cgroupfs.layout", "find", CALL, "detect the cgroup hierarchies"),
    ("pyruntime.features.registry", "build", CALL, "plan"),
    ("pyruntime.features.exec_registry", "ExecPlan.__init__", CALL, "plan"),
    ("pyruntime.state.store", "make", CALL, "create and lock the state directory"),
    ("pyruntime.state.store", "load", CALL, "read the record"),
    ("pyruntime.state.store", "lock_again", CALL, "lock the container, read the record again"),
    ("pyruntime.state.status", "status_of", CALL, "read the status"),
    ("pyruntime.state.store", "Record.save", CALL, "save the record"),
    ("pyruntime.util.fileio", "write_atomically", CALL, "write a state file"),
    ("pyruntime.state.store", "remove", CALL, "remove the state directory"),
    ("pyruntime.features.namespaces.target", "find", CALL, "examine init"),
    ("pyruntime.runtime.exec_fifo", "make", CALL, "create the exec fifo"),
    ("pyruntime.runtime.exec_fifo", "release_init", WAIT, _RELEASE_INIT),
    ("pyruntime.runtime.exec_fifo", "wait", PAUSE, EXEC_FIFO),
    ("pyruntime.runtime.parent", "create", CALL, "start init up to the exec fifo"),
    ("pyruntime.runtime.parent", "_clone_init", CALL, "clone init"),
    ("pyruntime.runtime.parent", "open_init_pipe", CALL, "write the plan of the child"),
    ("pyruntime.runtime.parent", "send_plan", CALL, "send the plan to the child"),
    ("pyruntime.runtime.exec", "_clone", CALL, "clone the process"),
    ("pyruntime.runtime.exec", "send_plan", CALL, "send the plan to the child"),
    ("pyruntime.runtime.init", "read_plan", WAIT, "wait for the plan"),
    ("pyruntime.runtime.exec", "read_plan", WAIT, "wait for the plan"),
    ("pyruntime.kernel.process", "clone", CALL, "clone3(2)"),
    ("pyruntime.commands.foreground", "attend", PAUSE, "wait for the process to exit"),
    ("pyruntime.commands.kill", "kill_all", CALL, "kill remaining processes"),
    ("pyruntime.commands.delete", "destroy", CALL, "undo the resources of the record"),
    ("pyruntime.features.cgroups.remove", "remove", CALL, "remove the cgroups"),
)


def version() -> str:
    """Return the runtime's version."""
    from pyruntime.version import VERSION

    return VERSION


def load(command: str) -> None:
    """Import what a command will need."""
    for name in MODULES[command]:
        __import__(name)


def install(recorder: Recorder) -> Callable[[], None]:
    """Wrap what is loaded. Gives back the function that undoes it."""
    undo: list[tuple[object, str, object]] = []

    def replace(holder: object, name: str, wrapper: Callable[..., object]) -> None:
        function = getattr(holder, name)
        # A module that has imported it by name calls it by that.
        importers = [one for key, one in sys.modules.items() if key.startswith("pyruntime.")]
        for one in (holder, *importers):
            if getattr(one, name, None) is function:
                undo.append((one, name, function))
                setattr(one, name, wrapper)

    for module, path, kind, words in SPANS:
        if module in sys.modules:
            holder, name = locate(module, path)
            replace(holder, name, _watched(recorder, kind, words, getattr(holder, name)))
    if "pyruntime.runtime.channel" in sys.modules:
        channel = sys.modules["pyruntime.runtime.channel"].Channel
        replace(channel, "send", _watched_send(recorder, channel.send))
        replace(channel, "receive", _watched_receive(recorder, channel.receive))

    def restore() -> None:
        for holder, name, function in reversed(undo):
            setattr(holder, name, function)

    return restore


def locate(module: str, path: str) -> tuple[object, str]:
    """Return where a function is: (module or class, its name there)."""
    holder: object = sys.modules[module]
    owner, _, name = path.rpartition(".")
    return (getattr(holder, owner) if owner else holder), name


def _watched(recorder: Recorder, kind: str, words: str, function: Callable[..., object]) -> Callable[..., object]:
    def watched(*args: Any, **options: Any) -> Any:
        begin = time.monotonic_ns()
        result = FAILED
        if words == _RELEASE_INIT:
            recorder.started = args[0]
        try:
            value = function(*args, **options)
            result = OK
            return value
        finally:
            recorder.span(kind, words, begin, result)
            if words == _RELEASE_INIT:
                recorder.left = time.monotonic_ns()

    return watched


def _watched_send(recorder: Recorder, function: Callable[..., None]) -> Callable[..., None]:
    def send(channel: Channel, type: str, *args: object, **options: object) -> None:
        recorder.message_sent(type)
        function(channel, type, *args, **options)

    return send


def _watched_receive(
    recorder: Recorder, function: Callable[[Channel], tuple[str, object, list[int]]]
) -> Callable[..., object]:
    def receive(channel: Channel) -> tuple[str, object, list[int]]:
        begin = time.monotonic_ns()
        found = function(channel)
        recorder.message_received(found[0], begin)
        return found

    return receive
