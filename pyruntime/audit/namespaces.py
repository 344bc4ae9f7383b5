"""Check namespaces, their id maps and clock offsets, and the root."""

from __future__ import annotations

import posix

from pyruntime.audit.comparison import Comparison, as_asked, cannot_see, compare, drifted
from pyruntime.audit.probe import Hidden
from pyruntime.features.namespaces.namespaces import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.audit.view import View
    from pyruntime.plan.request import Request


def audit(view: View, request: Request) -> Iterator[Comparison]:
    """Return a comparison for each kind of namespace, requested or not."""
    asked = {entry["type"]: index for index, entry in enumerate(request.linux.get("namespaces") or ())}
    for kind in KINDS:
        found, own = view.namespace(kind), view.own_namespace(kind)
        pointer = f"/linux/namespaces/{asked[kind]}" if kind in asked else "/linux/namespaces"
        _, path = request.namespace(kind)
        if found is None:
            if kind in asked:
                yield cannot_see(pointer, f"{kind} namespace", "this kernel has none")
        elif path:
            yield _joined(pointer, kind, path, found)
        elif kind in asked:
            what = f"a {kind} namespace of its own"
            yield drifted(pointer, what, what, "that of the host") if found == own else as_asked(pointer, what)
        else:
            what = f"the {kind} namespace of the host"
            yield as_asked(pointer, what) if found == own else drifted(pointer, what, what, f"another, {found[1]}")
    if request.has_new("time"):
        yield from _offsets(view, request)


def _joined(pointer: str, kind: str, path: str, found: tuple[int, int]) -> Comparison:
    what = f"the {kind} namespace {path}"
    try:
        there = posix.stat(path)
    except OSError as error:
        return cannot_see(pointer, what, f"{path}: {error.strerror}")
    if (there.st_dev, there.st_ino) == found:
        return as_asked(pointer, what)
    return drifted(pointer, what, f"{kind}:[{there.st_ino}]", f"{kind}:[{found[1]}]")


def _offsets(view: View, request: Request) -> Iterator[Comparison]:
    asked = request.linux.get("timeOffsets") or {}
    try:
        lines = [line.split() for line in view.read("timens_offsets").splitlines()]
    except OSError as error:
        yield cannot_see("/linux/timeOffsets", "clock offsets", str(error.strerror))
        return
    found = {clock: (int(seconds), int(nanoseconds)) for clock, seconds, nanoseconds in lines}
    for clock, value in asked.items():
        wanted = value.get("secs") or 0, value.get("nanosecs") or 0
        pointer = f"/linux/timeOffsets/{clock}"
        yield compare(pointer, f"offset of the {clock} clock", wanted, found.get(clock, (0, 0)))


def written_map(view: View, pointer: str, file: str, lines: list[list[int]], **_: object) -> Iterator[Comparison]:
    """Check the id maps of a user namespace, new or joined."""
    found = [[int(word) for word in line.split()] for line in view.read(file).splitlines()]
    yield compare(pointer, file, _shown(sorted(lines)), _shown(sorted(found)))


def _shown(lines: list[list[int]]) -> str:
    return ", ".join(" ".join(map(str, line)) for line in lines)


def rootfs(view: View, pointer: str, rootfs: str, **_: object) -> Iterator[Comparison]:
    """Check that the root of the process is the directory of root.path."""
    what = f"the root is {rootfs}"
    try:
        asked = view.probe.look_at_host(rootfs)
    except Hidden as hidden:
        yield cannot_see(pointer, what, str(hidden))
        return
    if asked is None:
        yield cannot_see(pointer, what, f"{rootfs} is not there any more")
        return
    if (asked["dev"], asked["ino"]) == view.root():
        yield as_asked(pointer, what)
    elif asked.get("empty"):
        yield cannot_see(pointer, what, f"{rootfs} is empty here: the engine has mounted it where only it can see it")
    else:
        device, inode = view.root()
        where = f"{posix.major(device)}:{posix.minor(device)}, inode {inode}"
        yield drifted(pointer, what, rootfs, f"another directory ({where})")


def root_readonly(view: View, pointer: str, **_: object) -> Iterator[Comparison]:
    """Check that the root mount is read-only."""
    root = view.mounts.root()
    if root is None:
        yield cannot_see(pointer, "a read-only root", "the root is not a mount point")
    elif "ro" in root.options:
        yield as_asked(pointer, "a read-only root")
    else:
        yield drifted(pointer, "a read-only root", "ro", root.describe())


def joined_devices(view: View, pointer: str, name: str, **_: object) -> Iterator[Comparison]:
    """Check that a network device is in the container's network namespace."""
    what = f"the network device {name}"
    names = [line.partition(":")[0].strip() for line in view.read("net/dev").splitlines()]
    yield as_asked(pointer, what) if name in names else drifted(pointer, what, name, "not there")
