"""A step: one small thing to do, where in config.json it comes from, and how to say it.

A step is a call of a function that is written down before it is made:

    Step("/hostname", hostname.set_hostname, name="box")

The function takes the actor (the parent or init) and the arguments by name; the first line of its docstring,
with the arguments filled in, is the step's description. Arguments are JSON values, because init gets its
steps as JSON on the init pipe. Explain, trace, error messages, fault injection and audit read this one list.
"""

from __future__ import annotations

import sys

from pyruntime.errors import PyruntimeError, from_oserror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Concatenate, ParamSpec, TypeVar

    from pyruntime.plan.actors import Recorder, StepActor

    # The type checker compares what a step is given with what its function takes.
    Actor = TypeVar("Actor", contravariant=True)
    Args = ParamSpec("Args")

    # A step as JSON carries it: module, function, pointer, arguments.
    StepFields = tuple[str, str, str, dict[str, Any]]

# With --trace: what runs the steps and takes the times (docs/trace.md). Else None, and nothing is imported.
_recorder: Recorder | None = None

# The phases of a start, in order, and the process that runs them (docs/architecture.md, "The phases").
PREPARE = "prepare"  # parent: before the clone
SETUP = "setup"  # parent: init exists and waits for its plan
BUILD = "build"  # init: new namespaces, old root, up to `procHooks`
HOOKS = "hooks"  # parent: init waits for `procHooksDone`
ENTER = "enter"  # init: into the new root, up to `procReady`
READY = "ready"  # parent: init waits for `procRun`
BECOME = "become"  # init: becomes the user's process except for execve; then waits at the exec fifo
SPAWNED = "spawned"  # parent: the process that will execute the program exists and waits (runtime/spawn.py)
EXECUTE = "execute"  # init: `start` was called
STARTED = "started"  # the caller of `start`: the user's process runs
STOPPED = "stopped"  # the caller of `delete`: the user's process is gone

PHASES = (PREPARE, SETUP, BUILD, HOOKS, ENTER, READY, BECOME, SPAWNED, EXECUTE, STARTED, STOPPED)
INIT_PHASES = (BUILD, ENTER, BECOME, EXECUTE)


class Step:
    """One call to make: `do(actor, **args)`.

    pointer is the JSON pointer of the field it comes from ("" for what every container gets)."""

    __slots__ = ("args", "do", "pointer")

    def __init__(
        self, pointer: str, do: Callable[Concatenate[Actor, Args], None], *none: Args.args, **args: Args.kwargs
    ) -> None:
        if none:
            raise TypeError("the arguments of a step are given by name")
        self.pointer = pointer
        self.do: Callable[..., None] = do
        self.args: dict[str, Any] = args

    def describe(self) -> str:
        """Return the step in one line: the first line of the function's docstring with the arguments in place."""
        template = (self.do.__doc__ or self.do.__name__).partition("\n")[0].rstrip(".")
        text = template.format_map({name: _shown(value) for name, value in self.args.items()})
        # Arguments of a program and hooks may hold whole scripts.
        return text.replace("\n", "\\n")

    @property
    def name(self) -> str:
        """`module.function`, for traces and fault injection."""
        return f"{self.do.__module__.rpartition('.')[2]}.{self.do.__name__}"

    def to_json(self) -> StepFields:
        """Return the step as the init pipe carries it."""
        return self.do.__module__, self.do.__name__, self.pointer, self.args

    def __repr__(self) -> str:
        return f"<Step {self.name} {self.pointer}: {self.describe()}>"


def from_json(fields: StepFields) -> Step:
    """Return the step that `to_json` wrote; its module must have been imported before the clone."""
    module, function, pointer, args = fields
    return Step(pointer, getattr(sys.modules[module], function), **args)


def recording() -> Recorder | None:
    """Return the recorder of this command's steps, None without --trace."""
    return _recorder


def record_with(recorder: Recorder | None) -> None:
    """Set the recorder that runs the steps from here on, or None."""
    global _recorder
    _recorder = recorder


def execute(steps: list[Step], actor: StepActor) -> None:
    """Do the steps in order. Raises the error of the first that fails, with its pointer and description."""
    trace, recorder = actor.trace, _recorder
    for step in steps:
        if trace is not None:
            trace(step)
        try:
            if recorder is None:
                step.do(actor, **step.args)
            else:
                recorder.do(step, actor)
        except OSError as error:
            raise from_oserror(error, doing=step.describe(), pointer=step.pointer or None) from error
        except PyruntimeError as error:
            if error.pointer is None:
                error.pointer = step.pointer or None
            raise


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(_shown(item) for item in value) or "none"
    return str(value)
