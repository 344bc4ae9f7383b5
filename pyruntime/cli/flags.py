"""Flags as Go programs take them: `--flag value`, `--flag=value`, one dash or two, `--switch=false`."""

from __future__ import annotations

from pyruntime.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # What `parse` found, by the names of the flags: a text, for a switch a bool, for one given many times a list.
    Values = dict[str, Any]


class Flag:
    """One flag of a command.

    name, short: without dashes. value: what its value is called in --help, "" for a switch.
    many: may be given more than once; its value is a list."""

    __slots__ = ("default", "help", "many", "name", "short", "value")

    def __init__(
        self,
        name: str,
        help: str,
        *,
        short: str = "",
        value: str = "",
        default: str | bool | list[str] | None = None,
        many: bool = False,
    ) -> None:
        self.name = name
        self.help = help
        self.short = short
        self.value = value
        self.many = many
        self.default = default if default is not None else [] if many else "" if value else False


HELP = Flag("help", "show this help", short="h")
# Of the commands that have steps; the global one of this name is for engines, which choose what follows the command.
TRACE = Flag("trace", "write what was done, and how long it took, to FILE (or into a directory)", value="FILE")


def parse(arguments: list[str], flags: tuple[Flag, ...], *, mixed: bool = False) -> tuple[Values, list[str]]:
    """Split arguments into flags and the rest: ({name: value}, rest).

    The rest begins at the first word that is not a flag, or after `--`; with mixed, flags may follow it too.
    Raises UsageError."""
    values: Values = {flag.name: flag.default for flag in flags}
    values["help"] = False
    known = {name: flag for flag in (*flags, HELP) for name in (flag.name, flag.short) if name}
    rest: list[str] = []
    at = 0
    while at < len(arguments):
        word = arguments[at]
        at += 1
        if word == "--":
            rest += arguments[at:]
            break
        if not word.startswith("-") or word == "-":
            rest.append(word)
            if not mixed:
                rest += arguments[at:]
                break
            continue
        name, equals, value = word.lstrip("-").partition("=")
        flag = known.get(name)
        if flag is None:
            raise UsageError(f"flag provided but not defined: {word.partition('=')[0]}", hint=_near(name, known))
        if not flag.value:
            values[flag.name] = _switch(word, value) if equals else True
            continue
        if not equals:
            if at == len(arguments):
                raise UsageError(f"flag needs an argument: {word}")
            value = arguments[at]
            at += 1
        if flag.many:
            values[flag.name] = [*values[flag.name], value]
        else:
            values[flag.name] = value
    return values, rest


def _switch(word: str, value: str) -> bool:
    if value in ("true", "1", "t", "T", "TRUE", "True"):
        return True
    if value in ("false", "0", "f", "F", "FALSE", "False"):
        return False
    raise UsageError(f"invalid boolean value: {word}", hint="give true or false")


def _near(name: str, known: dict[str, Flag]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean --{close[0]}?" if close else "see --help"


def number(text: str, flag: str) -> int:
    """Return a flag's value as a whole number. Raises UsageError."""
    try:
        return int(text or "0")
    except ValueError:
        raise UsageError(f"--{flag}: {text!r} is not a number") from None
