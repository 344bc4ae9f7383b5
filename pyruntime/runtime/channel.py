"""The sync socket between the parent and init: one JSON object a packet, descriptors beside it.

AF_UNIX SOCK_SEQPACKET, so that a packet is a message and an end is an end. The names of the messages are
libcontainer's; docs/handshake.md has their order and fields.
"""

from __future__ import annotations

import _socket
import posix
import sys

from pyruntime import runtime
from pyruntime.errors import PyruntimeError, StepError, from_json
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

READY = "procReady"
RUN = "procRun"
HOOKS = "procHooks"
HOOKS_DONE = "procHooksDone"
MOUNT_PLEASE = "procMountPlease"
MOUNT_FD = "procMountFd"
SECCOMP = "procSeccomp"
SECCOMP_DONE = "procSeccompDone"
ERROR = "procError"
WAITING = "procWaiting"  # ours: init waits at the exec fifo, so the EOF that follows is not its death
SPAWN = "procSpawn"  # ours: the process that executes the program is being cloned, and waits for procRun
LOG = "procLog"  # ours: [level, text] for the log; init has no other way to it

MAX_PACKET = 64 * 1024
_FD_SIZE = 4
_MAX_FDS = 8


class Channel:
    """One end of the sync socket.

    overdue: called whenever the other end has been silent for PATIENCE seconds; may raise."""

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self.overdue: Callable[[], None] | None = None

    def send(self, type: str, arg: object = None, fds: tuple[int, ...] = ()) -> None:
        """Send one message, with descriptors by SCM_RIGHTS. Raises OSError when the other end is gone."""
        message: dict[str, object] = {"type": type}
        if arg is not None:
            message["arg"] = arg
        data = fastjson.dumps(message).encode("utf-8", "surrogateescape")
        if not fds:
            # write(2): init sends its last messages under the container's seccomp filter, and that is the one
            # call no profile can hand to a listener (features/security/seccomp.py). Python ignores SIGPIPE.
            posix.write(self.socket.fileno(), data)
            return
        packed = b"".join(fd.to_bytes(_FD_SIZE, "little") for fd in fds)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]
        # MSG_NOSIGNAL: the end of the other side is an error to report, no reason to die.
        self.socket.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL)

    def receive(self) -> tuple[str, Any, list[int]]:
        """Return the next message: (type, arg, descriptors), close-on-exec; type "" when the other end is closed."""
        while True:
            try:
                data, ancillary, flags, _ = self.socket.recvmsg(
                    MAX_PACKET, _socket.CMSG_SPACE(_FD_SIZE * _MAX_FDS), _socket.MSG_CMSG_CLOEXEC
                )
                break
            except BlockingIOError:  # SO_RCVTIMEO
                if self.overdue is not None:
                    self.overdue()
        fds: list[int] = []
        for level, kind, packed in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                whole = len(packed) - len(packed) % _FD_SIZE
                fds += [int.from_bytes(packed[at : at + _FD_SIZE], "little") for at in range(0, whole, _FD_SIZE)]
        if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
            _close(fds)
            raise StepError("a message of the handshake was cut short")
        if not data:
            return "", None, fds
        try:
            message = fastjson.loads(data.decode("utf-8", "surrogateescape"))
            return message["type"], message.get("arg"), fds
        except (ValueError, KeyError, TypeError, AttributeError):
            _close(fds)
            raise StepError(f"a message of the handshake cannot be read: {data[:80]!r}") from None

    def expect(self, type: str) -> tuple[Any, list[int]]:
        """Return the next message, which must be of this type; raises what a `procError` carries."""
        found, arg, fds = self.receive()
        if found == type:
            return arg, fds
        if found == ERROR:
            raise from_json(arg)
        raise StepError(f"expected {type}, " + (f"got {found}" if found else "but the other end is gone"))

    def send_error(self, error: PyruntimeError) -> None:
        """Send what went wrong as `procError`."""
        fields = error.to_json()
        # A hook's words may be long; a packet has a limit.
        fields["message"] = error.message[: MAX_PACKET // 8]
        self.send(ERROR, fields)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close this end; the other reads an end."""
        self.socket.close()


def _close(fds: list[int]) -> None:
    for fd in fds:
        posix.close(fd)


def pair() -> tuple[Channel, Channel]:
    """Return a new sync socket: (the parent's end, init's end), close-on-exec.

    The parent's end waits for PATIENCE at a time; init's as long as there is a parent."""
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    left, right = _socket.socketpair(_socket.AF_UNIX, kind)
    seconds = int(runtime.PATIENCE)
    microseconds = int((runtime.PATIENCE - seconds) * 1e6)
    timeval = seconds.to_bytes(8, sys.byteorder) + microseconds.to_bytes(8, sys.byteorder)
    left.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, timeval)
    return Channel(left), Channel(right)
