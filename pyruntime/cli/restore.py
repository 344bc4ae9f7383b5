"""restore: make a container again from the images of a checkpoint."""

from __future__ import annotations

import posix

from pyruntime.cli import checkpoint, create, pidfile
from pyruntime.cli.flags import Flag
from pyruntime.cli.main import Context, one_id
from pyruntime.commands import foreground, lifecycle
from pyruntime.errors import NotFound
from pyruntime.kernel import process
from pyruntime.kernel.constants import PR_SET_CHILD_SUBREAPER
from pyruntime.state.status import open_init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OF_CREATE = ("bundle", "pid-file", "console-socket", "no-pivot", "no-subreaper")

USAGE = "ID"
FLAGS = (
    *checkpoint.SHARED,
    *(flag for flag in create.FLAGS if flag.name in _OF_CREATE),
    Flag("detach", "return once the processes run", short="d"),
    Flag("tcp-close", "close TCP connections that were open"),
    Flag("lsm-profile", "give the processes another label: apparmor:NAME or selinux:LABEL", value="PROFILE"),
    Flag("lsm-mount-context", "another SELinux context for mounts", value="CONTEXT"),
)


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Restore the container: the exit status of its process, as `run`; 0 with --detach."""
    from pyruntime.criu import restore

    id = one_id(words, "restore")
    detach = values["detach"]
    if values["pid-file"]:
        pidfile.check(values["pid-file"])
    # Whoever was ready before the checkpoint does not say so again.
    posix.environ.pop(b"NOTIFY_SOCKET", None)
    asked = {**values, "no-new-keyring": False, "preserve-fds": ""}
    request, raw = create.request_of(context, asked, id, detach=detach)
    relay = None
    if request.process.get("terminal"):
        from pyruntime.cli import terminal

        if terminal.wanted(request):
            relay = terminal.Relay(request)
    if not detach:
        foreground.hold_signals()
        if not values["no-subreaper"]:
            process.prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        record = restore.restore(request, context.root, raw, context.log, values)
        try:
            if values["pid-file"]:
                pidfile.write(values["pid-file"], record.pid)
            if relay is not None:
                relay.connect()
        except BaseException as error:
            lifecycle.undo_created(record, context.log, error)
            raise
        if detach:
            return 0
        pidfd = open_init(record)
        status = foreground.attend(record.pid, pidfd, [relay] if relay is not None else [])
        if pidfd >= 0:
            posix.close(pidfd)
        try:
            lifecycle.delete(record, force=True, log=context.log)
        except NotFound:
            pass  # somebody else has deleted it already
        return status
    finally:
        if relay is not None:
            relay.restore()
