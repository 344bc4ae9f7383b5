"""Errors: one line, all its parts, and the same on the other side of the handshake."""

from __future__ import annotations

import errno
import os

import pytest

from pyruntime import errors
from pyruntime.diagnose import hints
from pyruntime.errors import (
    Busy,
    ConfigError,
    HookError,
    KernelError,
    NotFound,
    PyruntimeError,
    StateError,
    StepError,
    UsageError,
    from_json,
    from_oserror,
)

KINDS = (PyruntimeError, UsageError, ConfigError, StateError, StepError, HookError)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PyruntimeError("a"), "a"),
        (PyruntimeError("a", why="b"), "a: b"),
        (PyruntimeError("a", hint="c"), "a; c"),
        (PyruntimeError("a", why="b", hint="c"), "a: b; c"),
        (ConfigError("a", pointer="/x/0"), "config.json: /x/0: a"),
        (ConfigError("a", pointer=""), "config.json: : a"),
        (ConfigError("two\nlines", hint="a\nb"), "two lines; a b"),
    ],
)
def test_one_line(error: PyruntimeError, line: str) -> None:
    assert str(error) == line


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind: type[PyruntimeError]) -> None:
    error = kind("m", pointer="/p", why="w", hint="d", step="s", syscall="open()", errno="ENOENT")
    back = from_json(error.to_json())
    assert type(back) is kind
    for name in ("message", "pointer", "why", "hint", "step", "syscall", "errno"):
        assert getattr(back, name) == getattr(error, name)
    assert str(back) == str(error)


def test_what_is_not_said_is_not_sent() -> None:
    assert ConfigError("m").to_json() == {"kind": "ConfigError", "message": "m"}


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "unknown error"),
        ({"kind": "SystemExit", "message": "m"}, "m"),
        ({"kind": 5, "message": 6, "surprise": 7}, "6"),
        ({"kind": "StepError", "message": "m", "exit_code": 0}, "m"),
    ],
)
def test_an_error_from_elsewhere_is_only_words(fields: dict[str, object], line: str) -> None:
    """init may be the container's by then: no class of its choice, no attribute of its choice."""
    error = from_json(fields)
    assert isinstance(error, PyruntimeError)
    assert str(error) == line
    assert error.exit_code == 1


def test_the_tree() -> None:
    assert issubclass(NotFound, StateError) and issubclass(Busy, StateError)
    assert issubclass(KernelError, OSError) and not issubclass(KernelError, PyruntimeError)
    drawn = errors.__doc__ or ""
    for kind in (*KINDS, NotFound, Busy, KernelError):
        assert kind.__name__ in drawn


def test_a_system_call_in_words() -> None:
    error = KernelError(errno.ENOENT, "open_tree", ("/data", 1, "OPEN_TREE_CLONE"))
    assert error.call() == 'open_tree("/data", 1, "OPEN_TREE_CLONE")'
    # It is none of Python's subclasses: `except FileNotFoundError` does not catch it.
    assert error.errno == errno.ENOENT
    assert not isinstance(error, FileNotFoundError)


def test_a_failed_call_becomes_a_step_error() -> None:
    error = from_oserror(KernelError(errno.EPERM, "mount", ("a",)), doing="mount proc on /proc", pointer="/mounts/0")
    assert isinstance(error, StepError)
    assert str(error) == 'config.json: /mounts/0: mount proc on /proc: mount("a"): operation not permitted (EPERM)'
    assert (error.syscall, error.errno, error.step) == ('mount("a")', "EPERM", "mount proc on /proc")


def test_a_failed_call_of_python_names_its_file() -> None:
    try:
        os.open("/no/such", os.O_RDONLY)
    except OSError as caught:
        error = from_oserror(caught, doing="look")
    assert str(error) == "look: /no/such: no such file or directory (ENOENT)"


def test_an_errno_without_a_name() -> None:
    assert errors.errno_name(4096) == "4096"
    assert errors.errno_name(None) == "None"
    assert str(from_oserror(OSError(), doing="look"))


@pytest.mark.parametrize(
    ("number", "words"),
    [(2, "no such file or directory"), (13, "permission denied"), (1, "operation not permitted")],
)
def test_the_words_that_engines_look_for(number: int, words: str) -> None:
    assert errors.strerror(number) == words


def test_reasons_are_of_known_calls_and_errors() -> None:
    for (call, name), (why, hint) in hints.TABLE.items():
        assert call.replace("_", "").isalnum()
        assert hasattr(errno, name), name
        for text in (why, hint):
            assert text and not text.endswith(".") and "\n" not in text


def test_a_reason_is_added_once() -> None:
    error = StepError("m", syscall='open_tree("/data")', errno="ENOENT")
    hints.add(error)
    assert error.why == "the source of the mount is missing"
    own = StepError("m", why="mine", hint="mine too", syscall='open_tree("/data")', errno="ENOENT")
    hints.add(own)
    assert (own.why, own.hint) == ("mine", "mine too")
    unknown = StepError("m", syscall="frobnicate()", errno="ENOENT")
    hints.add(unknown)
    assert unknown.why is None


def test_an_error_is_one_line_that_can_be_written() -> None:
    """Whatever the names in it: a carriage return, an escape sequence, half of a surrogate pair, a byte of a path."""
    text = str(PyruntimeError("open a\nb\r\x1b[1m\ud800\udcff: é … failed"))
    assert text == "open a b\\r\\x1b[1m\\ud800\\udcff: é … failed"
    assert text.encode().isascii() is False
