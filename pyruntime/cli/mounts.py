"""mounts: add mounts to a running container, remove them again, list them."""

from __future__ import annotations

from pyruntime.cli.flags import Flag
from pyruntime.cli.main import one_id, write_output
from pyruntime.commands import mounts
from pyruntime.errors import UsageError
from pyruntime.spec import load
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings
    from pyruntime.spec.sections import Mount

USAGE = "add|remove|list ID [FILE]"
FLAGS = (
    Flag("mount", "add: type=bind,source=DIR,destination=DIR,options=ro:nosuid", value="SPEC", many=True),
    Flag("destination", "remove: where it is mounted in the container", value="DESTINATION", many=True),
    Flag("format", "list: output format", short="f", value="table|json", default="table"),
)

_COLUMNS = ("DESTINATION", "TYPE", "SOURCE", "OPTIONS", "FROM", "MOUNTED")
_MEMBERS = {
    "type": "type",
    "source": "source",
    "src": "source",
    "destination": "destination",
    "dst": "destination",
    "target": "destination",
    "options": "options",
}


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Add, remove or list."""
    verb = words[0] if words else ""
    if verb not in ("add", "remove", "list"):
        raise UsageError("mounts takes add, remove or list, and an id", hint="see: pyruntime mounts --help")
    id = one_id(words[1:2], f"mounts {verb}")
    files = words[2:]
    if verb == "list":
        if files or values["format"] not in ("table", "json"):
            raise UsageError("mounts list takes an id, and --format table or json")
        found = mounts.listed(settings, id)
        write_output(fastjson.dumps(found, indent=2) + "\n" if values["format"] == "json" else _table(found))
        return 0
    given = values["mount"] if verb == "add" else values["destination"]
    if len(files) + bool(given) != 1 or values["destination" if verb == "add" else "mount"]:
        flag = "--mount" if verb == "add" else "--destination"
        raise UsageError(f"mounts {verb} takes an id, and a FILE or {flag}", hint="see: pyruntime mounts --help")
    entries, origin = (_of_file(files[0]), files[0]) if files else ([], "the command line")
    if verb == "add":
        mounts.add(settings, id, entries or [_of_words(word) for word in given], origin=origin)
    else:
        mounts.remove(settings, id, given or [_destination(entry, origin) for entry in entries])
    return 0


def _of_file(name: str) -> list[Mount]:
    """Return the mounts of a file, - for standard input: an object with `mounts`, as config.json is one. Raises
    UsageError."""
    given: Any = load.load_given("/dev/stdin" if name == "-" else name)
    found = given.get("mounts")
    if not isinstance(found, list) or not found:
        raise UsageError(f"{name}: has no mounts", hint='write {"mounts": [{"destination": …}]}, as in config.json')
    entries: list[Mount] = found
    return entries


def _destination(entry: object, origin: str) -> str:
    found = entry.get("destination") if isinstance(entry, dict) else None
    if not isinstance(found, str):
        raise UsageError(f"{origin}: a mount has no destination")
    return found


def _of_words(text: str) -> Mount:
    """Return a mount as `--mount` has it. Raises UsageError."""
    found: Any = {}
    for word in text.split(","):
        name, _, value = word.partition("=")
        if name not in _MEMBERS:
            raise UsageError(f"--mount: unknown member {name!r}", hint=f"known: {', '.join(_MEMBERS)}")
        found[_MEMBERS[name]] = value.split(":") if name == "options" else value
    if found.get("type") == "bind" and "options" not in found:
        found["options"] = ["rbind"]
    mount: Mount = found
    return mount


def _table(found: list[dict[str, object]]) -> str:
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for one in found:
        origin = "added" if one["added"] else "config.json"
        options = one["options"]
        shown = ",".join(options) if isinstance(options, list) and options else "-"
        mounted = "yes" if one["mounted"] else "no"
        place, type, source = (str(one[name] or "-") for name in ("destination", "type", "source"))
        rows.append((place, type, source, shown, origin, mounted))
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(line.rstrip() + "\n" for line in lines)
