"""delete: remove a container, its cgroup and its state."""

from __future__ import annotations

from pyruntime import container, state
from pyruntime.cli.flags import TRACE, Flag
from pyruntime.cli.main import Context, one_id
from pyruntime.errors import NotFound, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "ID"
FLAGS = (Flag("force", "kill a container that runs; an unknown id is no error", short="f"), TRACE)


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Delete the container."""
    id = one_id(words, "delete")
    try:
        record = state.load(context.root, id)
    except NotFound:
        if values["force"]:
            return 0  # engines call it once more than needed
        raise
    except StateError:
        if not values["force"] or not state.exists(context.root, id):
            raise
        # A create that was killed before its first record made nothing; of a damaged one, what can be read.
        record = state.salvage(context.root, id)
    try:
        container.delete(record, force=values["force"], log=context.log)
    except NotFound:
        if not values["force"]:
            raise
    return 0
