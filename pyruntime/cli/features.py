"""features: what this runtime can do, as JSON (runtime-spec features.md)."""

from __future__ import annotations

from pyruntime.cli.main import write_output
from pyruntime.commands.features import features
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = ""
FLAGS = ()


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Print the features."""
    write_output(fastjson.dumps(features(), indent=2) + "\n")
    return 0
