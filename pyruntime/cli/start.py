"""start: run the user's process of a created container."""

from __future__ import annotations

from pyruntime import container, state
from pyruntime.cli.main import Context, one_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "ID"
FLAGS = ()


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Start the container."""
    record = state.load(context.root, one_id(words, "start"))
    container.start(record, context.log)
    return 0
