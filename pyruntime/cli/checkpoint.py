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
    Flag("tcp-established", "open TCP connections as well"),
    Flag("ext-unix-sk", "unix sockets whose other end is outside, too"),
    Flag("shell-job", "a container whose terminal is the caller's"),
    Flag("file-locks", "locks of files as well"),
    Flag("lazy-pages", "memory only when it is asked for (userfaultfd(2))"),
    Flag("manage-cgroups-mode", "how cgroups are dealt with", value="soft|full|strict|ignore", default="soft"),
    Flag("empty-ns", "leave a namespace empty: network", value="KIND", many=True),
    Flag("auto-dedup", "keep pages of memory once"),
)
FLAGS = (
    *SHARED,
    Flag("parent-path", "the images of an earlier --pre-dump, as seen from those of now", value="PATH"),
    Flag("leave-running", "leave the container running", short="R"),
    Flag("pre-dump", "memory only, and leave the container running"),
    Flag("page-server", "send memory to a criu page server", value="ADDRESS:PORT"),
    Flag("status-fd", "descriptor that gets a zero byte once --lazy-pages is ready", value="N"),
    Flag("tcp-skip-in-flight", "without TCP connections that are being made"),
    Flag("link-remap", "files whose names are gone get new ones"),
)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Write the images; the container is deleted then, unless it is to run on."""
    from pyruntime.commands import checkpoint
    from pyruntime.criu.options import CheckpointOptions

    asked = {flag.name.replace("-", "_"): values[flag.name] for flag in FLAGS}
    asked["status_fd"] = number(values["status-fd"] or "-1", "status-fd")
    checkpoint.checkpoint(settings, one_id(words, "checkpoint"), CheckpointOptions(**asked))
    return 0
