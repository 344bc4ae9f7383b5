"""Operations of the shim's children that mount or unmount the root filesystem (others: commands/forked.py)."""

from __future__ import annotations

import posix

from pyruntime.commands import forked
from pyruntime.commands.settings import Settings
from pyruntime.errors import PyruntimeError
from pyruntime.shim import prefork, rootfs
from pyruntime.spec import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.shim.message_types import Mount
    from pyruntime.util.ids import ContainerId


def create(settings: Settings, id: ContainerId, *, mounts: list[Mount], bundle: str, **options: Any) -> object:
    """Mount the root filesystem and create the container."""
    target = f"{bundle}/rootfs"
    rootfs.mount_all(mounts, target)
    try:
        return forked.COMMANDS["create"](settings, id, bundle=bundle, **options)
    except BaseException:
        if mounts:
            rootfs.unmount(target)
        raise


def mount(settings: Settings, id: ContainerId, *, mounts: list[Mount], bundle: str) -> None:
    """Mount the root filesystem of a container to restore."""
    rootfs.mount_all(mounts, f"{bundle}/rootfs")


def delete(settings: Settings, id: ContainerId, *, bundle: str, types: list[str], force: bool) -> None:
    """Delete the container and unmount its root filesystem. types: filesystem types of its mounts."""
    forked.COMMANDS["delete"](settings, id, force=force)
    if types:
        rootfs.detach(f"{bundle}/rootfs", types)


def create_preforked(settings: Settings, id: ContainerId, *, socket: int, bundle: str, **options: Any) -> object:
    """Plan a container, and create it when the request arrives (prefork.py). Exit if it is cancelled."""
    prepared = None
    try:
        prepared = forked.PreparedContainer(settings, id, bundle=bundle, **options)
    except (PyruntimeError, OSError):
        pass  # the operation itself fails again and reports it
    mounts, console = _receive_request(socket)
    if prepared is None or load.read_config(bundle).decode("utf-8", "surrogateescape") != prepared.raw:
        return create(settings, id, mounts=mounts, bundle=bundle, console=console, **options)
    target = f"{bundle}/rootfs"
    rootfs.mount_all(mounts, target)
    try:
        return prepared.create(console)
    except BaseException:
        if mounts:
            rootfs.unmount(target)
        raise


def exec_preforked(settings: Settings, id: ContainerId, *, socket: int, process: dict[str, object]) -> object:
    """Plan a process of a container, and run it when the request arrives (prefork.py). Exit if it is cancelled."""
    prepared = None
    try:
        prepared = forked.PreparedProcess(settings, id, process=process, attached=bool(process["terminal"]))
    except (PyruntimeError, OSError):
        pass  # the operation itself fails again and reports it
    _, console = _receive_request(socket)
    if prepared is None:
        return forked.COMMANDS["exec"](settings, id, process=process, console=console)
    return prepared.run(console)


def _receive_request(socket: int) -> tuple[list[Mount], int]:
    """Wait for the request and install its streams. Return (mounts, console or -1). Exit if it is cancelled."""
    request = prefork.receive(socket)
    if request is None:
        posix._exit(0)
    mounts, stdio, console = request
    forked.take_streams(stdio)
    for fd in (socket, *stdio):
        posix.close(fd)
    return mounts, console
