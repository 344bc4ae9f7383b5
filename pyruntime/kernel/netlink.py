"""rtnetlink(7), as far as moving a network device takes it: links and addresses."""

from __future__ import annotations

import _socket
import sys

from pyruntime.errors import KernelError
from pyruntime.kernel.constants import (
    EINTR,
    ENODEV,
    IFA_ADDRESS,
    IFA_BROADCAST,
    IFA_FLAGS,
    IFA_LOCAL,
    IFF_UP,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NLMSG_ERROR, _NLMSG_DONE = 2, 3

# linux/if_link.h, linux/if_addr.h
IFLA_IFNAME, IFLA_NET_NS_FD = 3, 28
_HEADER = 16
_ATTRIBUTE_TYPE = 0x3FFF


class Address:
    """One address of an interface: ifaddrmsg and its attributes."""

    __slots__ = ("attributes", "family", "flags", "index", "prefix", "scope")

    def __init__(self, data: bytes) -> None:
        self.family, self.prefix, low_flags, self.scope = data[0], data[1], data[2], data[3]
        self.index = _number(data[4:8])
        self.attributes = dict(_attributes(data[8:]))
        wide = self.attributes.get(IFA_FLAGS)
        self.flags = _number(wide) if wide else low_flags


class Netlink:
    """A rtnetlink socket; it stays in the network namespace it was opened in."""

    def __init__(self) -> None:
        self._socket = _socket.socket(
            _socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _socket.NETLINK_ROUTE
        )
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def find(self, name: str) -> int:
        """Return the index of an interface. Raises KernelError (ENODEV)."""
        link = bytes(16) + attribute(IFLA_IFNAME, name.encode() + b"\0")
        for message in self._ask(RTM_GETLINK, link, 0, "RTM_GETLINK", name):
            return _number(message[4:8])
        raise KernelError(ENODEV, "netlink", ("RTM_GETLINK", name))

    def addresses(self, index: int) -> list[Address]:
        """Return all addresses of an interface, of both families."""
        found = [Address(data) for data in self._ask(RTM_GETADDR, bytes(8), NLM_F_DUMP, "RTM_GETADDR", index)]
        return [address for address in found if address.index == index]

    def add_address(self, index: int, address: Address) -> None:
        """Give an interface an address that another has had, with its prefix, scope, label and lifetime."""
        data = bytes((address.family, address.prefix, address.flags & 0xFF, address.scope)) + _pack(index)
        for kind in (IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST, IFA_FLAGS):
            if kind in address.attributes:
                data += attribute(kind, address.attributes[kind])
        self._ask(RTM_NEWADDR, data, NLM_F_CREATE | NLM_F_REPLACE, "RTM_NEWADDR", index)

    def move(self, index: int, namespace_fd: int, name: str) -> None:
        """Move an interface to another network namespace, where it gets this name."""
        link = _link(index, 0, 0)
        link += attribute(IFLA_NET_NS_FD, _pack(namespace_fd)) + attribute(IFLA_IFNAME, name.encode() + b"\0")
        self._ask(RTM_NEWLINK, link, 0, "RTM_NEWLINK", f"IFLA_NET_NS_FD {name}")

    def set_up(self, index: int, up: bool) -> None:
        """Bring an interface up or down."""
        self._ask(RTM_NEWLINK, _link(index, IFF_UP if up else 0, IFF_UP), 0, "RTM_NEWLINK", "IFF_UP")

    def _ask(self, kind: int, body: bytes, flags: int, *shown: object) -> list[bytes]:
        """Send one request; the bodies of the answers. Raises KernelError with the kernel's answer."""
        self._sequence += 1
        flags |= NLM_F_REQUEST
        if flags & NLM_F_DUMP != NLM_F_DUMP:
            flags |= NLM_F_ACK
        size = _HEADER + len(body)
        header = _pack(size) + _pack(kind, 2) + _pack(flags, 2) + _pack(self._sequence) + _pack(0)
        self._socket.send(header + body)
        answers: list[bytes] = []
        while True:
            for kind, data in self._messages():
                if kind == _NLMSG_DONE:
                    return answers
                if kind == _NLMSG_ERROR:
                    error = int.from_bytes(data[:4], sys.byteorder, signed=True)
                    if error:
                        raise KernelError(-error, "netlink", shown)
                    return answers
                answers.append(data)

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        """Yield the messages of one datagram that answer the last request."""
        data = self._socket.recv(1 << 17)
        while len(data) >= _HEADER:
            length, kind = _number(data[:4]), _number(data[4:6])
            if _number(data[6:8]) & NLM_F_DUMP_INTR:
                raise KernelError(EINTR, "netlink", ("the list of addresses changed while it was read",))
            if _number(data[8:12]) == self._sequence:
                yield kind, data[_HEADER:length]
            data = data[_align(length) :]


def attribute(kind: int, data: bytes) -> bytes:
    """struct rtattr and its data, padded."""
    size = 4 + len(data)
    return (_pack(size, 2) + _pack(kind, 2) + data).ljust(_align(size), b"\0")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length = _number(data[:2])
        if length < 4:
            return
        yield _number(data[2:4]) & _ATTRIBUTE_TYPE, data[4:length]
        data = data[_align(length) :]


def _link(index: int, flags: int, change: int) -> bytes:
    """struct ifinfomsg."""
    return bytes(4) + _pack(index) + _pack(flags) + _pack(change)


def _align(size: int) -> int:
    return (size + 3) & ~3


def _pack(number: int, size: int = 4) -> bytes:
    return number.to_bytes(size, sys.byteorder)


def _number(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder)
