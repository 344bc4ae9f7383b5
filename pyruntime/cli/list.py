"""list: the containers below --root."""

from __future__ import annotations

from pyruntime.cli.flags import Flag
from pyruntime.cli.main import write_output
from pyruntime.commands.list import containers, ids_of
from pyruntime.errors import UsageError
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = ""
FLAGS = (
    Flag("format", "output format", short="f", value="table|json", default="table"),
    Flag("quiet", "show only ids", short="q"),
)

_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Print the containers, by id."""
    if values["format"] not in ("table", "json"):
        raise UsageError(f"invalid format option: {values['format']!r}", hint="use table or json")
    ids = ids_of(settings)
    if values["quiet"]:
        text = "".join(f"{id}\n" for id in ids)
    else:
        found = containers(settings, ids)
        text = fastjson.dumps(found or None) + "\n" if values["format"] == "json" else _table(found)
    write_output(text)
    return 0


def _table(found: list[dict[str, object]]) -> str:
    rows: list[tuple[str, ...]] = [_COLUMNS]
    rows += [tuple(str(one[name.lower()]) for name in _COLUMNS) for one in found]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(line.rstrip() + "\n" for line in lines)
