"""What can be wrong with config.json, in words. Imported only once something is: nothing here is hot."""

from __future__ import annotations

from pyruntime.errors import ConfigError
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyruntime.spec.check import Path
    from pyruntime.spec.shape import Shape

    Keys = tuple[str | int, ...]

# The line that an engine shows has no room for hundreds of problems.
MOST_LISTED = 30

EXPECTATIONS = {
    "absolute": "an absolute path, starting with /",
    "absolute or empty": "an absolute path, starting with /",
    "version": "a version 1.x.y of the specification",
    "page size": "a size like 64KB, 2MB or 1GB",
    "access": "made of the letters r, w and m",
    "list of numbers": "a list like 0-3,7",
    "bandwidth": "one line that starts with MB:",
    "filled": "some text",
}
HINTS = {
    "version": "this runtime knows every 1.x, up to 1.3",
}


class Problem:
    """One thing to say about a config.

    keys:    the members and indices that lead to the place.
    message: what is wrong, in words that follow on "/process/args: ".
    why:     the reason of the rule, where it is not plain.
    warning: True for what does not keep the container from running.
    blank:   for a value of the wrong type: what may stand in for it, so that the other rules can be tried.
    """

    __slots__ = ("_hint", "blank", "keys", "message", "warning", "why")

    def __init__(
        self,
        keys: Keys,
        message: str,
        *,
        why: str | None = None,
        hint: str | None = None,
        warning: bool = False,
        blank: object = None,
    ) -> None:
        self.keys = keys
        self.message = message
        self.why = why
        self.warning = warning
        self.blank = blank
        self._hint = hint

    @property
    def pointer(self) -> str:
        """The place as a JSON pointer (RFC 6901); "" is the whole document."""
        return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in self.keys)

    @property
    def hint(self) -> str | None:
        """What to do about it."""
        return self._hint

    def __str__(self) -> str:
        line = f"{self.pointer}: {self.message}" if self.keys else self.message
        if self.why:
            line += f": {self.why}"
        return f"{line}; {self.hint}" if self.hint else line

    def __repr__(self) -> str:
        return f"<{'warning' if self.warning else 'error'} {self}>"


class Unknown(Problem):
    """A member that the specification does not know. What was meant is looked up when it is asked for."""

    __slots__ = ("near",)

    def __init__(self, keys: Keys, near: list[str]) -> None:
        super().__init__(keys, "is not known and has no effect", warning=True)
        self.near = near  # the names that are known in its place

    @property
    def hint(self) -> str | None:
        if self._hint is None:
            self._hint = self._suggestion()
        return self._hint or None

    def _suggestion(self) -> str:
        import difflib  # slow, and only for a person

        name = str(self.keys[-1])
        folded = {known.lower(): known for known in self.near}
        close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.7)
        if close:
            return f"did you mean {folded[close[0]]}?"
        from pyruntime.spec import shape

        # A name that is right, in the wrong place.
        places = [place for place in _places(shape.CONFIG, "") if place.rpartition("/")[2] == name]
        return f"did you mean {places[0]}?" if places else ""


def _places(node: Shape, pointer: str) -> Iterator[str]:
    """Yield the pointers of all members that a shape knows; * stands for an index or a free name."""
    if node[0] == "array":
        yield from _places(node[1], pointer + "/*")
    elif node[0] == "object":
        for name, member in node[1].items():
            yield f"{pointer}/{name}"
            yield from _places(member, f"{pointer}/{name}")
        if node[3] is not None:
            yield from _places(node[3], pointer + "/*")


def keys_of(path: Path) -> Keys:
    """Return the keys of a place, from the linked pairs (path of the parent, key) that the check makes."""
    keys = []
    while path is not None:
        path, key = path
        keys.append(key)
    return tuple(reversed(keys))


