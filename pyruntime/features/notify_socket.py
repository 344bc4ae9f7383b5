"""NOTIFY_SOCKET: what the container tells of its readiness goes on to the caller's service manager (sd_notify(3)).

The caller's socket is never the container's. In ROOT/ID/notify, which the container sees read-only as
/run/notify, `start` and `run` listen, and pass on the one line that counts, READY=1.
"""

from __future__ import annotations

import _socket
import posix
import select

from pyruntime.commands.foreground import Source
from pyruntime.errors import StepError
from pyruntime.plan.step import Step
from pyruntime.state.status import open_init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyruntime.plan.request import Request
    from pyruntime.state.store import Record

VARIABLE = b"NOTIFY_SOCKET"
_DIRECTORY = "notify"
_NAME = "notify.sock"
_INSIDE = "/run/notify"
_O_PATH = 0o10000000
_DATAGRAM = 4096
_BARRIER_MS = 30_000  # as sd_notify_barrier's callers have it


def caller() -> bytes:
    """The caller's socket, b"" when there is none."""
    return posix.environ.get(VARIABLE, b"")


def listen(record: Record, warn: Callable[[str], None]) -> NotifySocket | None:
    """Make the container's socket. None, with a warning, when nothing listens at the caller's: then there is nobody to
    pass a message on to, and nothing to wait for."""
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


def show(request: Request, root: str) -> None:
    """Let a container see the directory, and its process know of the socket in it."""
    request.config["mounts"] = [
        *(request.config.get("mounts") or ()),
        {
            "destination": _INSIDE,
            "type": "bind",
            "source": f"{root}/{request.id}/{_DIRECTORY}",
            "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
        },
    ]
    if request.process:
        request.process["env"] = [*(request.process.get("env") or ()), f"NOTIFY_SOCKET={_INSIDE}/{_NAME}"]
    request.notify = True


def plan(request: Request) -> Iterator[Step]:
    """PREPARE: the directory is there before it is mounted."""
    if request.notify:
        yield Step("", make_directory)


def make_directory(parent: Any) -> None:
    """make the directory of the notify socket"""
    posix.mkdir(parent.record.path(_DIRECTORY), 0o755)


class NotifySocket(Source):
    """The socket that the container writes to; to be made before its process runs.

    main_pid: the pid that the service manager is told of."""

    def __init__(self, record: Record) -> None:
        self.main_pid = 0
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        directory = posix.open(record.path(_DIRECTORY), _O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            # Not by its own path, which may be longer than sun_path (unix(7)).
            self.socket.bind(f"/proc/self/fd/{directory}/{_NAME}")
            posix.chmod(_NAME, 0o777, dir_fd=directory)
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
    """Tell the service manager, and if we leave, wait until it has taken notice of us. Raises StepError."""
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
        poll.register(read_end, 0)  # POLLHUP, always told: the manager has closed its copy
        poll.poll(_BARRIER_MS)
    except OSError as error:
        raise StepError(
            f"tell NOTIFY_SOCKET that the container is ready: {error.strerror}",
            why="it has no listener any more",
        ) from None
    finally:
        if socket is not None:
            socket.close()
        posix.close(read_end)
        if write_end >= 0:
            posix.close(write_end)
