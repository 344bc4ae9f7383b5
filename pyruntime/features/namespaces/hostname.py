"""/hostname and /domainname, in the container's uts namespace."""

from __future__ import annotations

from pyruntime.kernel import process
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request


def plan(request: Request) -> Iterator[Step]:
    """ENTER: both names, if given."""
    if name := request.config.get("hostname"):
        yield Step("/hostname", set_hostname, name=name)
    if name := request.config.get("domainname"):
        yield Step("/domainname", set_domainname, name=name)


def set_hostname(init: InitActor, name: str) -> None:
    """set the hostname to {name}"""
    process.set_hostname(name)


def set_domainname(init: InitActor, name: str) -> None:
    """set the domainname to {name}"""
    process.set_domainname(name)
