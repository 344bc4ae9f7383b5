"""How the shim gets a terminal's master from init: by a socket pair, not by a path."""

from __future__ import annotations

import _socket
import posix

from pyruntime.errors import StepError
from pyruntime.util.fileio import read_file

_LSM = ("/sys/fs/selinux/enforce", "/sys/module/apparmor/parameters/enabled")
_LABELS = ('"apparmorProfile"', '"selinuxLabel"')


def pair() -> tuple[_socket.socket, _socket.socket]:
    """A socket pair: ours, and the one for the child."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)


def receive(socket: _socket.socket) -> int:
    """The master, which init has sent before it reached the gate. Raises StepError when there is none."""
    socket.setblocking(False)
    try:
        _, ancillary, _, _ = socket.recvmsg(64, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        ancillary = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            return int.from_bytes(data[:4], "little")
    raise StepError("the terminal has not come")


def is_labelled(bundle: str) -> bool:
    """Whether a security module may look at what the container's processes have open (stdio.py)."""
    if not any(posix.access(path, posix.F_OK) for path in _LSM):
        return False
    text = read_file(f"{bundle}/config.json")
    return any(label in text for label in _LABELS)
