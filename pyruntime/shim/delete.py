"""`delete`: clean up after a shim has exited. containerd calls it after a shim was killed, and after Shutdown."""

from __future__ import annotations

import posix
import time

from pyruntime.commands import forked
from pyruntime.errors import PyruntimeError
from pyruntime.shim import rootfs, runtime_options, wire
from pyruntime.shim.events import timestamp
from pyruntime.util.ids import ContainerId, Namespace

_KILLED = 137


def delete(id: str, namespace: str, bundle: str) -> int:
    """Delete the container in any state and its mounts, and print a DeleteResponse. Raises StateError for an invalid
    id or namespace."""
    checked, space = ContainerId(id), Namespace(namespace)
    known = runtime_options.noted(bundle)
    made, mounted = (
        known if known is not None else (runtime_options.settings(space, runtime_options.options(None)), True)
    )
    try:
        forked.COMMANDS["delete"](made, checked, force=True)
    except PyruntimeError as error:
        posix.write(2, f"pyruntime: {error}\n".encode())
    if mounted:
        rootfs.unmount(f"{bundle}/rootfs")
    response = {"exit_status": _KILLED, "exited_at": timestamp(time.time_ns())}
    posix.write(1, wire.encode("DeleteResponse", response))
    return 0
