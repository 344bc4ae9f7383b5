"""ps: the processes of a container, by ps(1) or as their pids on the host."""

from __future__ import annotations

from pyruntime.cli.flags import Flag
from pyruntime.cli.main import write_output
from pyruntime.commands.ps import pids_of, table
from pyruntime.errors import UsageError
from pyruntime.util import fastjson
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = "ID [OPTIONS OF ps(1)]"
MIXED = False  # what follows the id is ps's
FLAGS = (Flag("format", "output format", short="f", value="table|json", default="table"),)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Print the processes."""
    if not words:
        raise UsageError("ps needs the container's id", hint="see: pyruntime ps --help")
    if values["format"] not in ("table", "json"):
        raise UsageError(f"invalid format option: {values['format']!r}", hint="use table or json")
    pids = pids_of(settings.root, ContainerId(words[0]))
    json = values["format"] == "json"
    write_output(fastjson.dumps(pids) + "\n" if json else table(words[1:] or ["-ef"], set(pids)))
    return 0
