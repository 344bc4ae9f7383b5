"""kill: send a signal to a container's init, or with --all to every process of it."""

from __future__ import annotations

from pyruntime.cli.flags import Flag
from pyruntime.cli.main import Context
from pyruntime.commands import lifecycle
from pyruntime.errors import StateError, Unknown, UsageError
from pyruntime.state import store
from pyruntime.util import signals
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "ID [SIGNAL]"
FLAGS = (
    Flag("all", "send the signal to every process of the container", short="a"),
    Flag("regex", "ID is a regular expression: send it to every container that it matches", short="r"),
)


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Send the signal, SIGTERM unless given."""
    if not 1 <= len(words) <= 2:
        raise UsageError("kill needs the container's id, and may take a signal", hint="see: pyruntime kill --help")
    signal = words[1] if len(words) > 1 else "TERM"
    if values["regex"]:
        from pyruntime.cli import list

        return list.each(context, words[0], lambda id: _kill(context, id, signal, values["all"]))
    _kill(context, ContainerId(words[0]), signal, values["all"])
    return 0


def _kill(context: Context, id: ContainerId, signal: str, everything: bool) -> None:
    record = store.load(context.root, id)
    try:
        lifecycle.kill(record, signals.parse(signal), everything=everything)
    except Unknown:
        raise
    except StateError:
        # containerd calls `kill --all` after init has died, for what outlives it in a shared pid namespace.
        if not everything:
            raise
