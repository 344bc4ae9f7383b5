"""Init for a pid namespace in which other containers' processes are: it stays outside (spawn.py).

It is cloned without namespaces and makes or joins them itself, since a clone would be in the pid namespace already.
Of the pid namespace it needs only one thing, a proc filesystem that shows it. Linux 6.17 makes that from outside
(proc(5), "pidns="). Before, it takes a process inside: one that has an empty root, no descriptors, none of the
runtime's memory, and only CAP_SYS_ADMIN, for the one call that opens the filesystem.
"""

from __future__ import annotations

import posix

from pyruntime.errors import KernelError, PyruntimeError, StepError, from_json, from_oserror
from pyruntime.features.cgroups import place
from pyruntime.features.namespaces import namespaces
from pyruntime.kernel import files, mount, process
from pyruntime.kernel.constants import CAP_SYS_ADMIN, CLONE_NEWPID, EINVAL, EPERM, PR_SET_DUMPABLE
from pyruntime.kernel.filter import take_descriptor
from pyruntime.runtime import joining
from pyruntime.runtime import parent as parents
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.runtime.parent import Parent


def clone(parent: Parent) -> tuple[int, int]:
    """Clone init, in all its namespaces but the pid namespace: (pid, pidfd), (0, -1) in init.

    parent.proc_contexts, in init, are those of its proc mounts, in order. Raises PyruntimeError."""
    read_end, write_end = posix.pipe2(posix.O_CLOEXEC)
    pid, pidfd = place.clone(parent, 0)
    if pid == 0:
        posix.close(read_end)
        try:
            _enter(parent)
        except BaseException as error:
            failure = error if isinstance(error, PyruntimeError) else _failure(error)
            posix.write(write_end, fastjson.dumps(failure.to_json()).encode("utf-8", "surrogateescape"))
            posix._exit(1)
        posix.close(write_end)
        return 0, -1
    posix.close(write_end)
    parent.pid, parent.pidfd = pid, pidfd
    try:
        answer = joining.read_answer(read_end, pid, "to join the namespaces")
    except BaseException:
        parents.end_init(parent)
        raise
    finally:
        posix.close(read_end)
    if answer:
        parents.end_init(parent, grace=1000)
        raise from_json(fastjson.loads(answer.decode("utf-8", "surrogateescape")))
    return pid, pidfd


def _failure(error: BaseException) -> PyruntimeError:
    if isinstance(error, OSError):
        return from_oserror(error, doing="join the container's namespaces")
    return StepError(f"bug in pyruntime's init: {type(error).__name__}: {error}")


def _enter(parent: Parent) -> None:
    """In init: the namespaces by path, then new ones."""
    found = parent.plan.namespaces
    # Those that the user namespace does not own can be joined before it only, and with too few rights those that it
    # owns after it only. Then that is true of a proc filesystem, too.
    deferred: list[tuple[str, str, str]] = []
    opened = _open_contexts(parent, may_fail=found.user is not None)
    ways_back = joining.join_around(parent, None if found.user is None else deferred)
    if found.user is not None:
        joining.join_user(parent)
    if found.new:
        process.unshare(found.new)
    if not opened:  # a mount namespace of the user namespace's is what gives the right to
        _open_contexts(parent, may_fail=False)
    for fd, _ in ways_back + joining.join(parent, deferred):
        posix.close(fd)


def _open_contexts(parent: Parent, *, may_fail: bool) -> bool:
    """Open what the proc mounts need. False when this process has no right to, if that may be."""
    pointer, kind, path = next(one for one in parent.plan.namespaces.around if one[1] == "pid")
    count = sum(1 for entry in parent.request.config.get("mounts") or () if entry.get("type") == "proc")
    try:
        fd = namespaces.open_namespace(kind, path)
        try:
            parent.proc_contexts += [_open_proc(fd) for _ in range(count)]
        finally:
            posix.close(fd)
    except OSError as error:
        if may_fail and error.errno == EPERM:
            return False
        raise from_oserror(error, doing=f"join the pid namespace {path}", pointer=pointer) from error
    except PyruntimeError as error:
        error.pointer = error.pointer or pointer
        raise
    return True


def _open_proc(namespace: int) -> int:
    """fsopen(2) of a proc filesystem that shows a pid namespace: a descriptor of its context."""
    try:
        return mount.open_proc(namespace)
    except KernelError as error:
        if error.errno != EINVAL:
            raise
    read_end, write_end = posix.pipe2(posix.O_CLOEXEC)
    held, released = posix.pipe2(posix.O_CLOEXEC)
    pid, pidfd = process.clone(0)
    if pid == 0:
        try:
            _open_proc_inside(namespace, write_end, held)
        finally:
            posix._exit(1)
    posix.close(write_end)
    posix.close(held)
    try:
        number = joining.read_answer(read_end, pid, "to open a proc filesystem")
        if not number.isdigit():
            raise StepError("cannot open a proc filesystem in the pid namespace", errno="EPERM")
        return take_descriptor(pidfd, int(number))
    finally:
        for fd in (read_end, released, pidfd):
            posix.close(fd)
        posix.waitpid(pid, 0)


def _open_proc_inside(namespace: int, answer: int, held: int) -> None:
    """Report the number of the descriptor, and keep it open until the other end of `held` is closed."""
    files.close_all_but([namespace, answer, held], 0)
    root = mount.new_filesystem("tmpfs", "none", [], 0)
    posix.fchdir(root)
    posix.chroot(".")
    posix.close(root)
    process.setns(namespace, CLONE_NEWPID)
    posix.close(namespace)
    # For its parent, which may have no rights over the user namespace that this memory belongs to.
    process.prctl(PR_SET_DUMPABLE, 1)
    process.set_capabilities(1 << CAP_SYS_ADMIN, 1 << CAP_SYS_ADMIN, 0)
    posix.write(answer, b"%d" % mount.open_filesystem_in_child("proc"))
    posix.close(answer)
    posix.read(held, 1)
