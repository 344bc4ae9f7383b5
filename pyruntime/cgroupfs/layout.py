"""Which cgroup hierarchies this host has, and where this process is in them (cgroups(7)).

v1:     each controller has a tree of its own, or some share one; there are trees without controllers too
        (`name=systemd`).
hybrid: v1, with a cgroup2 tree beside it. Whatever that tree has, controllers even, is used as well.
v2:     one cgroup2 tree for all.
none:   no tree that this process can see.

The usual places below /sys/fs/cgroup are tried first: mountinfo has a line for every mount of the host, and
takes milliseconds where a thousand containers run.
"""

from __future__ import annotations

import posix

from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = "/sys/fs/cgroup"
UNIFIED = "unified"  # how records call the cgroup2 tree


class Hierarchy:
    """One tree of cgroups.

    name:        how records and messages call it: "memory", "cpu,cpuacct", "systemd", "unified" (cgroup2).
    controllers: what it limits and counts.
    mount_point: absolute path.
    own:         this process's path in it, from the mount point on ("/a/b", or "/").
    """

    __slots__ = ("controllers", "mount_point", "name", "own")

    def __init__(self, name: str, controllers: tuple[str, ...], mount_point: str, own: str) -> None:
        self.name = name
        self.controllers = controllers
        self.mount_point = mount_point
        self.own = own

    def __repr__(self) -> str:
        return f"<Hierarchy {self.name} at {self.mount_point}, own {self.own}>"


class Layout:
    """The cgroup hierarchies of a host. kind: "v1", "hybrid", "v2" or "none"."""

    __slots__ = ("hierarchies", "kind")

    def __init__(self, hierarchies: Iterable[Hierarchy]) -> None:
        self.hierarchies = list(hierarchies)
        unified = any(one.name == UNIFIED for one in self.hierarchies)
        classic = any(one.name != UNIFIED for one in self.hierarchies)
        self.kind = "hybrid" if unified and classic else "v2" if unified else "v1" if classic else "none"

    def serving(self, controller: str) -> str:
        """Return the name of the hierarchy with a controller, "" if there is none."""
        return next((one.name for one in self.hierarchies if controller in one.controllers), "")


def find() -> Layout:
    """Return the layout of this host; its kind is "none" without a hierarchy."""
    try:
        lines = read_file("/proc/self/cgroup").splitlines()
    except FileNotFoundError:  # a kernel without cgroups
        return Layout(())
    found: list[Hierarchy] = []
    elsewhere: list[tuple[str, str]] = []
    own_unified = ""
    for line in lines:
        _, names, own = line.split(":", 2)
        # Ignore a cgroup that was removed, or is outside the root of our cgroup namespace.
        own = "/" if own.startswith("/..") else own.removesuffix(" (deleted)")
        if not names:
            own_unified = own
            continue
        mount_point = _usual_place(names.removeprefix("name="), own)
        if mount_point:
            found.append(_classic(names, mount_point, own))
        else:
            elsewhere.append((names, own))
    if own_unified:
        beside = f"{ROOT}/{UNIFIED}"
        for mount_point in (beside, ROOT) if found or elsewhere else (ROOT, beside):
            if posix.access(f"{mount_point}{own_unified}/cgroup.procs", posix.F_OK):
                found.append(_unified(mount_point, own_unified))
                break
        else:
            # The kernel lists the cgroup2 tree even where it is not mounted, as on every v1 host.
            if elsewhere or not found:
                elsewhere.append((UNIFIED, own_unified))
    if elsewhere:
        found += _from_mountinfo(elsewhere)
    return Layout(found)


def _usual_place(name: str, own: str) -> str:
    """Return the mount point of a v1 hierarchy where every distribution has it; "" when it is not there.

    That our own cgroup is found below shows two things: it is a cgroup filesystem, and its root is the one that
    /proc/self/cgroup counts from."""
    for directory in (name, *name.split(",")) if "," in name else (name,):
        mount_point = f"{ROOT}/{directory}"
        if posix.access(f"{mount_point}{own}/cgroup.procs", posix.F_OK):
            return mount_point
    return ""


def _classic(names: str, mount_point: str, own: str) -> Hierarchy:
    if names.startswith("name="):
        return Hierarchy(names.removeprefix("name="), (), mount_point, own)
    return Hierarchy(names, tuple(names.split(",")), mount_point, own)


def _unified(mount_point: str, own: str) -> Hierarchy:
    try:
        controllers = tuple(read_file(f"{mount_point}/cgroup.controllers").split())
    except FileNotFoundError:
        controllers = ()
    return Hierarchy(UNIFIED, controllers, mount_point, own)


def _from_mountinfo(wanted: list[tuple[str, str]]) -> list[Hierarchy]:
    """Return the hierarchies that are not at their usual places, as proc(5), "/proc/PID/mountinfo", has them."""
    from pyruntime.util import mountinfo

    found = []
    mounts = [one for one in mountinfo.of("self") if one.fstype in ("cgroup", "cgroup2")]
    for names, own in wanted:
        unified = names == UNIFIED
        for one in mounts:
            root, mount_point = one.root, one.place
            if unified != (one.fstype == "cgroup2") or not (unified or set(names.split(",")) <= set(one.super_options)):
                continue
            # The mount may show a part of the tree only: a container's own, without a cgroup namespace.
            inside = own.removeprefix(root) if root != "/" and (own + "/").startswith(root + "/") else own
            if not posix.access(f"{mount_point}{inside}/cgroup.procs", posix.F_OK):
                inside = ""
            make = _unified(mount_point, inside or "/") if unified else _classic(names, mount_point, inside or "/")
            found.append(make)
            break
    return found


def serving_hierarchy(cgroups: dict[str, str], controller: str) -> str:
    """Return the hierarchy of a record that a controller is in: a v1 one, else the cgroup2 tree, else ""."""
    if controller in cgroups:
        return controller
    for name in cgroups:
        if controller in name.split(","):
            return name
    return UNIFIED if UNIFIED in cgroups else ""
