"""start: run the user's process of a created container."""

from __future__ import annotations

from pyruntime.cli.flags import TRACE
from pyruntime.cli.main import one_id
from pyruntime.commands import start
from pyruntime.state import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = "ID"
FLAGS = (TRACE,)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Start the container."""
    start.start_and_notify(store.load(settings.root, one_id(words, "start")), settings.log)
    return 0
