"""Kernel parameters and names in the container's namespaces."""

from __future__ import annotations

from pyruntime.audit.comparison import Comparison, cannot_see, compare, drifted
from pyruntime.audit.probe import Hidden

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.audit.view import View


def sysctl(view: View, pointer: str, name: str, path: str, value: str, **_: object) -> Iterator[Comparison]:
    """Check a parameter of the network or ipc namespace."""
    what = f"{name} = {value}"
    if name.startswith("user."):
        yield cannot_see(pointer, what, "only from inside its user namespace")
        return
    try:
        found = view.probe.sysctl(path)
    except Hidden as hidden:
        yield cannot_see(pointer, what, str(hidden))
        return
    if found is None:
        yield drifted(pointer, what, value, "no such parameter")
        return
    # The kernel writes tabs between numbers.
    yield compare(pointer, what, " ".join(value.split()), " ".join(found.split()))


def hostname(view: View, pointer: str, name: str, **_: object) -> Iterator[Comparison]:
    """Check the name in its uts namespace."""
    what = f"the hostname is {name}"
    try:
        yield compare(pointer, what, name, view.probe.hostname())
    except Hidden as hidden:
        yield cannot_see(pointer, what, str(hidden))


def domainname(view: View, pointer: str, name: str, **_: object) -> Iterator[Comparison]:
    """Check the other name of the uts namespace."""
    what = f"the domainname is {name}"
    try:
        yield compare(pointer, what, name, (view.probe.sysctl("kernel/domainname") or "").strip())
    except Hidden as hidden:
        yield cannot_see(pointer, what, str(hidden))
