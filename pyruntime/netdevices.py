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
from pyruntime.kernel.constants import CLONE_NEWNET
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyruntime.plan.request import Request

_ENODEV, _EEXIST = 19, 17


def plan(request: Request) -> Iterator[Step]:
    """SETUP: the container's network namespace exists. The names are the checker's (spec/rules.py)."""
    devices = request.linux.get("netDevices")
    if not devices:
        return
    if request.rootless:
        raise ConfigError(
            "an ordinary user cannot move network devices", pointer="/linux/netDevices", mend="run as root"
        )
    _, path = request.namespace("network")
    for device, wanted in devices.items():
        name = (wanted or {}).get("name") or device
        yield Step(f"/linux/netDevices/{device}", move, device=device, name=name, namespace=path)


def move(parent: Any, device: str, name: str, namespace: str) -> None:
    """move the network device {device} into the container as {name}"""
    # Only a container with netDevices needs it.
    from pyruntime.kernel.netlink import IFA_F_PERMANENT, RT_SCOPE_UNIVERSE, Netlink

    fd = posix.open(namespace or f"/proc/{parent.pid}/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
    here = Netlink()
    there = None
    try:
        there = _netlink_in(fd)
        index = here.find(device)
        kept = [
            address
            for address in here.addresses(index)
            if address.flags & IFA_F_PERMANENT and address.scope == RT_SCOPE_UNIVERSE
        ]
        # A device that is up cannot be renamed.
        here.set_up(index, False)
        here.move(index, fd, name)
        index = there.find(name)
        for address in kept:
            there.add_address(index, address)
        there.set_up(index, True)
    except KernelError as error:
        if error.errno == _ENODEV:
            raise StepError(
                f"move the network device {device}: no such device (ENODEV)",
                why="there is no device of that name in the runtime's network namespace",
                mend="ip link shows those that are there",
                syscall=error.call(),
                errno="ENODEV",
            ) from error
        if error.errno == _EEXIST:
            raise StepError(
                f"move the network device {device}: the container has a device called {name} (EEXIST)",
                mend="set another name",
                syscall=error.call(),
                errno="EEXIST",
            ) from error
        raise
    finally:
        here.close()
        if there is not None:
            there.close()
        posix.close(fd)


def _netlink_in(namespace_fd: int) -> Any:
    """A netlink socket in another network namespace: it stays there when this process goes back."""
    from pyruntime.kernel.netlink import Netlink

    own = posix.open("/proc/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        process.setns(namespace_fd, CLONE_NEWNET, "the container's")
        try:
            return Netlink()
        finally:
            process.setns(own, CLONE_NEWNET, "the runtime's")
    finally:
        posix.close(own)
