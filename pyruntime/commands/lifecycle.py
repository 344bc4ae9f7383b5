"""A container's life: create, start, kill, delete (runtime-spec runtime.md, "Lifecycle").

Functions on a state record; the command line, the library and the containerd shim call these. Each imports what
it needs: most commands do a small part, and imports cost more than the work.
"""

from __future__ import annotations

import posix
import select
import time

from pyruntime.errors import (
    Busy,
    HookError,
    KernelError,
    NotFound,
    PyruntimeError,
    StateError,
    StepError,
    Unknown,
    from_oserror,
)
from pyruntime.kernel.pidfd import send_signal
from pyruntime.plan.step import execute
from pyruntime.state import store
from pyruntime.state.status import oci_state, open_init, status_of, waits_for_start
from pyruntime.state.store import Record
from pyruntime.util.fileio import write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyruntime.features.registry import Plan
    from pyruntime.plan.request import Request
    from pyruntime.util.ids import ContainerId
    from pyruntime.util.log import Log

_SIGKILL = 9
_DEATH_SECONDS = 10.0
_QUICK_DEATH_SECONDS = 0.1
_FAIR_SECONDS = 1.0  # in which other commands usually get done
_SC_OPEN_MAX = posix.sysconf_names["SC_OPEN_MAX"]
_DESCRIPTORS = 40  # more than `create` has open at once: one a hierarchy of cgroup v1, and some twenty
_AMPLE = 512
# EINVAL (seen on Linux 6.12): the number lives on as that of the session that init has begun.
_NO_PROCESS = (3, 22)  # ESRCH, EINVAL
_TRIES, _DONE = 2, -1  # of a poststop hook
# What ends a container that waits for `start`: HUP, INT, QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV, TERM, STKFLT, SYS.
_FATAL = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 11, 15, 16, 31))


class HookActor:
    """What poststart and poststop hooks act on: a record, and no container process of ours."""

    __slots__ = ("record", "trace")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.trace: Callable[..., None] | None = None

    def oci_state(self, status: str) -> dict[str, Any]:
        """The state for a hook."""
        return oci_state(self.record, status)


def plan_for(request: Request) -> Plan:
    """What is to be done for a request; asks nothing of the rootfs. Raises PyruntimeError."""
    from pyruntime.features import registry

    if request.process.get("terminal") or request.console_socket:
        from pyruntime.features.rootfs import console

        console.check(request)
    if request.systemd_cgroup:
        from pyruntime.features.cgroups import systemd

        systemd.require()
    return registry.build(request)


def create(request: Request, root: str, raw_config: str, log: Log, plan: Plan | None = None) -> Record:
    """Create a container: when this returns, init waits for `start`. On an error nothing is left.

    request:    what to make (plan/request.py).
    root:       the directory of all containers' state.
    raw_config: config.json as it was read, kept for `exec` and `update`.
    plan:       what `plan_for` has made of the request, if that was done before."""
    from pyruntime.runtime import parent
    from pyruntime.state import liveness

    if plan is None:
        plan = plan_for(request)
    liveness.require_own_proc()
    for text in request.warnings:
        log.warning(text)
    _require_descriptors()
    directory, lock = store.make(root, request.id)
    record = Record(directory, request.id)
    try:
        try:
            describe(record, request)
            write_atomically(directory, store.CONFIG, raw_config)
            maker = parent.Parent(plan, record, log)
            parent.create(maker)
            record.pidfd = maker.pidfd
        except BaseException as error:
            undo(record, log, error)
            if request.linux.get("seccomp"):
                from pyruntime.features.security import seccomp_blame

                seccomp_blame.explain(error, request.config)
            raise
    except OSError as error:
        # A full or a read-only disk, of a write(2) that has no name; clone3(2) means another thing by ENOSPC.
        full = error.errno in (28, 30) and not isinstance(error, KernelError) and not error.filename
        if full or str(error.filename or "").startswith(directory):
            raise store.unusable(root, directory, error) from error
        raise from_oserror(error, doing="create the container") from error
    finally:
        posix.close(lock)
    return record


