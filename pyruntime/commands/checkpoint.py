"""checkpoint: write the processes of a container to images, by criu(8)."""

from __future__ import annotations

from pyruntime.commands import delete
from pyruntime.criu import checkpoint as criu_checkpoint
from pyruntime.state import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.commands.settings import Settings
    from pyruntime.criu.options import CheckpointOptions
    from pyruntime.util.ids import ContainerId


def checkpoint(
    settings: Settings, id: ContainerId, asked: CheckpointOptions, files: list[str] | None = None, *, keep: bool = False
) -> None:
    """Write the images; then delete the container, unless it runs on. Raises PyruntimeError; then it runs on.

    files: what its standard input, output and error are (criu/images.py, descriptors_of), if the caller knows.
    keep:  leave the stopped container in place."""
    record = store.load(settings.root, id)
    criu_checkpoint.checkpoint(record, asked, files)
    if not (keep or asked.leave_running or asked.pre_dump):
        delete.delete(record, force=True, log=settings.log)
