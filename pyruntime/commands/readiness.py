"""The container's readiness (sd_notify(3)): `start` and `run` pass READY=1 on to the caller's service manager.

Of what the container sends to its notify socket (features/notify_socket.py) only that line is passed on.
"""

from __future__ import annotations

import _socket
import posix
import select

from pyruntime.commands.foreground import Source
from pyruntime.errors import StepError
from pyruntime.features.notify_socket import DIRECTORY, NAME
from pyruntime.kernel.constants import O_PATH
from pyruntime.state.status import open_init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime.state.store import Record

_DATAGRAM = 4096
_BARRIER_MS = 30_000  # as sd_notify_barrier's callers have it


def caller() -> bytes:
    """Return the caller's socket, b"" when there is none."""
    return posix.environ.get(b"NOTIFY_SOCKET", b"")


def listen(record: Record, warn: Callable[[str], None]) -> NotifySocket | None:
    """Make the container's socket. None, with a warning, when the caller's socket has no listener:
    then a message cannot be passed on, and there is nothing to wait for."""
    address = caller()
    try:
        _connected(address).close()
    except OSError as error:
        shown = address.decode("utf-8", "replace")
        warn(f"NOTIFY_SOCKET {shown}: {error.strerror or error}: the container's READY=1 is not passed on")
        return None
    return NotifySocket(record)


def _connected(address: bytes) -> _socket.socket:
    """Return a socket that is connected to a service manager's. Raises OSError."""
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        socket.connect(b"\0" + address[1:] if address.startswith(b"@") else address)
    except OSError:
        socket.close()
        raise
    return socket


class NotifySocket(Source):
    """The socket that the container writes to; to be made before its process runs.

    main_pid: the pid that is reported to the service manager."""

    def __init__(self, record: Record) -> None:
        self.main_pid = 0
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        directory = posix.open(record.path(DIRECTORY), O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            # Not by its own path, which may be longer than sun_path (unix(7)).
            self.socket.bind(f"/proc/self/fd/{directory}/{NAME}")
            posix.chmod(NAME, 0o777, dir_fd=directory)
        finally:
            posix.close(directory)
        self.waiting = True

    def register(self, poll: select.poll) -> None:
        """Wait until the container is ready, and no longer."""
        if self.waiting:
            poll.register(self.socket.fileno(), select.POLLIN)
        elif self.socket.fileno() >= 0:
            poll.unregister(self.socket.fileno())
            self.socket.close()

    def serve(self, fd: int, events: int) -> None:
        """Pass a message on if it is the one."""
        if self.waiting and fd == self.socket.fileno():
            ready = _ready_line(self.socket.recv(_DATAGRAM))
            if ready:
                self.waiting = False
                _tell(caller(), ready, self.main_pid)

    def wait(self, record: Record) -> None:
        """Wait until the container is ready, or its init has ended."""
        pidfd = open_init(record)
        if pidfd < 0:
            return
        self.main_pid = record.pid
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while self.waiting:
            self.register(poll)
            for fd, events in poll.poll():
                if fd == pidfd:
                    self.waiting = False
                else:
                    self.serve(fd, events)
        posix.close(pidfd)


def _ready_line(data: bytes) -> bytes:
    return next((line for line in data.split(b"\n") if line.startswith(b"READY=")), b"")


def _tell(address: bytes, ready: bytes, main_pid: int) -> None:
    """Notify the service manager, and if this process exits, wait until it has read the message. Raises StepError."""
    socket = None
    read_end, write_end = posix.pipe2(posix.O_CLOEXEC)
    try:
        socket = _connected(address)
        socket.send(ready + b"\n")
        socket.send(b"MAINPID=%d\n" % main_pid)
        if main_pid == posix.getpid():
            return
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, write_end.to_bytes(4, "little"))
        socket.sendmsg([b"BARRIER=1"], [rights], _socket.MSG_NOSIGNAL)
        posix.close(write_end)
        write_end = -1
        poll = select.poll()
        poll.register(read_end, 0)  # POLLHUP, always reported: the manager has closed its copy
        poll.poll(_BARRIER_MS)
    except OSError as error:
        raise StepError(
            f"cannot notify NOTIFY_SOCKET that the container is ready: {error.strerror}",
            why="it has no listener any more",
        ) from None
    finally:
        if socket is not None:
            socket.close()
        posix.close(read_end)
        if write_end >= 0:
            posix.close(write_end)
