"""Receive the terminal master from init over a socket pair."""

from __future__ import annotations

import _socket
import posix

from pyruntime.errors import StepError
from pyruntime.util.fileio import read_file

_LSM = ("/sys/fs/selinux/enforce", "/sys/module/apparmor/parameters/enabled")
_LABELS = ('"apparmorProfile"', '"selinuxLabel"')


def pair() -> tuple[_socket.socket, _socket.socket]:
    """Return a socket pair: the end of the shim and that of the child."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)


def receive(socket: _socket.socket) -> int:
    """Return the terminal master, which init sends before it opens the exec fifo. Raises StepError if missing."""
    socket.setblocking(False)
    try:
        _, ancillary, _, _ = socket.recvmsg(64, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        ancillary = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            return int.from_bytes(data[:4], "little")
    raise StepError("no terminal received from init")


def is_labelled(bundle: str) -> bool:
    """Return whether an LSM profile or label may deny the container access to the client's fifos (stdio.py)."""
    if not any(posix.access(path, posix.F_OK) for path in _LSM):
        return False
    text = read_file(f"{bundle}/config.json")
    return any(label in text for label in _LABELS)
