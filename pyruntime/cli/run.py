"""run: create and start a container, and wait for its end."""

from __future__ import annotations

from pyruntime.cli import create
from pyruntime.cli.flags import Flag
from pyruntime.cli.main import one_id
from pyruntime.commands import run as command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = "ID"
FLAGS = (
    *create.FLAGS,
    Flag("detach", "return once the process is started", short="d"),
    Flag("keep", "keep the container's state after it has exited"),
)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Run the container: the exit status of its process, 128 + N when signal N ended it."""
    options = create.options_of(values, detach=values["detach"])
    return command.run(
        settings, one_id(words, "run"), options, keep=values["keep"], subreaper=not values["no-subreaper"]
    )
