"""Checkpoint and restore with criu, in children of the shim."""

from __future__ import annotations

import posix

from pyruntime.commands import checkpoint as checkpoint_command
from pyruntime.commands import create, forked
from pyruntime.commands import restore as restore_command
from pyruntime.commands.create import CreateOptions
from pyruntime.criu import images as criu_images
from pyruntime.criu.options import CheckpointOptions, RestoreOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.commands.settings import Settings
    from pyruntime.shim import message_types
    from pyruntime.util.ids import ContainerId

_LOGS = "criu-work"  # in the bundle: containerd may store the image directory as an image


def checkpoint(
    settings: Settings,
    id: ContainerId,
    *,
    path: str,
    bundle: str,
    chosen: message_types.CheckpointOptions,
    files: list[str],
) -> None:
    """Write the images of a running container to a directory.

    path:   the directory.
    chosen: fields of containerd's CheckpointOptions; with `exit` the container is stopped.
    files:  its standard input, output and error: a path of the host, `pipe:[INODE]`, or the container's
            /dev/null; [] for a terminal.
    Raises PyruntimeError; the container then continues to run."""
    logs = chosen["work_path"] or f"{bundle}/{_LOGS}"
    asked = CheckpointOptions(
        image_path=path,
        work_path=logs,
        leave_running=not chosen["exit"],
        tcp_established=chosen["open_tcp"],
        ext_unix_sk=chosen["external_unix_sockets"],
        shell_job=chosen["terminal"],
        file_locks=chosen["file_locks"],
        empty_ns=tuple(chosen["empty_namespaces"]),
        manage_cgroups_mode=chosen["cgroups_mode"] or "soft",
    )
    try:
        links = [file if _is_inside(file) else criu_images.descriptor_for(file) for file in files]
    except OSError:
        links = []  # the client has exited and removed its fifos
    checkpoint_command.checkpoint(settings, id, asked, links, keep=True)
    if not chosen["work_path"]:
        _remove(logs)


def restore(
    settings: Settings, id: ContainerId, *, path: str, logs: str, bundle: str, console: int = -1, **options: Any
) -> dict[str, object]:
    """Restore a container from a directory of images, with descriptors 0 to 2 of this process as its streams.

    path: the directory. logs: directory for criu's logs, "" for one in the bundle. console, options: see `create`
    in commands/forked.py. Return {"pid", "start"} of init. Raises PyruntimeError; the container is then deleted."""
    asked = RestoreOptions(image_path=path, work_path=logs or f"{bundle}/{_LOGS}")
    request, raw = create.request_of(settings, id, CreateOptions(bundle, **options, detach=console < 0))
    forked.set_console(request, console)
    record = restore_command.make(request, settings.root, raw, settings.log, asked)
    if not logs:
        _remove(asked.work_path)
    return {"pid": record.pid, "start": record.start}


def _is_inside(file: str) -> bool:
    return file == "/dev/null" or file.startswith("pipe:[")


def _remove(directory: str) -> None:
    """Remove criu's logs after success."""
    for name in posix.listdir(directory):
        posix.unlink(f"{directory}/{name}")
    posix.rmdir(directory)