def _require_descriptors() -> None:
    """Raise StateError unless enough descriptors are free: without any, not even an error can be undone."""
    lowest = posix.dup(2)
    posix.close(lowest)
    limit = posix.sysconf(_SC_OPEN_MAX)
    if limit < 0 or (limit > _AMPLE and lowest + _DESCRIPTORS < limit // 2):  # -1: unlimited
        return
    count = len(posix.listdir("/proc/self/fd"))  # there may be gaps
    if count + _DESCRIPTORS > limit:
        raise StateError(
            f"too many open files: {count} are open, and RLIMIT_NOFILE is {limit}",
            hint=f"call it with fewer open files, or raise the limit to {count + _DESCRIPTORS} (ulimit -n)",
        )


def describe(record: Record, request: Request) -> None:
    """Note in a record what config.json says of the container."""
    config = request.config
    record.bundle = request.bundle
    record.oci_version = config["ociVersion"]
    record.annotations = config.get("annotations") or {}
    record.rootfs = request.rootfs()
    record.private_pid = request.has_new("pid")
    if not request.new_keyring:
        record.extra["no_new_keyring"] = True  # for `exec`
    if not request.namespace("mount")[0]:
        # An engine may have mounted the rootfs: that is not ours to take away.
        from pyruntime.features.rootfs import host_mounts  # few containers have none

        record.extra["foreign_mounts"] = host_mounts.count(record.rootfs)
        record.host_mounts = record.rootfs
    record.hooks = {
        kind: list for kind, list in (config.get("hooks") or {}).items() if kind in ("poststart", "poststop") and list
    }


def start(record: Record, log: Log) -> None:
    """Let init become the user's process, and run the poststart hooks.

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
            exec_fifo.open_gate(record)
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
            execute([step], HookActor(record))
        except HookError as error:
            # Up to 1.2 a failing poststart hook is a warning, from 1.3.0 on the container is stopped.
            if version.of_spec(record.oci_version) >= (1, 3):
                kill_all(record)
                raise
            log.warning(str(error))


def kill(record: Record, signal: int, *, everything: bool = False) -> None:
    """Send a signal to init, or with everything to all processes. Raises StateError when init is not running.

    SIGKILL is for all of a container without a pid namespace of its own, as the kernel does it for one with; then,
    and with everything, it is no error that init is gone while the cgroup is there."""
    everything = everything or (signal == _SIGKILL and not record.private_pid)
    unknown = None
    try:
        reached = _signal_init(record, signal)
    except Unknown as error:
        if not everything:
            raise
        reached, unknown = False, error  # if it is alive, it is in the cgroup
    if not reached and not everything:
        raise StateError(f"container not running: {record.id} is stopped")
    if not everything and signal != _SIGKILL:
        return
    from pyruntime.cgroupfs import kill as cgroup_kill
    from pyruntime.state import cgroup_identity

    # With a pid namespace of its own nothing outlives init: who is in the cgroup came later.
    cgroups = cgroup_identity.own(record) if reached or unknown is not None or not record.private_pid else {}
    if not everything:
        cgroup_kill.thaw_for_death(cgroups)
        return
    if not reached and not cgroups:
        raise StateError(f"container not running: {record.id} is stopped")
    if cgroup_kill.signal_all(cgroups, signal, but=record.pid if reached else 0) == 0 and unknown is not None:
        raise unknown


def _signal_init(record: Record, signal: int) -> bool:
    """Send a signal to init: whether it was there to get it."""
    pidfd = open_init(record)
    if pidfd < 0:
        return False
    lock = -1
    try:
        if signal in _FATAL and record.private_pid and waits_for_start(record):
            lock = _try_lock(record)
            # As the first of its pid namespace it does not get a signal that it does not handle. The program that
            # would handle it has not begun; the lock keeps it from beginning now.
            if lock >= 0 and status_of(record) == "created":
                signal = _SIGKILL
        send_signal(pidfd, signal)
    except ProcessLookupError:
        return False
    finally:
        posix.close(pidfd)
        if lock >= 0:
            posix.close(lock)
    return True


def _try_lock(record: Record) -> int:
    """Take the container's lock if it is free: -1 if not."""
    try:
        return store.lock(record.directory, record.id, 0)
    except (Busy, NotFound):
        return -1


def kill_all(record: Record) -> str:
    """Kill all processes of the container, and wait until they are dead. Raises StateError.

    Those of a pid namespace of its own die with init; once that is gone, whoever is in the cgroup came later.
    Gives back why init cannot be reaped yet, "" if it is gone (runtime/await_death.py)."""
    from pyruntime.cgroupfs import kill as cgroup_kill
    from pyruntime.state import cgroup_identity

    unknown = None
    try:
        pidfd = open_init(record)
    except Unknown as error:
        pidfd, unknown = -1, error
    cgroups = cgroup_identity.own(record)
    try:
        if pidfd >= 0:
            try:
                send_signal(pidfd, _SIGKILL)
            except ProcessLookupError:
                pass  # it dies by itself at this moment
        # Not for init only: an exec's child is in the cgroup before it is in the pid namespace (runtime/exec.py), and
        # ends by itself once that is gone, unless it is frozen.
        cgroup_kill.thaw(cgroups)
        # Without a pid: what a `restore` that was killed has left.
        if not record.private_pid or not record.pid or unknown is not None:
            cgroup_kill.kill_all(cgroups)
        if unknown is not None:
            _require_dead(record)
        if pidfd >= 0:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(_QUICK_DEATH_SECONDS * 1000):
                from pyruntime.runtime import await_death

                return await_death.await_death(record, poll, _DEATH_SECONDS)
        return ""
    finally:
        if pidfd >= 0:
            posix.close(pidfd)


def _require_dead(record: Record) -> None:
    """After everything in the cgroups was killed: raise Unknown unless init is seen to be gone."""
    deadline = time.monotonic() + _FAIR_SECONDS
    while True:
        try:
            pidfd = open_init(record)
        except Unknown:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if pidfd < 0:
            return
        posix.close(pidfd)
        raise StateError(f"container {record.id}: init (pid {record.pid}) is alive again", hint="delete again")


def delete_by_id(root: str, id: ContainerId, *, force: bool, log: Log) -> None:
    """Remove the container of this name, as `delete`. With force one that does not exist is no error, and of one whose
    record is missing or damaged goes what can be read of it."""
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
    """Destroy a container whose making has failed; its lock is held. What cannot be undone is told with the error that
    it failed with."""
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


def _run_poststop(record: Record, log: Log) -> None:
    """Run the poststop hooks. One that fails is a warning, and the next one runs.

    Each is noted before it is begun: should this command be killed, the next `delete` goes on from there. One that
    was broken off is tried once more, and not again: it may hang, and the container must go."""
    from pyruntime.features import hooks

    steps = list(hooks.plan_poststop(record.hooks))
    tries: list[int] = record.extra.get("poststop") or [0] * len(steps)
    record.extra["poststop"] = tries
    # Gone by now; by the time of another `delete` these may be somebody else's.
    record.cgroups, record.host_mounts = {}, ""
    for name in ("rdt", "rdt_monitor"):
        record.extra.pop(name, None)
    for number, step in enumerate(steps):
        if tries[number] >= _TRIES:
            log.warning(f"poststop hook #{number} was broken off twice: it is not run again")
        if tries[number] not in range(_TRIES):
            continue
        tries[number] += 1
        try:
            record.save()
        except OSError:
            pass  # no space: at worst it runs once more
        try:
            execute([step], HookActor(record))
        except HookError as error:
            log.warning(str(error))
        tries[number] = _DONE


def destroy(record: Record, log: Log) -> None:
    """Undo everything that the record says may exist, and run the poststop hooks. What is not there is no error.

    The record goes last: whoever is killed meanwhile leaves it to the next `delete`."""
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
