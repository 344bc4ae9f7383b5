"""resume: thaw the processes of a paused container."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import freezer
from pyruntime.errors import StateError
from pyruntime.state import store
from pyruntime.state.status import status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.util.ids import ContainerId


def resume(root: str, id: ContainerId) -> None:
    """Thaw. Raises StateError unless the container is paused, and when a cgroup above holds it frozen."""
    record = store.load(root, id)
    lock = store.lock(record.directory, record.id)
    try:
        status = status_of(record)
        if status != "paused":
            raise StateError(f"container not paused: {record.id} is {status}")
        freezer.thaw(record.cgroups)
    finally:
        posix.close(lock)
