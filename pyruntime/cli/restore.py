"""restore: make a container again from the images of a checkpoint."""

from __future__ import annotations

from pyruntime.cli import checkpoint, create
from pyruntime.cli.flags import Flag
from pyruntime.cli.main import one_id
from pyruntime.commands.create import CreateOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

_OF_CREATE = ("bundle", "pid-file", "console-socket", "no-pivot", "no-subreaper")

USAGE = "ID"
_OWN = (
    Flag("tcp-close", "close TCP connections that were open"),
    Flag("lsm-profile", "label of the processes: apparmor:NAME or selinux:LABEL", value="PROFILE"),
    Flag("lsm-mount-context", "SELinux context for mounts", value="CONTEXT"),
)
FLAGS = (
    *checkpoint.SHARED,
    *(flag for flag in create.FLAGS if flag.name in _OF_CREATE),
    Flag("detach", "return once the processes are restored", short="d"),
    *_OWN,
)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Restore the container: the exit status of its process, as `run`; 0 with --detach."""
    from pyruntime.commands import restore
    from pyruntime.criu.options import RestoreOptions

    id = one_id(words, "restore")
    options = CreateOptions(
        values["bundle"],
        pid_file=values["pid-file"],
        console_socket=values["console-socket"],
        pivot=not values["no-pivot"],
        detach=values["detach"],
    )
    asked = {flag.name.replace("-", "_"): values[flag.name] for flag in (*checkpoint.SHARED, *_OWN)}
    return restore.run(settings, id, options, RestoreOptions(**asked), subreaper=not values["no-subreaper"])
