"""Which cgroup hierarchies this host has (cgroups(7)): v1, hybrid, v2, or none that can be used."""

from __future__ import annotations

import posix

from pyruntime.state import read_file

ROOT = "/sys/fs/cgroup"
UNIFIED = "unified"  # how the v2 hierarchy is called beside v1 ones


class Hierarchy:
    """One hierarchy.

    name:        how records and messages call it: "memory", "cpu,cpuacct", "systemd", "unified".
    controllers: its controllers (v1); for v2 what stands in its cgroup.controllers is found when needed.
    mount_point: where it is mounted. own: this process's cgroup in it, "/" or "/a/b".
    """

    __slots__ = ("controllers", "mount_point", "name", "own")

    def __init__(self, name: str, controllers: tuple[str, ...], mount_point: str, own: str) -> None:
        self.name = name
        self.controllers = controllers
        self.mount_point = mount_point
        self.own = own


class Layout:
    """The host's hierarchies. kind is "v1", "hybrid", "v2" or "none"."""

    __slots__ = ("hierarchies", "kind")

    def __init__(self, kind: str, hierarchies: list[Hierarchy]) -> None:
        self.kind = kind
        self.hierarchies = hierarchies


def find() -> Layout:
    """Look at the host: one line of /proc/self/cgroup a hierarchy, each where systemd and distributions mount it.

    /proc/self/mountinfo is read only for one that is not there: it grows with the number of containers."""
    try:
        lines = read_file("/proc/self/cgroup").splitlines()
        base = posix.stat(ROOT).st_dev
    except OSError:
        return Layout("none", [])
    v1: list[Hierarchy] = []
    v2: list[Hierarchy] = []
    elsewhere: dict[str, str] | None = None
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if not controllers:
            continue
        name = controllers.removeprefix("name=")
        place = f"{ROOT}/{name}"
        if not _is_mount(place, base):
            elsewhere = _mount_points() if elsewhere is None else elsewhere
            place = elsewhere.get(name, "")
        if place:
            named = controllers.startswith("name=")
            v1.append(Hierarchy(name, () if named else tuple(controllers.split(",")), place, own))
    own = next((line[3:] for line in lines if line.startswith("0::")), "")
    if own:
        if v1:
            if _is_mount(f"{ROOT}/{UNIFIED}", base):
                v2.append(Hierarchy(UNIFIED, (), f"{ROOT}/{UNIFIED}", own))
        elif _exists(f"{ROOT}/cgroup.procs") or _exists(f"{ROOT}/cgroup.controllers"):
            v2.append(Hierarchy(UNIFIED, (), ROOT, own))
    kind = ("hybrid" if v2 else "v1") if v1 else "v2" if v2 else "none"
    return Layout(kind, v1 + v2)


def _is_mount(path: str, parent_device: int) -> bool:
    try:
        return posix.stat(path).st_dev != parent_device
    except OSError:
        return False


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def _mount_points() -> dict[str, str]:
    """v1 hierarchy -> mount point, from /proc/self/mountinfo (proc(5))."""
    found: dict[str, str] = {}
    for line in read_file("/proc/self/mountinfo").splitlines():
        mount, _, filesystem = line.partition(" - ")
        fields, kind = mount.split(" "), filesystem.split(" ")
        if kind[0] != "cgroup" or fields[3] != "/":
            continue
        words = [word.removeprefix("name=") for word in kind[2].split(",") if word not in ("rw", "ro", "xattr")]
        found.setdefault(",".join(words), fields[4])
    return found
