"""linux.netDevices: network devices of the host that become the container's (runtime-spec 1.3).

The parent moves them while init waits for its plan. A moved device keeps its hardware address, MTU and the
addresses that a person or a network manager gave it; the kernel drops the latter when the device leaves, so
they are read before and written again. When the namespace ends the kernel gives a physical device back to
the host and destroys a virtual one: there is nothing to undo.
"""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, KernelError, StepError
from pyruntime.kernel import process
from pyruntime.kernel.constants import CLONE_NEWNET, ENODEV, IFA_F_PERMANENT, RT_SCOPE_UNIVERSE
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.kernel.netlink import Address, Netlink
    from pyruntime.plan.actors import ParentActor
    from pyruntime.plan.request import Request


def plan(request: Request) -> Iterator[Step]:
    """SETUP: the container's network namespace exists. The names are the checker's (spec/rules.py)."""
    devices = request.linux.get("netDevices")
    if not devices:
        return
    if request.rootless:
        raise ConfigError(
            "an ordinary user cannot move network devices", pointer="/linux/netDevices", hint="run as root"
        )
    _, path = request.namespace("network")
    for device, wanted in devices.items():
        name = (wanted or {}).get("name") or device
        yield Step(f"/linux/netDevices/{device}", move, device=device, name=name, namespace=path)


def move(parent: ParentActor, device: str, name: str, namespace: str) -> None:
    """move the network device {device} into the container as {name}"""
    # Only a container with netDevices needs it.
    from pyruntime.kernel.netlink import Netlink

    fd = posix.open(namespace or f"/proc/{parent.pid}/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
    own = posix.open("/proc/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
    here = Netlink()
    there = _netlink_in(fd, own)
    try:
        index = _find(here, device)
        if index is None:
            raise StepError(
                f"move the network device {device}: no such device (ENODEV)",
                why="no device has that name in the runtime's network namespace",
                hint="ip link shows those that are there",
                errno="ENODEV",
            )
        # Asked before, because the kernel moves first, and what it moved is gone when the container is.
        if _find(there, name) is not None:
            raise StepError(
                f"move the network device {device}: the container has a device called {name} (EEXIST)",
                hint="set another name",
                errno="EEXIST",
            )
        kept = _addresses(here, index)
        here.set_up(index, False)  # one that is up cannot be renamed
        here.move(index, fd, name)
        try:
            _configure(there, name, kept)
        except KernelError:
            there.move(there.find(name), own, device)
            _configure(here, device, kept)
            raise
    finally:
        here.close()
        there.close()
        posix.close(fd)
        posix.close(own)


def _find(netlink: Netlink, name: str) -> int | None:
    try:
        return netlink.find(name)
    except KernelError as error:
        if error.errno != ENODEV:
            raise
        return None


def _addresses(netlink: Netlink, index: int) -> list[Address]:
    """Return the addresses that are kept: the permanent ones, except the kernel's link-local ones."""
    return [
        address
        for address in netlink.addresses(index)
        if address.flags & IFA_F_PERMANENT and address.scope == RT_SCOPE_UNIVERSE
    ]


def _configure(netlink: Netlink, name: str, addresses: list[Address]) -> None:
    """Give a device its addresses and bring it up; its index changes with its namespace."""
    index = netlink.find(name)
    for address in addresses:
        netlink.add_address(index, address)
    netlink.set_up(index, True)


def _netlink_in(namespace_fd: int, own_fd: int) -> Netlink:
    """Return a netlink socket in another network namespace: it stays there when this process goes back."""
    from pyruntime.kernel.netlink import Netlink

    process.setns(namespace_fd, CLONE_NEWNET, "the container's network namespace")
    try:
        return Netlink()
    finally:
        process.setns(own_fd, CLONE_NEWNET, "the runtime's network namespace")
