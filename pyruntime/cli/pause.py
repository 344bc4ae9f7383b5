"""pause: freeze all processes of a container."""

from __future__ import annotations

from pyruntime.cli.main import one_id
from pyruntime.commands import pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = "ID"
FLAGS = ()


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Freeze the container; return once every process is frozen."""
    pause.pause(settings.root, one_id(words, "pause"))
    return 0
