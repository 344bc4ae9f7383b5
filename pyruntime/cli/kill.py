"""kill: send a signal to a container's init, or with --all to every process of it."""

from __future__ import annotations

from pyruntime.cli.flags import Flag
from pyruntime.commands import kill
from pyruntime.errors import UsageError
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = "ID [SIGNAL]"
FLAGS = (
    Flag("all", "send the signal to every process of the container", short="a"),
    Flag("regex", "ID is a regular expression: send it to every container that it matches", short="r"),
)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Send the signal, SIGTERM unless given."""
    if not 1 <= len(words) <= 2:
        raise UsageError("kill needs the container's id, and may take a signal", hint="see: pyruntime kill --help")
    signal = words[1] if len(words) > 1 else "TERM"

    def one(id: ContainerId) -> None:
        kill.kill_by_id(settings.root, id, signal, everything=values["all"])

    if values["regex"]:
        from pyruntime.cli import each

        return each.matching(settings, words[0], one)
    one(ContainerId(words[0]))
    return 0
