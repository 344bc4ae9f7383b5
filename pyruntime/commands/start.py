"""start: execute the program in the init of a created container (runtime-spec runtime.md, "Start")."""

from __future__ import annotations

import posix

from pyruntime.errors import HookError, StateError, StepError
from pyruntime.plan.step import execute
from pyruntime.state import store
from pyruntime.state.status import status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.state.store import Record
    from pyruntime.util.log import Log


def start(record: Record, log: Log) -> None:
    """Start the user's process, and run the poststart hooks.

    Raises StateError unless the container is created, and init's error when it could not become that process."""
    from pyruntime.runtime import exec_fifo

    lock = store.lock_again(record)
    try:
        status = status_of(record)
        if status == "stopped":
            stopped = StateError(
                "cannot start a container that has stopped", hint=f"delete {record.id} and create it again"
            )
            if posix.access(record.path(store.FIFO), posix.F_OK):  # not started: init died while it waited
                from pyruntime.runtime import death

                raise death.cause(record, stopped)
            raise stopped
        if status != "created":
            raise StateError(f"cannot start an already running container: {record.id} is {status}")
        try:
            exec_fifo.release_init(record)
        except (StepError, StateError) as error:
            from pyruntime.runtime import death

            raise death.cause(record, error) from None
        _run_poststart(record, log)
    finally:
        posix.close(lock)


def _run_poststart(record: Record, log: Log) -> None:
    if not record.hooks:
        return
    from pyruntime import version
    from pyruntime.features import hooks

    for step in hooks.plan_poststart(record.hooks):
        try:
            execute([step], hooks.RecordActor(record))
        except HookError as error:
            # Up to 1.2 a failing poststart hook is a warning, from 1.3.0 on the container is stopped.
            if version.of_spec(record.oci_version) >= (1, 3):
                from pyruntime.commands import kill

                kill.kill_all(record)
                raise
            log.warning(str(error))


def start_and_notify(record: Record, log: Log) -> None:
    """As `start`; with NOTIFY_SOCKET (sd_notify(3)) wait until the container has sent READY=1."""
    listening = None
    if posix.environ.get(b"NOTIFY_SOCKET") and posix.access(record.path("notify"), posix.F_OK):
        from pyruntime.commands import readiness

        listening = readiness.listen(record, log.warning)
    start(record, log)
    if listening is not None:
        listening.wait(record)
