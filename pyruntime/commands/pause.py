"""pause: freeze all processes of a container."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import freezer
from pyruntime.errors import StateError
from pyruntime.state import store
from pyruntime.state.status import status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.util.ids import ContainerId


def pause(root: str, id: ContainerId) -> None:
    """Freeze the container; return once every process is frozen.

    Raises StateError unless the container is created or running."""
    record = store.load(root, id)
    lock = store.lock(record.directory, record.id)
    try:
        status = status_of(record)
        if status not in ("running", "created"):
            raise StateError(f"container not running or created: {record.id} is {status}")
        freezer.freeze(record.cgroups)
    finally:
        posix.close(lock)
