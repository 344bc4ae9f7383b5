"""state: what a container is now (runtime-spec runtime.md, "State", and what runc adds)."""

from __future__ import annotations

from pyruntime.state import store
from pyruntime.state.status import oci_state, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.util.ids import ContainerId


def state(root: str, id: ContainerId) -> dict[str, object]:
    """Return the state: ociVersion, id, status, pid (0 for none), bundle, annotations; as runc also rootfs, created,
    owner."""
    record = store.load(root, id)
    found = oci_state(record, status_of(record))
    found.setdefault("pid", 0)
    found["rootfs"] = record.rootfs
    found["created"] = record.created
    found["owner"] = ""
    return found
