"""completion: print the completion script of a shell."""

from __future__ import annotations

from pyruntime.cli import completions
from pyruntime.cli.main import write_output
from pyruntime.commands.settings import Settings
from pyruntime.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values

USAGE = "bash|zsh|fish"
FLAGS = ()


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Print the script."""
    if len(words) != 1 or words[0] not in completions.SHELLS:
        raise UsageError("completion needs the name of a shell", hint="give bash, zsh or fish")
    write_output(completions.SHELLS[words[0]]())
    return 0
