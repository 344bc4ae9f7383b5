"""Every error that pyruntime raises on purpose.

    PyruntimeError
    ├── UsageError       the command line is wrong
    ├── ConfigError      config.json (or process.json) is wrong: `pointer` says where
    ├── StateError       the container is not in a state that allows the command
    │   ├── NotFound     no such container
    │   ├── Unknown      the kernel does not report whether the container runs
    │   └── Busy         another command is at work on the container
    ├── StepError        a step of the plan failed: `pointer`, `step`, `syscall`, `errno`
    ├── HookError        a hook failed or ran out of time
    └── KernelError      a system call failed (an OSError too); becomes a StepError on its way up

An error is raised once and printed once, at the edge of the command line, as one line that ends the log:
engines show only that line. On a terminal it is three (cli/error_text.py). It travels from init to its parent as
the JSON object of `to_json`.
"""

from __future__ import annotations

import errno as _errno
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass


# With MemoryError, which has no words of its own.
NO_MEMORY = "the limits of the caller (ulimit -v, ulimit -d) or of its cgroup are too low"


class PyruntimeError(Exception):
    """Something a person can act on.

    message: what went wrong, one line, no full stop.
    pointer: JSON pointer of the field of config.json it came from (`/mounts/3/source`), if any.
    why:     why this usually happens.
    hint:    what to do about it.
    step:    `describe()` of the step of the plan that was being done.
    syscall: the system call with its decoded arguments.
    errno:   its error by name (`ENOENT`).
    brief:   of several problems in one message the first; others: how many more there are.
    file:    the file that pointer is of.
    """

    exit_code = 1
    file = "config.json"
    brief: PyruntimeError | None = None
    others = 0

    def __init__(
        self,
        message: str,
        *,
        pointer: str | None = None,
        why: str | None = None,
        hint: str | None = None,
        step: str | None = None,
        syscall: str | None = None,
        errno: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.pointer = pointer
        self.why = why
        self.hint = hint
        self.step = step
        self.syscall = syscall
        self.errno = errno

    def __str__(self) -> str:
        """Return the error as one line: where, what, why, hint."""
        parts = []
        if self.pointer is not None:
            parts.append(f"{self.file}: {self.pointer}: ")
        parts.append(self.message)
        if self.why:
            parts.append(f": {self.why}")
        if self.hint:
            parts.append(f"; {self.hint}")
        return printable("".join(parts))

    def to_json(self) -> dict[str, object]:
        """Return the error as the `procError` message carries it."""
        fields: dict[str, object] = {"kind": type(self).__name__, "message": self.message}
        for name in ("pointer", "why", "hint", "step", "syscall", "errno"):
            value = getattr(self, name)
            if value is not None:
                fields[name] = value
        if self.file != PyruntimeError.file:
            fields["file"] = self.file
        return fields


class UsageError(PyruntimeError):
    """The command line is wrong."""


class ConfigError(PyruntimeError):
    """config.json cannot be read, or asks for something impossible."""


class StateError(PyruntimeError):
    """The container is not in a state that allows the command."""


class NotFound(StateError):
    """The container does not exist below --root."""


class Busy(StateError):
    """Another command holds the container's lock."""


class Unknown(StateError):
    """It is unknown whether the container's init is alive: neither success nor "stopped" may be reported."""


class StepError(PyruntimeError):
    """A step of the plan failed."""


class HookError(PyruntimeError):
    """A hook ended with a status other than 0, or ran out of time."""


class KernelError(OSError):
    """A system call of the shim failed.

    syscall is its name, arguments what it was called with, as a person would write them."""

    def __init__(self, errno: int, syscall: str, arguments: tuple[object, ...] = ()) -> None:
        super().__init__(errno, posix.strerror(errno))
        self.syscall = syscall
        self.arguments = arguments

    def call(self) -> str:
        """Return the call as text: `open_tree("/data", OPEN_TREE_CLONE)`."""
        shown = ", ".join(f'"{a}"' if isinstance(a, str) else str(a) for a in self.arguments)
        return f"{self.syscall}({shown})"


def printable(text: str) -> str:
    """Return a text as one line. Names from config.json may hold what moves a cursor, or cannot be written as UTF-8."""
    text = text.replace("\n", " ")
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def errno_name(number: int | None) -> str:
    """Return the name of an error number: `ENOENT` for 2."""
    return _errno.errorcode.get(number or 0, str(number))


def strerror(number: int | None) -> str:
    """Return an error number in the words that engines look for: "no such file or directory" for 2.

    Lower case, as Go's runtimes print it (docker and podman match those words)."""
    text = posix.strerror(number or 0)
    return text[:1].lower() + text[1:]


def from_oserror(error: OSError, *, doing: str, pointer: str | None = None) -> StepError:
    """Return the StepError for a system call that failed while the step described by `doing` was done."""
    syscall = error.call() if isinstance(error, KernelError) else None
    named = syscall
    if named is None and error.filename is not None:
        named = str(error.filename)
    name = errno_name(error.errno)
    reason = f"{strerror(error.errno)} ({name})"
    message = f"{doing}: {named}: {reason}" if named else f"{doing}: {reason}"
    return StepError(message, pointer=pointer, step=doing, syscall=syscall, errno=name)


def from_json(fields: dict[str, object]) -> PyruntimeError:
    """Return the error that `to_json` described."""
    kinds: dict[str, type[PyruntimeError]] = {
        kind.__name__: kind
        for kind in (PyruntimeError, UsageError, ConfigError, StateError, NotFound, Unknown, Busy, StepError, HookError)
    }
    kind = kinds.get(str(fields.get("kind")), PyruntimeError)
    known: dict[str, str | None] = {
        k: None if fields[k] is None else str(fields[k])
        for k in ("pointer", "why", "hint", "step", "syscall", "errno")
        if k in fields
    }
    error = kind(str(fields.get("message", "unknown error")), **known)
    if "file" in fields:
        error.file = str(fields["file"])
    return error
