"""Namespaces that must be entered before init is cloned, or from which it must be cloned."""

from __future__ import annotations

import posix
import select

from pyruntime import runtime
from pyruntime.errors import KernelError, PyruntimeError, StepError, from_json, from_oserror
from pyruntime.features.cgroups import place
from pyruntime.features.namespaces import namespaces
from pyruntime.features.namespaces.namespaces import KINDS
from pyruntime.features.process import user
from pyruntime.kernel import process
from pyruntime.kernel.constants import CLONE_NEWTIME, CLONE_NEWUSER, CLONE_PARENT, EPERM, SIGKILL
from pyruntime.kernel.pidfd import send_signal
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.runtime.parent import Parent
    from pyruntime.spec.sections import TimeOffset


def join_around(parent: Parent, deferred: list[tuple[str, str, str]] | None = None) -> list[tuple[int, int]]:
    """Enter the namespaces that init must be cloned into: [(descriptor to go back by, flag)].

    deferred: gets those that this process may not enter; without it they are an error."""
    return join(parent, parent.plan.namespaces.around, deferred)


def join_user(parent: Parent) -> None:
    """Enter the user namespace by path, and become its root."""
    assert parent.plan.namespaces.user is not None
    pointer, kind, path = parent.plan.namespaces.user
    try:
        fd = namespaces.open_namespace(kind, path)
        process.setns(fd, CLONE_NEWUSER, path)
        posix.close(fd)
        user.become_root()
    except OSError as error:
        raise from_oserror(error, doing=f"join the user namespace {path}", pointer=pointer) from error
    except PyruntimeError as error:
        error.pointer = error.pointer or pointer
        raise


def join(
    parent: Parent, entries: list[tuple[str, str, str]], deferred: list[tuple[str, str, str]] | None = None
) -> list[tuple[int, int]]:
    """Return `join_around` for some entries of the plan's namespaces."""
    own: list[tuple[int, int]] = []
    for pointer, kind, path in entries:
        flag, name = KINDS[kind]
        here = posix.open(f"/proc/self/ns/{name}", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            if path:
                fd = namespaces.open_namespace(kind, path)
                process.setns(fd, flag, path)
                posix.close(fd)
            else:
                process.unshare(CLONE_NEWTIME)
            own.append((here, flag))
            here = -1
            if not path:
                _write_time_offsets(parent.request.linux.get("timeOffsets") or {})
        except BaseException as error:
            if here >= 0:  # where we still are: an ordinary user may not even enter that again
                posix.close(here)
            if deferred is not None and isinstance(error, KernelError) and error.errno == EPERM:
                deferred.append((pointer, kind, path))
                continue
            go_back(own)
            if isinstance(error, OSError):
                doing = f"join the {kind} namespace {path}" if path else f"make the {kind} namespace"
                raise from_oserror(error, doing=doing, pointer=pointer) from error
            if isinstance(error, PyruntimeError):
                error.pointer = error.pointer or pointer
            raise
    return own


def go_back(own: list[tuple[int, int]]) -> None:
    """Leave the namespaces that `join_around` has entered."""
    for fd, flag in own:
        process.setns(fd, flag)
        posix.close(fd)
    own.clear()


def _write_time_offsets(offsets: dict[str, TimeOffset]) -> None:
    """time_namespaces(7): only before the first process is in the namespace."""
    lines = "".join(
        f"{clock} {value.get('secs') or 0} {value.get('nanosecs') or 0}\n" for clock, value in offsets.items()
    )
    if lines:
        fd = posix.open("/proc/self/timens_offsets", posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, lines.encode())
        finally:
            posix.close(fd)


def clone_in_user_namespace(parent: Parent) -> tuple[int, int]:
    """Clone init from a process that has joined the user namespace, so that it owns init's namespaces.

    init is the parent's child all the same (CLONE_PARENT). Gives back (0, -1) in init."""
    found = parent.plan.namespaces
    assert found.user is not None
    pointer, _, path = found.user
    read_end, write_end = posix.pipe2(posix.O_CLOEXEC)
    # Into the cgroup already here: once in the user namespace it would have no right to.
    middle, middle_fd = place.clone(parent, 0)
    if middle == 0:
        try:
            posix.close(read_end)
            # Those that the user namespace does not own can be joined before it only, and with too few rights those
            # that it owns after it only.
            deferred: list[tuple[str, str, str]] = []
            join_around(parent, deferred)
            join_user(parent)
            join(parent, deferred)
            pid, _ = process.clone(found.new | CLONE_PARENT, exit_signal=0)
            if pid == 0:
                posix.close(write_end)
                return 0, -1
            posix.write(write_end, b"%d" % pid)
        except PyruntimeError as error:
            error.pointer = error.pointer or pointer
            posix.write(write_end, fastjson.dumps(error.to_json()).encode())
        except OSError as error:
            failure = from_oserror(error, doing=f"join the user namespace {path}", pointer=pointer)
            posix.write(write_end, fastjson.dumps(failure.to_json()).encode())
        except BaseException:
            posix._exit(1)  # it must not climb into the parent's undoing
        posix._exit(0)
    posix.close(write_end)
    answer = end_middle(middle, middle_fd, read_end)
    if not answer.isdigit():
        raise from_json(fastjson.loads(answer.decode()) if answer else {})
    pid = int(answer)
    try:
        return pid, posix.pidfd_open(pid)
    except OSError:
        posix.kill(pid, SIGKILL)  # our child, not reaped yet: the pid cannot have been reused
        posix.waitpid(pid, 0)
        raise


def read_answer(read_end: int, pid: int, doing: str) -> bytes:
    """Read what a process writes to a pipe, b"" for an end. Raises StepError when it is stuck."""
    await_descriptor(read_end, select.POLLIN, pid, doing)
    return posix.read(read_end, 1 << 16)


def end_middle(pid: int, pidfd: int, read_end: int) -> bytes:
    """Read what an intermediate process reports, and reap it. Raises StepError when it makes no progress."""
    try:
        answer = read_answer(read_end, pid, "to join the namespaces")
        await_descriptor(pidfd, select.POLLIN, pid, "to end the process in the middle")
    except StepError:
        send_signal(pidfd, SIGKILL)
        raise
    finally:
        posix.close(read_end)
        posix.close(pidfd)
    posix.waitpid(pid, 0)
    return answer


def await_descriptor(fd: int, event: int, pid: int, doing: str) -> None:
    """Wait until a descriptor is ready. Raises StepError when the process that it depends on makes no progress."""
    poll = select.poll()
    poll.register(fd, event)
    if not poll.poll(runtime.PATIENCE * 1000):
        from pyruntime.runtime import stall

        stall.wait(poll, stall.Watch(pid, doing))
