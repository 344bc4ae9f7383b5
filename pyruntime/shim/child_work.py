"""What the shim's children do besides commands/forked.py: what involves the mounts of the bundle."""

from __future__ import annotations

import posix

from pyruntime.commands import forked
from pyruntime.commands.settings import Settings
from pyruntime.errors import PyruntimeError
from pyruntime.shim import rootfs, standby
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
    """Mount the root filesystem of a container that will be restored."""
    rootfs.mount_all(mounts, f"{bundle}/rootfs")


def delete(settings: Settings, id: ContainerId, *, bundle: str, types: list[str], force: bool) -> None:
    """Delete the container and unmount its root filesystem, whose mounts are of these types."""
    forked.COMMANDS["delete"](settings, id, force=force)
    if types:
        rootfs.detach(f"{bundle}/rootfs", types)


def create_when_told(settings: Settings, id: ContainerId, *, socket: int, bundle: str, **options: Any) -> object:
    """Plan a container now, and create it once the word comes (spare.py); to no word, end."""
    prepared = None
    try:
        prepared = forked.PreparedContainer(settings, id, bundle=bundle, **options)
    except (PyruntimeError, OSError):
        pass  # whatever it is, it is found again when somebody waits for the words
    mounts, console = _await_word(socket)
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


def run_when_told(settings: Settings, id: ContainerId, *, socket: int, process: dict[str, object]) -> object:
    """Plan a process of a container now, and run it once the word comes (spare.py); to no word, end."""
    prepared = None
    try:
        prepared = forked.PreparedProcess(settings, id, process=process, attached=bool(process["terminal"]))
    except (PyruntimeError, OSError):
        pass  # whatever it is, it is found again when somebody waits for the words
    _, console = _await_word(socket)
    if prepared is None:
        return forked.COMMANDS["exec"](settings, id, process=process, console=console)
    return prepared.run(console)


def _await_word(socket: int) -> tuple[list[Mount], int]:
    """Take the streams that come with the word: (mounts, console or -1). Without a word, end."""
    told = standby.receive(socket)
    if told is None:
        posix._exit(0)
    mounts, stdio, console = told
    forked.take_streams(stdio)
    for fd in (socket, *stdio):
        posix.close(fd)
    return mounts, console