def misfit(path: Path, node: Shape, value: object) -> Problem:
    """Return the problem of a `value` that is not of the shape `node`."""
    keys = keys_of(path)
    hint = None
    if node[0] == "string" and isinstance(value, str):
        if text := bad_text(value):
            return Problem(keys, text, why="no path, name or argument can hold it")
        message = f"must be {EXPECTATIONS[node[1]]}, is {_shown(value)}" if value else "must not be empty"
        hint = HINTS.get(node[1])
    elif node[0] == "enum" and isinstance(value, str):
        message, hint = f"must be one of {', '.join(node[1])}, is {_shown(value)}", _nearest(value, node[1])
        if len(node[1]) > 12 and hint:
            message = f"unknown name {_shown(value)}"
    elif node[0] in ("array", "strings") and isinstance(value, list):
        message = f"must have at least {node[-1]} item{'s' if node[-1] > 1 else ''}, has {len(value)}"
    elif node[0] == "integer" and type(value) is int:
        message = f"must be {_expected(node)}, is {_shown(value)}"
    else:
        blank = {"object": {}, "array": [], "strings": [], "integer": 0, "boolean": False}.get(node[0], "")
        return Problem(
            keys,
            f"must be {_expected(node)}, is {'the string ' * isinstance(value, str)}{_shown(value)}",
            hint=_retyped(node, value),
            blank=blank,
        )
    return Problem(keys, message, hint=hint)


def missing(path: Path, name: str) -> Problem:
    """Return the problem of an object that lacks the required member `name`."""
    return Problem((*keys_of(path), name), "is required and missing")


def bad_text(text: str) -> str | None:
    """Return what makes `text` unusable for the kernel, if anything does."""
    if "\0" in text:
        # C strings end there: what was checked and what is used would differ (as in CVE-2021-43784).
        return "contains a NUL byte"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "contains half of a surrogate pair"
    return None


def to_error(problems: list[Problem], name: str) -> ConfigError:
    """Return one error for all `problems`: the first in full, the others on the same line. `name` is the file's."""
    first, others = problems[0], problems[1:]
    message, why, hint = first.message, first.why, first.hint
    if others:
        if why:
            message += f": {why}"
        if hint:
            message += f"; {hint}"
        why = hint = None
        listed = [str(problem) for problem in others[: MOST_LISTED - 1]]
        if len(listed) < len(others):
            listed.append("…")
        message += f" (and {len(others)} more: {'; '.join(listed)})"
    pointer = first.pointer if name == "config.json" and first.keys else None
    place = "" if pointer else f"{name}: {first.pointer}: " if first.keys else f"{name}: "
    error = ConfigError(f"{place}{message}", pointer=pointer, why=why, hint=hint)
    if others:
        error.brief = ConfigError(f"{place}{first.message}", pointer=pointer, why=first.why, hint=first.hint)
        error.others = len(others)
    return error


def pruned(config: dict[str, object], problems: list[Problem]) -> dict[str, object]:
    """Return a copy of `config` in which no value has the wrong type, so that the rules can be tried on it."""
    copy = dict(config)
    for problem in problems:
        if problem.blank is None:
            continue
        place: Any = copy
        for key in problem.keys[:-1]:
            place[key] = dict(place[key]) if isinstance(place[key], dict) else list(place[key])
            place = place[key]
        if isinstance(place, dict):
            del place[problem.keys[-1]]
        else:
            place[problem.keys[-1]] = problem.blank  # the indices of its neighbours must not change
    return copy


def _expected(node: Shape) -> str:
    """Return the type that a shape asks for, in words."""
    kind = node[0]
    if kind == "strings":
        return "an array of strings"
    if kind == "array":
        return "an array of " + {"object": "objects", "integer": "whole numbers"}.get(node[1][0], "strings")
    if kind == "integer":
        _, least, most = node
        return "a whole number" + (f" from {least} to {most}" if most is not None else f" of at least {least}")
    if kind == "boolean":
        return "true or false"
    return "an object" if kind == "object" else "a string"


def _shown(value: object) -> str:
    """Return a wrong value in a few words."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (dict, list, tuple)):
        return "an object" if isinstance(value, dict) else "an array"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        return f"a Python {type(value).__name__}"
    text = fastjson.dumps(value)
    return text if len(text) <= 60 else text[:56] + '…"'


def _retyped(node: Shape, value: object) -> str | None:
    """Return the hint for a value that only looks like the right one."""
    if node[0] == "strings" and isinstance(value, str):
        return f"write [{fastjson.dumps(value)}]" if len(value) <= 40 and " " not in value else None
    if node[0] == "integer" and isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        return "write it without the quotes"
    if node[0] == "integer" and isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return f"write {int(value)}"
    if node[0] == "boolean" and value in ("true", "false"):
        return "write it without the quotes"
    if node[0] == "string" and type(value) is int:
        return f'write "{value}"'
    return None


def _nearest(word: str, words: tuple[str, ...]) -> str | None:
    import difflib

    folded = {known.lower(): known for known in words}
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return f"did you mean {folded[close[0]]}?" if close else None
