"""What the shim's children do beside the operations of operations.py: those that involve the bundle's mounts."""

from __future__ import annotations

from pyruntime import operations
from pyruntime.operations import Settings
from pyruntime.shim import rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def create(settings: Settings, id: str, *, mounts: list[dict[str, Any]], bundle: str, **options: Any) -> Any:
    """Mount the root filesystem and create the container."""
    target = f"{bundle}/rootfs"
    rootfs.mount_all(mounts, target)
    try:
        return operations.create(settings, id, bundle=bundle, **options)
    except BaseException:
        if mounts:
            rootfs.unmount(target)
        raise


def delete(settings: Settings, id: str, *, bundle: str, mounted: bool, force: bool) -> None:
    """Delete the container and unmount its root filesystem."""
    operations.delete(settings, id, force=force)
    if mounted:
        rootfs.unmount(f"{bundle}/rootfs")
