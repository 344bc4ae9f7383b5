"""Seccomp's user notification: the listener and the container process state, to the socket of an agent.

runtime-spec config-linux.md, "The Container Process State".
"""

from __future__ import annotations

import _socket
import posix

from pyruntime.errors import StepError
from pyruntime.kernel.filter import take_descriptor
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.spec.sections import Seccomp

_FD_NAME = "seccompFd"  # runtime-spec: the name of the listener among `fds`
_FD_SIZE = 4


def forward(section: Seccomp, *, pid: int, pidfd: int, number: int, state: dict[str, object], oci_version: str) -> None:
    """Take the listener `number` out of the process and send it to linux.seccomp.listenerPath.

    pid is the container process as the runtime sees it; state is the container's state (runtime-spec
    runtime.md, "State"). Raises StepError when there is no listener."""
    path = section["listenerPath"]
    message = {
        "ociVersion": oci_version,
        "fds": [_FD_NAME],
        "pid": pid,
        "state": state,
    }
    if section.get("listenerMetadata"):
        message["metadata"] = section["listenerMetadata"]
    listener = take_descriptor(pidfd, number)
    try:
        _send(path, fastjson.dumps(message).encode("utf-8", "surrogateescape"), listener)
    except OSError as error:
        raise StepError(
            f"send the system call listener to {path}: {error.strerror}",
            pointer="/linux/seccomp/listenerPath",
            why="no agent listens on that socket",
            hint="start the agent before the container",
            step=f"send the system call listener to {path}",
        ) from error
    finally:
        posix.close(listener)


def _send(path: str, data: bytes, fd: int) -> None:
    """One message with a descriptor to a stream socket; the end of the stream is the end of the message."""
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        socket.connect(path)
        packed = fd.to_bytes(_FD_SIZE, "little")
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]
        sent = socket.sendmsg([data], rights, _socket.MSG_NOSIGNAL)
        while sent < len(data):
            sent += socket.send(data[sent:], _socket.MSG_NOSIGNAL)
    finally:
        socket.close()
