"""Judge config.json: every problem at once, in less than the time that importing `re` would take.

The shape of the file comes from oci-spec/config.schema.json, compiled into pyruntime/spec/shape.py; a
property test holds this interpreter and `jsonschema` together. The rules that look at several members at once
are in pyruntime/spec/rules.py. Nothing here asks the host: what only the kernel can know, the plan finds out.

Two things differ from JSON Schema as such, for both judges (see pyruntime/spec/schema.py): 1.0 is not a whole
number, as in every other runtime, and a string that holds a NUL byte or half a surrogate pair is not a string.
"""

from __future__ import annotations

from pyruntime.spec import rules, shape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyruntime.spec.problem import Problem
    from pyruntime.spec.shape import Shape

    # Where a value is: (path of the object or array that holds it, key). Only problems make it a pointer.
    Path = tuple["Path", str | int] | None
    UnknownMember = tuple[Path, str, Shape]

# Members that carry notes rather than settings: "$schema", "_comment", "x-origin", "com.example.key".
NOTE_PREFIXES = ("$", "_", "/", "#", "x-")

VERSION_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.-"


def check(config: object) -> list[Problem]:
    """Return everything that is wrong with `config`, errors before warnings; usually nothing is."""
    found: list[Problem] = []
    unknown: list[UnknownMember] = []
    _visit(config, shape.CONFIG, None, found, unknown)
    if isinstance(config, dict):
        rules.check_config(_usable(config, found), _reporter(found))
    return _sorted(found, unknown)


def check_process(process: object) -> list[Problem]:
    """Return everything that is wrong with a process object, as `exec --process` reads one."""
    found: list[Problem] = []
    unknown: list[UnknownMember] = []
    _visit(process, shape.PROCESS, None, found, unknown)
    if isinstance(process, dict):
        rules.check_process(_usable(process, found), _reporter(found))
    return _sorted(found, unknown)


def check_resources(resources: object) -> list[Problem]:
    """Return everything that is wrong with a resources object, as `update --resources` reads one."""
    found: list[Problem] = []
    unknown: list[UnknownMember] = []
    _visit(resources, shape.RESOURCES, None, found, unknown)
    if isinstance(resources, dict):
        rules.check_resources(_usable(resources, found), _reporter(found))
    return _sorted(found, unknown)


def require(config: object) -> list[Problem]:
    """Return the warnings about `config`; raise one ConfigError that names all errors if there are any."""
    return without_errors(check(config), "config.json")


def without_errors(problems: list[Problem], name: str) -> list[Problem]:
    """Return `problems` if all are warnings; else raise one ConfigError for the errors in the file `name`."""
    errors = [problem for problem in problems if not problem.warning]
    if errors:
        from pyruntime.spec.problem import to_error

        raise to_error(errors, name)
    return problems


def _visit(value: object, node: Shape, path: Path, found: list[Problem], unknown: list[UnknownMember]) -> None:
    """Hold `value` against the shape `node`; append to `found` what does not fit."""
    kind = node[0]
    if kind == "string":
        if (
            type(value) is str
            and "\0" not in value
            and (value.isascii() or _is_unicode(value))
            and (not node[1] or FORMATS[node[1]](value))
        ):
            return
    elif kind == "object":
        if type(value) is dict:
            _visit_members(value, node, path, found, unknown)
            return
    elif kind == "enum":
        if type(value) is str and value in node[1]:
            return
    elif kind == "integer":
        if type(value) is int:
            _, least, most = node
            if (least is None or value >= least) and (most is None or value <= most):
                return
    elif kind == "strings":
        if type(value) is list and len(value) >= node[1]:
            if not _are_texts(value):
                for index, item in enumerate(value):
                    _visit(item, ("string", ""), (path, index), found, unknown)
            return
    elif kind == "array":
        if type(value) is list and len(value) >= node[2]:
            items = node[1]
            for index, item in enumerate(value):
                _visit(item, items, (path, index), found, unknown)
            return
    elif type(value) is bool:
        return
    from pyruntime.spec.problem import misfit

    found.append(misfit(path, node, value))


def _visit_members(
    value: dict[str, object], node: Shape, path: Path, found: list[Problem], unknown: list[UnknownMember]
) -> None:
    """Hold the members of an object against its shape."""
    _, members, required, rest = node
    for name in required:
        if name not in value:
            from pyruntime.spec.problem import missing

            found.append(missing(path, name))
    for name, item in value.items():
        member = members.get(name)
        if member is None:
            if rest is None:
                unknown.append((path, name, node))
                continue
            member = rest
            # A name of a map becomes a file name or a part of a command, as a value does.
            if "\0" in name or not (name.isascii() or _is_unicode(name)):
                _visit(name, ("string", ""), (path, name), found, unknown)
        _visit(item, member, (path, name), found, unknown)


def _are_texts(values: list[Any]) -> bool:
    """Return whether all `values` are strings that the kernel can be given; `join` looks at them in C."""
    try:
        joined = "\0".join(values)
    except TypeError:
        return False
    return joined.count("\0") == max(len(values) - 1, 0) and (joined.isascii() or _is_unicode(joined))


def _is_unicode(text: str) -> bool:
    """Return whether `text` can be written as UTF-8: the JSON escape \\ud800 alone stands for no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_version(text: str) -> bool:
    core, sign, rest = text.replace("+", "-").partition("-")
    if sign and (not rest or rest.strip(VERSION_LETTERS)):
        return False
    numbers = core.split(".")
    return len(numbers) == 3 and numbers[0] == "1" and _is_number(numbers[1]) and _is_number(numbers[2])


def _is_number(text: str) -> bool:
    """Return whether `text` is a decimal number as SemVer writes them: without a leading zero."""
    return text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")


def _is_page_size(text: str) -> bool:
    return text[-2:] in ("KB", "MB", "GB") and text[:-2] != "0" and _is_number(text[:-2])


# The twins of the patterns of the schema: oci-spec/compile.py has the table.
FORMATS: dict[str, Callable[[str], bool]] = {
    "absolute": lambda text: text[:1] == "/",
    "absolute or empty": lambda text: not text or text[0] == "/",
    "version": _is_version,
    "page size": _is_page_size,
    "access": lambda text: not text.strip("rwm"),
    "list of numbers": lambda text: not text.strip("0123456789, -"),
    "bandwidth": lambda text: text[:3] == "MB:" and "\n" not in text,
    "filled": bool,
}


def _usable(value: dict[str, object], found: list[Problem]) -> Any:
    """Return `value` for the rules, which rely on types: what has the wrong one is taken out."""
    if not found:
        return value
    from pyruntime.spec.problem import pruned

    return pruned(value, found)


def _reporter(found: list[Problem]) -> rules.Report:
    """Return the function by which rules add to `found`."""

    def report(
        *keys: str | int, message: str, why: str | None = None, hint: str | None = None, warning: bool = False
    ) -> None:
        from pyruntime.spec.problem import Problem

        found.append(Problem(keys, message, why=why, hint=hint, warning=warning))

    return report


def _sorted(found: list[Problem], unknown: list[UnknownMember]) -> list[Problem]:
    """Return all problems, errors first, and in the order of the file otherwise."""
    for path, name, node in unknown:
        if not name.startswith(NOTE_PREFIXES) and "." not in name:
            from pyruntime.spec.problem import Unknown, keys_of

            found.append(Unknown((*keys_of(path), name), list(node[1])))
    if len(found) > 1:
        found.sort(key=lambda problem: problem.warning)
    return found
