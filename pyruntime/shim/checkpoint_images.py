"""Checkpoint, and Create of what was checkpointed, as the shim's children do them: by criu, as the commands do."""

from __future__ import annotations

import posix

from pyruntime.cli import checkpoint as cli_checkpoint
from pyruntime.cli import create as cli_create
from pyruntime.cli import flags
from pyruntime.cli import restore as cli_restore
from pyruntime.commands import operations
from pyruntime.commands.operations import Settings
from pyruntime.criu import checkpoint as criu_checkpoint
from pyruntime.criu import images as criu_images
from pyruntime.criu import restore as criu_restore
from pyruntime.state import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.util.ids import ContainerId

_LOGS = "criu-work"  # in the bundle: the directory of images is the client's, and may become an image of its own


def checkpoint(
    settings: Settings, id: ContainerId, *, path: str, bundle: str, chosen: dict[str, Any], files: list[str]
) -> None:
    """Write the images of a running container to a directory.

    path: the directory. chosen: the fields of containerd's CheckpointOptions; with exit the processes are gone then.
    files: what it got as standard input, output and error: a path of the host, `pipe:[INODE]`, or
    /dev/null, which is the container's; [] for a terminal.
    Raises PyruntimeError, and the container runs on."""
    values, _ = flags.parse([], cli_checkpoint.FLAGS)
    logs = chosen["work_path"] or f"{bundle}/{_LOGS}"
    values |= {
        "image-path": path,
        "work-path": logs,
        "leave-running": not chosen["exit"],
        "tcp-established": chosen["open_tcp"],
        "ext-unix-sk": chosen["external_unix_sockets"],
        "shell-job": chosen["terminal"],
        "file-locks": chosen["file_locks"],
        "empty-ns": chosen["empty_namespaces"],
    }
    if chosen["cgroups_mode"]:
        values["manage-cgroups-mode"] = chosen["cgroups_mode"]
    try:
        links = [file if _is_inside(file) else criu_images.descriptor_for(file) for file in files]
    except OSError:
        links = []  # its client has gone, and has removed them
    criu_checkpoint.checkpoint(store.load(settings.root, id), values, links)
    if not chosen["work_path"]:
        _remove(logs)


def restore(
    settings: Settings, id: ContainerId, *, path: str, logs: str, bundle: str, console: int = -1, **options: Any
) -> dict[str, Any]:
    """Make a container from a directory of images, with this process's descriptors 0 to 2, and let it run: {"pid",
    "start"} of its init.

    path: the directory. logs: that of criu's logs, "" for one in the bundle. console, options: as of
    operations.create. Raises PyruntimeError; then nothing is left of the container."""
    values, _ = flags.parse([], cli_restore.FLAGS)
    values |= {"image-path": path, "work-path": logs or f"{bundle}/{_LOGS}", "bundle": bundle}
    unused = {"preserve-fds": ""}
    context: Any = settings
    request, raw = cli_create.request_of(context, {**values, **unused, **options}, id, detach=console < 0)
    operations.set_console(request, console)
    record = criu_restore.restore(request, settings.root, raw, settings.log, values)
    if not logs:
        _remove(values["work-path"])
    return {"pid": record.pid, "start": record.start}


def _is_inside(file: str) -> bool:
    return file == "/dev/null" or file.startswith("pipe:[")


def _remove(directory: str) -> None:
    """Remove criu's logs of what went well."""
    for name in posix.listdir(directory):
        posix.unlink(f"{directory}/{name}")
    posix.rmdir(directory)
