"""checkpoint: write a container's processes to images, by criu(8)."""

from __future__ import annotations

from pyruntime.cli.flags import Flag, number
from pyruntime.cli.main import one_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = "ID"
# What restore takes as well.
SHARED = (
    Flag("image-path", "directory of the images (default: checkpoint, in the working directory)", value="DIR"),
    Flag("work-path", "directory of criu's logs (default: that of the images)", value="DIR"),
    Flag("tcp-established", "allow open TCP connections"),
    Flag("ext-unix-sk", "allow unix sockets connected to processes outside"),
    Flag("shell-job", "allow a container with the caller's terminal"),
    Flag("file-locks", "allow file locks"),
    Flag("lazy-pages", "transfer memory on demand (userfaultfd(2))"),
    Flag("manage-cgroups-mode", "mode of restoring cgroups", value="soft|full|strict|ignore", default="soft"),
    Flag("empty-ns", "leave a namespace empty: network", value="KIND", many=True),
    Flag("auto-dedup", "store each page of memory once"),
)
FLAGS = (
    *SHARED,
    Flag("parent-path", "images of an earlier --pre-dump, relative to the new ones", value="PATH"),
    Flag("leave-running", "leave the container running", short="R"),
    Flag("pre-dump", "write only memory, and leave the container running"),
    Flag("page-server", "send memory to a criu page server", value="ADDRESS:PORT"),
    Flag("status-fd", "descriptor that gets a zero byte once --lazy-pages is ready", value="N"),
    Flag("tcp-skip-in-flight", "skip TCP connections that are being established"),
    Flag("link-remap", "allow deleted files, which get new names"),
)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Write the images; the container is deleted then, unless it is to run on."""
    from pyruntime.commands import checkpoint
    from pyruntime.criu.options import CheckpointOptions

    asked = {flag.name.replace("-", "_"): values[flag.name] for flag in FLAGS}
    asked["status_fd"] = number(values["status-fd"] or "-1", "status-fd")
    checkpoint.checkpoint(settings, one_id(words, "checkpoint"), CheckpointOptions(**asked))
    return 0
