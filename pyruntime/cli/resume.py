"""resume: let a paused container go on."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import freezer
from pyruntime.cli.main import Context, one_id
from pyruntime.errors import StateError
from pyruntime.state import store
from pyruntime.state.status import status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "ID"
FLAGS = ()


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Thaw."""
    record = store.load(context.root, one_id(words, "resume"))
    lock = store.lock(record.directory, record.id)
    try:
        status = status_of(record)
        if status != "paused":
            raise StateError(f"container not paused: {record.id} is {status}")
        freezer.thaw(record.cgroups)
    finally:
        posix.close(lock)
    return 0
