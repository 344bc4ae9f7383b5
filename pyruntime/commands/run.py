"""run: create and start a container; in the foreground wait for its end, and delete it."""

from __future__ import annotations

import posix

from pyruntime.commands import create, foreground, start
from pyruntime.errors import NotFound
from pyruntime.kernel import process
from pyruntime.kernel.constants import PR_SET_CHILD_SUBREAPER
from pyruntime.state.status import open_init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyruntime.commands.create import CreateOptions
    from pyruntime.commands.readiness import NotifySocket
    from pyruntime.commands.settings import Settings
    from pyruntime.commands.terminal import Relay
    from pyruntime.plan.request import Request
    from pyruntime.state.store import Record
    from pyruntime.util.ids import ContainerId


def run(
    settings: Settings, id: ContainerId, options: CreateOptions, *, keep: bool = False, subreaper: bool = True
) -> int:
    """Run a container: the exit status of its process, 128 + N when signal N ended it; 0 with options.detach.

    keep:      leave the stopped container in place.
    subreaper: reap the processes that the container leaves to this one (PR_SET_CHILD_SUBREAPER)."""
    request, raw = create.request_of(settings, id, options)
    relay = relay_of(request)
    if not options.detach:
        prepare_foreground(subreaper=subreaper)
    record = create.create_from(settings, request, raw, options)
    try:
        try:
            notify = _listen(record, settings) if request.notify else None
            if relay is not None:
                relay.connect()
            start.start(record, settings.log)
        except BaseException as error:
            from pyruntime.commands import delete

            delete.undo_created(record, settings.log, error)
            raise
        if not options.detach:
            return _attend(settings, record, relay, notify, keep=keep)
        if notify is not None:
            notify.wait(record)
        return 0
    finally:
        if relay is not None:
            relay.restore()


def prepare_foreground(*, subreaper: bool) -> None:
    """Block signals, and become the subreaper of the container's orphans; to be called before init is cloned."""
    foreground.hold_signals()
    if subreaper:
        process.prctl(PR_SET_CHILD_SUBREAPER, 1)


def relay_of(request: Request) -> Relay | None:
    """Return the relay between the caller's terminal and the process's, None if there is nothing to relay."""
    if request.detach or request.console_socket or not request.process.get("terminal"):
        return None
    from pyruntime.commands import terminal

    return terminal.Relay(request)


def _listen(record: Record, settings: Settings) -> NotifySocket | None:
    from pyruntime.commands import readiness

    return readiness.listen(record, settings.log.warning)


def _attend(settings: Settings, record: Record, relay: Relay | None, notify: NotifySocket | None, *, keep: bool) -> int:
    if notify is not None:
        notify.main_pid = posix.getpid()  # this process stays, and is the one that the service manager has started
    sources = [source for source in (relay, notify) if source is not None]
    return attend(settings, record, sources, keep=keep)


def attend(settings: Settings, record: Record, sources: Sequence[foreground.Source], *, keep: bool) -> int:
    """Wait until the container has exited, delete it unless it is kept, and return its exit status."""
    pidfd = open_init(record)
    status = foreground.attend(record.pid, pidfd, sources)
    if pidfd >= 0:
        posix.close(pidfd)
    if not keep:
        from pyruntime.commands import delete

        try:
            delete.delete(record, force=True, log=settings.log)
        except NotFound:
            pass  # another command has deleted it already
    return status
