"""A child that plans a container before it is asked for, and creates it as soon as it is.

Between the shim's `start` and the request Create containerd is busy with other things, and the bundle is complete. The
child does what needs no rootfs and leaves no trace: it reads and checks config.json, and plans. It belongs to that one
container, and makes nothing before the word comes; if config.json or an option is another one by then, or no word comes
within 30 s, the work was in vain.
"""

from __future__ import annotations

import _socket

from pyruntime import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.operations import Settings

_FD_SIZE = 4
_MAX_PACKET = 1 << 17
SECONDS = 30.0


class Spare:
    """The shim's end of it.

    id, bundle, chosen: what container it is for, and with what options. pid: the child's. reading: where its answer
    will be read."""

    def __init__(
        self,
        id: str,
        bundle: str,
        settings: Settings,
        chosen: dict[str, Any],
        pid: int,
        reading: int,
        socket: _socket.socket,
    ) -> None:
        self.id = id
        self.bundle = bundle
        self.settings = settings
        self.chosen = chosen
        self.pid = pid
        self.reading = reading
        self._socket = socket

    def fits(self, id: str, bundle: str, chosen: dict[str, Any]) -> bool:
        """Whether it is for this container."""
        return (self.id, self.bundle, self.chosen) == (id, bundle, chosen)

    def tell(self, mounts: list[dict[str, Any]], stdio: tuple[int, ...], console: int) -> bool:
        """Give the word, with what was not known before; False when nobody is there to hear it."""
        fds = [*stdio, console] if console >= 0 else list(stdio)
        data = fastjson.dumps({"mounts": mounts, "streams": len(stdio)}).encode("utf-8", "surrogateescape")
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
        self._socket.close()


def pair() -> tuple[_socket.socket, _socket.socket]:
    """The shim's and the child's end."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def receive(fd: int) -> tuple[list[dict[str, Any]], tuple[int, ...], int] | None:
    """Wait in the child for the word: (mounts, streams, console or -1); None when there is none."""
    socket = _socket.socket(fileno=fd)
    data, ancillary, _, _ = socket.recvmsg(_MAX_PACKET, _socket.CMSG_SPACE(4 * _FD_SIZE), _socket.MSG_CMSG_CLOEXEC)
    socket.detach()
    if not data:
        return None
    told: Any = fastjson.loads(data.decode("utf-8", "surrogateescape"))
    fds = [
        int.from_bytes(packed[at : at + _FD_SIZE], "little")
        for level, kind, packed in ancillary
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS
        for at in range(0, len(packed) - len(packed) % _FD_SIZE, _FD_SIZE)
    ]
    count = told["streams"]
    return told["mounts"], tuple(fds[:count]), fds[count] if len(fds) > count else -1
