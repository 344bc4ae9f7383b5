"""The exec fifo, at which init waits for `start`.

init holds it open for reading and writing, from before the container's namespaces; `start` opens it for
writing, without waiting, and writes one byte. So nothing can hang, and no path or /proc is needed inside
the container to open the exec fifo:

* no reader (ENXIO) means that init is dead or already runs the user's program;
* once written, the fifo loses its last reader at the very moment of init's execve(2) (close-on-exec), or of
  its death: `start` sees POLLERR, and knows that the user's process really runs.

libcontainer does the opposite (init opens for writing, which waits for a reader): it has to poll a pidfd as well,
and to open the fifo late, through a /proc of the host. crun reads, like pyruntime.
"""

from __future__ import annotations

import posix
import select

from pyruntime import runtime
from pyruntime.errors import StateError, from_json
from pyruntime.kernel.constants import ENOENT, ENXIO, EPIPE
from pyruntime.state.store import FAILURE, FIFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.errors import PyruntimeError
    from pyruntime.state.store import Record

GO = b"0"
_LONGEST_FAILURE = 1 << 16  # bytes


def make(directory: str) -> tuple[int, int]:
    """Create the fifo and the file for init's error. Return their descriptors for init, close-on-exec."""
    posix.mkfifo(f"{directory}/{FIFO}", 0o600)
    fifo = posix.open(f"{directory}/{FIFO}", posix.O_RDWR | posix.O_CLOEXEC)
    failure = posix.open(
        f"{directory}/{FAILURE}", posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600
    )
    return fifo, failure


def wait(fifo: int) -> None:
    """Wait in init until `start` opens the exec fifo."""
    while posix.read(fifo, 1) != GO:
        pass


def release_init(record: Record) -> None:
    """Release init, and wait until it has become the user's process or has died.

    Raises StateError when no init waits, and init's own error when it could not become the user's process
    (a startContainer hook failed, execve(2) failed); StepError when it makes no progress."""
    fd = write_go(record)
    try:
        poll = select.poll()
        poll.register(fd, 0)  # POLLERR, "the last reader is gone", is always reported
        if not poll.poll(runtime.PATIENCE * 1000):
            from pyruntime.runtime import stall  # such a long wait is for a hook, or for something stuck

            stall.wait(poll, stall.Watch(record.pid, "to become the user's program"))
    finally:
        posix.close(fd)
    conclude(record)


def write_go(record: Record) -> int:
    """Release init. Return a descriptor that polls POLLERR once it has become the user's process or has died.

    Raises StateError when no init waits."""
    try:
        fd = posix.open(record.path(FIFO), posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError as error:
        if error.errno in (ENOENT, ENXIO):
            raise _gone(record) from None
        raise
    try:
        posix.write(fd, GO)
    except OSError as error:
        posix.close(fd)
        if error.errno == EPIPE:
            raise _gone(record) from None
        raise
    return fd


def _gone(record: Record) -> StateError:
    return StateError(
        f"cannot start container {record.id}: its init is gone",
        why="it was killed before start, or start was called before",
        hint=f"pyruntime delete {record.id}",
    )


def conclude(record: Record) -> None:
    """Remove the exec fifo that init has passed. Raises init's error when it could not become the user's process."""
    text = _read_failure(record)
    posix.unlink(record.path(FIFO))
    if not text:
        return
    from pyruntime.util import fastjson

    try:
        fields = fastjson.loads(text)
        if "execve" in fields:
            from pyruntime.features.process import program

            error: PyruntimeError = program.not_executed(fields["execve"], int(fields["errno"]))
        else:
            error = from_json(fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StateError(f"container {record.id}: {record.path(FAILURE)} cannot be read: {text[:80]!r}") from None
    raise error


def _read_failure(record: Record) -> str:
    """Return the failure file, as far as init writes: in a shared pid namespace others may have written to it too."""
    fd = posix.open(record.path(FAILURE), posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, _LONGEST_FAILURE).decode("utf-8", "surrogateescape")
    finally:
        posix.close(fd)
