"""The network namespace's first act: the loopback interface, up."""

from __future__ import annotations

import _socket
import fcntl

from pyruntime.kernel.constants import IFF_UP, SIOCGIFFLAGS, SIOCSIFFLAGS
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request

# struct ifreq of netdevice(7): a name of 16 bytes, then a union of 24 of which the flags are the first two.
_NAME_SIZE = 16
_REQUEST_SIZE = 40


def plan(request: Request) -> Iterator[Step]:
    """BUILD: in a new network namespace only; one joined by path is configured by its owner."""
    if request.has_new("network"):
        yield Step("/linux/namespaces", raise_loopback)


def raise_loopback(init: InitActor) -> None:
    """bring the loopback interface up"""
    socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        set_flags(socket.fileno(), "lo", IFF_UP)
    finally:
        socket.close()


def set_flags(fd: int, interface: str, flags: int) -> None:
    """Set flags (IFF_*) of an interface beside those that it has: netdevice(7), SIOCSIFFLAGS."""
    request = bytearray(interface.encode().ljust(_REQUEST_SIZE, b"\0"))
    fcntl.ioctl(fd, SIOCGIFFLAGS, request)
    now = int.from_bytes(request[_NAME_SIZE : _NAME_SIZE + 2], "little")
    request[_NAME_SIZE : _NAME_SIZE + 2] = (now | flags).to_bytes(2, "little")
    fcntl.ioctl(fd, SIOCSIFFLAGS, request)
