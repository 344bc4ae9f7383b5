"""Preforked children: plan a container before Create is received, or a process before Start.

The bundle is complete when containerd calls `start`, and Create follows later; Exec brings the process, and Start
follows. Meanwhile a preforked child reads, checks and plans, without side effects. It serves one container or
process. If config.json changes, or no request arrives within 30 s, its plan is discarded.
"""

from __future__ import annotations

import _socket

from pyruntime.shim.event_loop import Loop, close
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.shim.message_types import Mount

_FD_SIZE = 4
_MAX_PACKET = 1 << 17
SECONDS = 30.0


class Prefork:
    """A preforked child, as seen from the shim.

    pid: of the child. reading: descriptor for its result, -1 once it is cancelled."""

    def __init__(self, loop: Loop, pid: int, reading: int, socket: _socket.socket) -> None:
        self.pid = pid
        self.reading = reading
        self._socket = socket
        self._timer = loop.later(SECONDS, self.cancel)

    def send(self, mounts: list[Mount], stdio: tuple[int, ...], console: int) -> bool:
        """Send the request: mounts, streams and console (-1 for none). Return False if the child cannot serve it."""
        if self.reading < 0:
            return False
        self._timer.cancel()
        fds = [*stdio, console] if console >= 0 else list(stdio)
        data = fastjson.dumps({"mounts": mounts, "streams": len(stdio)}).encode("utf-8", "surrogateescape")
        if len(data) > _MAX_PACKET:  # `receive` would truncate it
            return False
        packed = b"".join(fd.to_bytes(_FD_SIZE, "little") for fd in fds)
        try:
            self._socket.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)], _socket.MSG_NOSIGNAL)
        except OSError:
            return False
        finally:
            self._socket.close()
        return True

    def cancel(self) -> None:
        """Close the socket, upon which the child exits."""
        self._timer.cancel()
        self._socket.close()
        self.reading = close(self.reading)


def pair() -> tuple[_socket.socket, _socket.socket]:
    """Return a socket pair: the end of the shim and that of the child."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def receive(fd: int) -> tuple[list[Mount], tuple[int, ...], int] | None:
    """Wait in the child for the request. Return (mounts, streams, console or -1), None if it was cancelled."""
    socket = _socket.socket(fileno=fd)
    data, ancillary, _, _ = socket.recvmsg(_MAX_PACKET, _socket.CMSG_SPACE(4 * _FD_SIZE), _socket.MSG_CMSG_CLOEXEC)
    socket.detach()
    if not data:
        return None
    request = fastjson.loads(data.decode("utf-8", "surrogateescape"))
    fds = [
        int.from_bytes(packed[at : at + _FD_SIZE], "little")
        for level, kind, packed in ancillary
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS
        for at in range(0, len(packed) - len(packed) % _FD_SIZE, _FD_SIZE)
    ]
    count = request["streams"]
    return request["mounts"], tuple(fds[:count]), fds[count] if len(fds) > count else -1
