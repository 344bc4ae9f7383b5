"""A child that plans what will be asked for next, and does it as soon as it is.

Between the shim's `start` and the request Create containerd is busy with other things, and the bundle is complete; so
it is between Exec, which brings the process, and Start. The child does what leaves no trace: it reads, checks and
plans. It belongs to that one container or process, and makes nothing before the word comes; if what it has read is
another by then, or no word comes within 30 s, the work was in vain.
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


class Spare:
    """The shim's end of it.

    pid: the child's. reading: where its answer will be read, -1 once it is dismissed."""

    def __init__(self, loop: Loop, pid: int, reading: int, socket: _socket.socket) -> None:
        self.pid = pid
        self.reading = reading
        self._socket = socket
        self._timer = loop.later(SECONDS, self.dismiss)

    def tell(self, mounts: list[Mount], stdio: tuple[int, ...], console: int) -> bool:
        """Give the word, with what was not known before; False when nobody is there to hear it."""
        if self.reading < 0:
            return False
        self._timer.cancel()
        fds = [*stdio, console] if console >= 0 else list(stdio)
        data = fastjson.dumps({"mounts": mounts, "streams": len(stdio)}).encode("utf-8", "surrogateescape")
        if len(data) > _MAX_PACKET:  # `receive` would get a part
            return False
        packed = b"".join(fd.to_bytes(_FD_SIZE, "little") for fd in fds)
        try:
            self._socket.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)], _socket.MSG_NOSIGNAL)
        except OSError:
            return False
        finally:
            self._socket.close()
        return True

    def dismiss(self) -> None:
        """There will be no word: the child ends by itself."""
        self._timer.cancel()
        self._socket.close()
        self.reading = close(self.reading)


def pair() -> tuple[_socket.socket, _socket.socket]:
    """The shim's and the child's end."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def receive(fd: int) -> tuple[list[Mount], tuple[int, ...], int] | None:
    """Wait in the child for the word: (mounts, streams, console or -1); None when there is none."""
    socket = _socket.socket(fileno=fd)
    data, ancillary, _, _ = socket.recvmsg(_MAX_PACKET, _socket.CMSG_SPACE(4 * _FD_SIZE), _socket.MSG_CMSG_CLOEXEC)
    socket.detach()
    if not data:
        return None
    told = fastjson.loads(data.decode("utf-8", "surrogateescape"))
    fds = [
        int.from_bytes(packed[at : at + _FD_SIZE], "little")
        for level, kind, packed in ancillary
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS
        for at in range(0, len(packed) - len(packed) % _FD_SIZE, _FD_SIZE)
    ]
    count = told["streams"]
    return told["mounts"], tuple(fds[:count]), fds[count] if len(fds) > count else -1
