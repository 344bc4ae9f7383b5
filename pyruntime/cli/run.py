"""run: create and start a container, and wait for its end."""

from __future__ import annotations

import posix

from pyruntime.cli import create
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

    from pyruntime.cli.terminal import Relay
    from pyruntime.features.notify_socket import NotifySocket
    from pyruntime.plan.request import Request
    from pyruntime.state.store import Record

USAGE = "ID"
FLAGS = (
    *create.FLAGS,
    Flag("detach", "return once the process runs", short="d"),
    Flag("keep", "keep the container's state after the process has ended"),
)


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Run the container: the exit status of its process, 128 + N when signal N ended it."""
    id = one_id(words, "run")
    detach = values["detach"]
    request, raw = create.request_of(context, values, id, detach=detach)
    relay = _relay(request)
    if not detach:
        foreground.hold_signals()
        if not values["no-subreaper"]:
            process.prctl(PR_SET_CHILD_SUBREAPER, 1)
    record = create.make(context, values, request, raw)
    try:
        try:
            notify = _notify(record, context) if request.notify else None
            if relay is not None:
                relay.connect()
            lifecycle.start(record, context.log)
        except BaseException as error:
            lifecycle.undo_created(record, context.log, error)
            raise
        return _leave(record, notify) if detach else _attend(context, record, relay, notify, keep=values["keep"])
    finally:
        if relay is not None:
            relay.restore()


def _relay(request: Request) -> Relay | None:
    if request.detach or request.console_socket or not request.process.get("terminal"):
        return None
    from pyruntime.cli import terminal

    return terminal.Relay(request)


def _notify(record: Record, context: Context) -> NotifySocket | None:
    from pyruntime.features import notify_socket

    return notify_socket.listen(record, context.log.warning)


def _leave(record: Record, notify: NotifySocket | None) -> int:
    """Wait until the container is ready, if it is to tell."""
    if notify is not None:
        notify.wait(record)
    return 0


def _attend(context: Context, record: Record, relay: Relay | None, notify: NotifySocket | None, *, keep: bool) -> int:
    """Wait for the container's end, and delete it."""
    pidfd = open_init(record)
    if notify is not None:
        notify.main_pid = posix.getpid()  # we stay, and it is us whom the service manager has started
    sources = [source for source in (relay, notify) if source is not None]
    status = foreground.attend(record.pid, pidfd, sources)
    if pidfd >= 0:
        posix.close(pidfd)
    if not keep:
        try:
            lifecycle.delete(record, force=True, log=context.log)
        except NotFound:
            pass  # somebody else has deleted it already
    return status
