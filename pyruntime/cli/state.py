"""state: the state of a container as JSON."""

from __future__ import annotations

from pyruntime.cli.main import one_id, write_output
from pyruntime.commands.state import state
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = "ID"
FLAGS = ()


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Print the state."""
    write_output(fastjson.dumps(state(settings.root, one_id(words, "state")), indent=2) + "\n")
    return 0
