"""pause: freeze all processes of a container."""

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
    """Freeze; returns once every process stands still."""
    record = store.load(context.root, one_id(words, "pause"))
    lock = store.lock(record.directory, record.id)
    try:
        status = status_of(record)
        if status not in ("running", "created"):
            raise StateError(f"container not running or created: {record.id} is {status}")
        freezer.freeze(record.cgroups)
    finally:
        posix.close(lock)
    return 0
