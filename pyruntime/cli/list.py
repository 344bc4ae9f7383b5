"""list: the containers below --root."""

from __future__ import annotations

import posix

from pyruntime.cli.flags import Flag
from pyruntime.cli.main import Context, write_output
from pyruntime.errors import PyruntimeError, StateError, Unknown, UsageError, errno_name, strerror
from pyruntime.state import store
from pyruntime.state.status import oci_state, status_of
from pyruntime.util import fastjson
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

USAGE = ""
FLAGS = (
    Flag("format", "form of the list", short="f", value="table|json", default="table"),
    Flag("quiet", "ids only", short="q"),
)

_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Print the containers, by id."""
    if values["format"] not in ("table", "json"):
        raise UsageError(f"invalid format option: {values['format']!r}", hint="use table or json")
    ids = ids_of(context)
    if values["quiet"]:
        text = "".join(f"{id}\n" for id in ids)
    else:
        found = [entry for id in ids if (entry := _describe(context, id)) is not None]
        if values["format"] == "json":
            text = fastjson.dumps(found or None) + "\n"
        else:
            text = _table(found)
    write_output(text)
    return 0


def ids_of(context: Context) -> list[ContainerId]:
    """The names of the containers, in order. What else lies below --root is passed over.

    Raises StateError when there is no --root, unless it is the default one, which the first create makes."""
    try:
        with posix.scandir(context.root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not context.options["root"]:
            return []
        reason = f"{strerror(error.errno)} ({errno_name(error.errno)})"
        raise StateError(f"--root {context.root}: {reason}", hint="check the path") from None
    ids = []
    for name in names:
        try:
            if _has_record(context, name):
                ids.append(ContainerId(name))
        except StateError:
            pass
    return ids


def matching(context: Context, pattern: str) -> list[ContainerId]:
    """The containers in whose ids a regular expression is found, for --regex of kill and delete. Raises UsageError."""
    import re

    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--regex: {pattern!r} is not a regular expression: {error}") from None
    return [id for id in ids_of(context) if wanted.search(id)]


def each(context: Context, pattern: str, act: Callable[[ContainerId], None]) -> int:
    """Act on each container that matches: 1 when that failed for some, each with a line in the log."""
    failed = 0
    for id in matching(context, pattern):
        try:
            act(id)
        except (PyruntimeError, OSError) as error:
            failed = 1
            context.log.error(f"{id}: {error}")
    return failed


def _has_record(context: Context, name: str) -> bool:
    """Whether it is the directory of a container: not that of a create that has just begun, nor another's."""
    try:
        posix.stat(f"{context.root}/{name}/{store.RECORD}", follow_symlinks=False)
    except OSError:
        context.log.debug(f"{context.root}/{name} has no record of a container")
        return False
    return True


def _describe(context: Context, id: ContainerId) -> dict[str, Any] | None:
    try:
        record = store.load(context.root, id)
    except PyruntimeError as error:
        # A damaged one hides no other.
        if _has_record(context, id):  # else it was deleted meanwhile
            context.log.warning(str(error))
        return None
    try:
        status = status_of(record)
    except Unknown as error:
        context.log.warning(str(error))
        status = "unknown"
    found = oci_state(record, status)
    found.setdefault("pid", 0)
    return {**found, "rootfs": record.rootfs, "created": record.created, "owner": _user(record.owner)}


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _table(found: list[dict[str, Any]]) -> str:
    rows = [_COLUMNS]
    rows += [(str(c["id"]), str(c["pid"]), c["status"], c["bundle"], c["created"], c["owner"]) for c in found]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(line.rstrip() + "\n" for line in lines)
