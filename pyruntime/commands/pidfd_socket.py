"""--pidfd-socket: send a pidfd of the process to a unix socket (SCM_RIGHTS)."""

from __future__ import annotations

import _socket

from pyruntime.errors import StepError, strerror


def connect(path: str) -> _socket.socket | None:
    """Connect, before anything is made; None without a path. Raises StepError."""
    if not path:
        return None
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        socket.connect(path)
    except OSError as error:
        socket.close()
        raise StepError(
            f"connect to pidfd socket {path}: {strerror(error.errno)}", hint="listen on it before calling pyruntime"
        ) from None
    return socket


def send(socket: _socket.socket, pidfd: int, name: str) -> None:
    """Send a pidfd and close the connection; name is "standard" for init, "setns" for exec, like runc."""
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pidfd.to_bytes(4, "little"))
    try:
        socket.sendmsg([name.encode()], [rights], _socket.MSG_NOSIGNAL)
    except OSError as error:
        raise StepError(f"send the pidfd: {strerror(error.errno)}") from None
    finally:
        socket.close()
