"""resume: let a paused container go on."""

from __future__ import annotations

import posix

from pyruntime import state
from pyruntime.cgroups import freezer
from pyruntime.cli.main import Context, one_id
from pyruntime.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "ID"
FLAGS = ()


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Thaw."""
    record = state.load(context.root, one_id(words, "resume"))
    lock = state.lock(record.directory, record.id)
    try:
        status = state.status(record)
        if status != "paused":
            raise StateError(f"container not paused: {record.id} is {status}")
        freezer.thaw(record.cgroups)
    finally:
        posix.close(lock)
    return 0
