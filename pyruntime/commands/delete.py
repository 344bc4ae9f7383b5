"""delete: remove a container and all that was made for it (runtime-spec runtime.md, "Delete")."""

from __future__ import annotations

import posix

from pyruntime.commands.kill import kill_all
from pyruntime.errors import Busy, HookError, NotFound, PyruntimeError, StateError, from_oserror
from pyruntime.plan.step import execute
from pyruntime.state import store
from pyruntime.state.status import status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.state.store import Record
    from pyruntime.util.ids import ContainerId
    from pyruntime.util.log import Log

_FAIR_SECONDS = 1.0  # in which other commands usually get done
_TRIES, _DONE = 2, -1  # of a poststop hook


def delete_by_id(root: str, id: ContainerId, *, force: bool, log: Log) -> None:
    """Remove the container of this name.

    force: it may be running or not exist; of one whose record is missing or damaged, what can be read is removed."""
    try:
        record = store.load(root, id)
    except NotFound:
        if force:
            return  # engines call it once more than needed
        raise
    except StateError:
        if not force:
            raise
        from pyruntime.commands import salvage  # few records are damaged

        # A create that was killed before its first record made nothing; of a damaged one, what can be read.
        record = salvage.read(root, id)
    try:
        delete(record, force=force, log=log)
    except NotFound:
        if not force:
            raise


def delete(record: Record, *, force: bool, log: Log) -> None:
    """Remove a stopped container, or with force any. Raises StateError."""
    lock = _lock_by_force(record) if force else store.lock_again(record)
    try:
        status = status_of(record)
        if status != "stopped" and not force:
            raise StateError(
                f"cannot delete container {record.id} that is not stopped: {status}",
                hint=f"stop it with kill first, or use: pyruntime delete --force {record.id}",
            )
        store.require_no_mount(record.directory, record.id)
        destroy(record, log)
    finally:
        posix.close(lock)


def _lock_by_force(record: Record) -> int:
    """Take the container's lock, if need be from a command that would not give it back: a `create` or `start` that
    waits for a hook without a timeout, or for an init that is stuck."""
    try:
        return store.lock_again(record, _FAIR_SECONDS)
    except Busy:
        pass
    store.abandon(record)
    now = record
    try:
        now = store.load(store.root_of(record.directory), record.id)
        if record.is_other(now):
            raise NotFound(f'container "{record.id}" does not exist')
    except NotFound:
        raise
    except StateError:
        pass  # none yet, or a damaged one: what was read of it
    kill_all(now)
    return store.lock_again(record)  # the caller's record, which destroy goes by: what is known once all is quiet


def undo(record: Record, log: Log, error: BaseException) -> None:
    """Destroy a container whose creation failed; its lock is held. What cannot be undone is reported with the
    error of the creation."""
    try:
        destroy(record, log)
    except (PyruntimeError, OSError) as second:
        left = second if isinstance(second, PyruntimeError) else from_oserror(second, doing="undo the container")
        if not isinstance(error, PyruntimeError):
            log.warning(f"the container cannot be undone: {left}")
            return
        reason = ": ".join(filter(None, (left.message, left.why)))
        error.why = "; ".join(filter(None, (error.why, f"and it cannot be undone: {reason}")))
        error.hint = f"{left.hint or 'then remove what is left'}: pyruntime delete --force {record.id}"


def undo_created(record: Record, log: Log, error: BaseException) -> None:
    """As `undo`, of a container that was created, so that its lock was given back: others may have deleted it since,
    and created another of the same name."""
    try:
        lock = _lock_by_force(record)
    except NotFound:
        return
    try:
        undo(record, log, error)
    finally:
        posix.close(lock)


def destroy(record: Record, log: Log) -> None:
    """Undo everything that the record says may exist, and run the poststop hooks. What does not exist is not an error.

    The record is removed last: if this process is killed, the next `delete` continues."""
    held = kill_all(record)
    if held:
        log.warning(f"the container's init (pid {record.pid}) is dead and stays a zombie for the sake of {held}")
    from pyruntime.features.cgroups import remove as cgroup_remove

    if record.cgroup_manager == "systemd":
        from pyruntime.features.cgroups import systemd

        systemd.stop(record)
    cgroup_remove.remove(record)
    if "rdt" in record.extra or "rdt_monitor" in record.extra:
        from pyruntime.features.rdt import resctrl  # few containers have a group of resctrl

        resctrl.remove(record)
    if record.host_mounts:
        from pyruntime.features.rootfs import host_mounts

        host_mounts.detach(record)
    # runtime-spec runtime.md, "Lifecycle": after a failed hook of create, too. Without a process there was nothing.
    if record.pid and "poststop" in record.hooks:
        _run_poststop(record, log)
    store.remove(record.directory)


def _run_poststop(record: Record, log: Log) -> None:
    """Run the poststop hooks. One that fails is a warning, and the next one runs.

    Each is noted before it begins: if this command is killed, the next `delete` continues from there. One that
    was interrupted is run once more, and not again: it may hang, and the container must be removed."""
    from pyruntime.features import hooks

    steps = list(hooks.plan_poststop(record.hooks))
    tries: list[int] = record.extra.get("poststop") or [0] * len(steps)
    record.extra["poststop"] = tries
    # Gone by now; by the time of another `delete` these may be another container's.
    record.cgroups, record.host_mounts = {}, ""
    for name in ("rdt", "rdt_monitor"):
        record.extra.pop(name, None)
    for number, step in enumerate(steps):
        if tries[number] >= _TRIES:
            log.warning(f"poststop hook #{number} was interrupted twice: it is not run again")
        if tries[number] not in range(_TRIES):
            continue
        tries[number] += 1
        try:
            record.save()
        except OSError:
            pass  # no space: at worst it runs once more
        try:
            execute([step], hooks.RecordActor(record))
        except HookError as error:
            log.warning(str(error))
        tries[number] = _DONE
