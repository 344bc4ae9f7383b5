"""Namespaces: new ones, ones joined by path, and their order.

A plain container takes one clone3(2) with every new namespace in it. What does not fit into that:

* cgroup: made by init itself once it is in its cgroup, whose place becomes the namespace's root;
* pid and time by path, and a new time namespace: setns(2) and unshare(2) act on children only, so the parent
  does it around the clone and goes back;
* user by path: init's namespaces must belong to it, so a process joins it first and clones init from there
  (runtime/parent.py, `_clone_in_user_namespace`);
* the others by path: init joins them after the clone. With a user namespace it could not, unless they belong to it,
  so then the parent joins around the clone, or that process does, before the user namespace or after it.
"""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError
from pyruntime.kernel import process
from pyruntime.kernel.constants import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    NS_GET_NSTYPE,
)
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request

# kind in config.json -> (flag, name in /proc/PID/ns)
KINDS = {
    "user": (CLONE_NEWUSER, "user"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"),
    "network": (CLONE_NEWNET, "net"),
    "pid": (CLONE_NEWPID, "pid"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "time": (CLONE_NEWTIME, "time"),
    "mount": (CLONE_NEWNS, "mnt"),
}


class Namespaces:
    """Which namespaces a container gets, and by which way.

    new:     CLONE_NEW* flags of the one clone.
    around:  (pointer, kind, path) that the parent joins around the clone; path "" for a new time namespace.
    user:    (pointer, "user", path) or None.
    """

    __slots__ = ("around", "new", "user")

    def __init__(self) -> None:
        self.new = 0
        self.around: list[tuple[str, str, str]] = []
        self.user: tuple[str, str, str] | None = None


def arrange(request: Request) -> Namespaces:
    """Sort the entries of /linux/namespaces by the way each is entered."""
    result = Namespaces()
    with_user = request.namespace("user")[0]
    for index, entry in enumerate(request.linux.get("namespaces") or ()):
        kind, path = entry["type"], entry.get("path") or ""
        place = (f"/linux/namespaces/{index}", kind, path)
        if not path:
            if kind == "time":
                result.around.append(place)
            elif kind != "cgroup":
                result.new |= KINDS[kind][0]
        elif kind == "user":
            result.user = place
        elif kind in ("pid", "time") or (with_user and kind != "mount"):
            result.around.append(place)
    return result


def plan(request: Request) -> Iterator[Step]:
    """BUILD: init joins by path, and makes the cgroup namespace now that it is in its cgroup."""
    joined_by_parent = {kind for _, kind, _ in arrange(request).around} | {"user"}
    for index, entry in enumerate(request.linux.get("namespaces") or ()):
        kind, path = entry["type"], entry.get("path") or ""
        if path and kind not in joined_by_parent:
            yield Step(f"/linux/namespaces/{index}", join, kind=kind, path=path)
        elif kind == "cgroup" and not path:
            yield Step(f"/linux/namespaces/{index}", make_cgroup_namespace)


def plan_maps(request: Request) -> Iterator[Step]:
    """SETUP: the maps of a user namespace."""
    if request.namespace("user")[0]:
        from pyruntime.features.namespaces import id_maps  # few containers have one

        yield from id_maps.plan(request)


def join(init: InitActor, kind: str, path: str) -> None:
    """join the {kind} namespace {path}"""
    fd = open_namespace(kind, path)
    try:
        process.setns(fd, KINDS[kind][0], path)
    finally:
        posix.close(fd)


def make_cgroup_namespace(init: InitActor) -> None:
    """make a cgroup namespace rooted at the container's cgroup"""
    process.unshare(CLONE_NEWCGROUP)


def open_namespace(kind: str, path: str) -> int:
    """Open a namespace by its path. Raises ConfigError when it is none, or one of another kind."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    wanted = KINDS[kind][1]
    try:
        # A file of nsfs reads as `net:[4026531840]`; anything else is not a namespace (proc(5)).
        shown = posix.readlink(f"/proc/self/fd/{fd}")
        found = shown.partition(":[")[0] if ":[" in shown else _kind_of_file(fd)
    except BaseException:
        posix.close(fd)
        raise
    if found not in (wanted, None):
        posix.close(fd)
        raise ConfigError(
            f"{path} is not a {kind} namespace" + (f" but one of kind {found}" if found else ""),
            hint=f"give the path of a {kind} namespace, such as /proc/PID/ns/{wanted}",
        )
    return fd


def _kind_of_file(fd: int) -> str | None:
    """Return the type of a namespace bind-mounted on a file, None if unknown: ioctl_ns(2), NS_GET_NSTYPE."""
    import fcntl

    try:
        flag = fcntl.ioctl(fd, NS_GET_NSTYPE)
    except OSError:
        return ""
    return next((name for value, name in KINDS.values() if value == flag), None)
