"""Parse /proc/PID/mountinfo, and find the mount that is visible at a path.

No path is resolved by the kernel: the mount tree is in the list, so that nothing in the container (a FUSE filesystem
that does not answer, a symbolic link) is accessed."""

from __future__ import annotations

from pyruntime.errors import StateError
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def of(pid: int | str) -> list[Mount]:
    """Return the mounts of a process (a pid, or "self") in the kernel's order: of two on one mount point the later one
    is on top. Raises OSError."""
    return [Mount(line) for line in read_file(f"/proc/{pid}/mountinfo").splitlines()]


class Mount:
    """One mount (proc(5), "/proc/PID/mountinfo").

    root: root of the mount within the filesystem; place: mount point, relative to the process's root.
    options: of the mount, optional: "shared:N", "master:N", …; super_options: of the filesystem."""

    __slots__ = ("fstype", "id", "optional", "options", "parent", "place", "root", "source", "super_options")

    def __init__(self, line: str) -> None:
        front, _, back = line.partition(" - ")
        fields, tail = front.split(" "), back.split(" ")
        self.id, self.parent = int(fields[0]), int(fields[1])
        self.root, self.place = unescape(fields[3]), unescape(fields[4])
        self.options = frozenset(fields[5].split(","))
        self.optional = tuple(fields[6:])
        self.fstype, self.source = tail[0], unescape(tail[1])
        self.super_options = tuple(tail[2].split(",")) if len(tail) > 2 else ()

    @property
    def readonly(self) -> bool:
        """Return whether the mount or its filesystem is read-only."""
        return "ro" in self.options or "ro" in self.super_options

    def describe(self) -> str:
        """Return a description for a comparison."""
        flags = ",".join(sorted(self.options))
        return f"{self.fstype} {flags}" + ("" if self.root == "/" else f", {self.root} of it")


class Mounts:
    """The mounts of a process. Raises StateError for an invalid list.

    A container may have 100 000 mounts (fs.mount-max): no lookup may be quadratic."""

    def __init__(self, text: str) -> None:
        try:
            self.all = [Mount(line) for line in text.splitlines() if " - " in line]
        except (ValueError, IndexError):
            raise StateError("the kernel's list of the container's mounts cannot be read") from None
        self.by_id = {mount.id: mount for mount in self.all}
        # (parent, mount point) -> mounts on it, the later one over the earlier.
        self._on: dict[tuple[int, str], list[Mount]] = {}
        for mount in self.all:
            self._on.setdefault((mount.parent, mount.place), []).append(mount)
        self._top: dict[int, Mount] = {}
        roots = [mount for mount in self.all if mount.place == "/"]
        lowest = next((mount for mount in roots if mount.parent not in self.by_id), roots[0] if roots else None)
        self._root = None if lowest is None else self._topmost(lowest)

    def root(self) -> Mount | None:
        """Return the mount at /, None if the root is not a mount point."""
        return self._root

    def seen_at(self, place: str) -> Mount | None:
        """Return the mount that contains a normalized absolute path without symbolic links."""
        current = self.root()
        if current is None:
            return None
        # From each mount, continue only with its child mounts.
        for at in (*_ends(place), len(place)):
            crossed = self._on.get((current.id, place[:at]))
            if crossed and at > len(current.place.rstrip("/")):
                current = self._topmost(crossed[-1])
        return current

    def mounted_on(self, place: str) -> Mount | None:
        """Return the visible mount with this mount point, or None."""
        found = self.seen_at(place)
        return found if found is not None and found.place == place else None

    def seen(self) -> Iterator[Mount]:
        """Return the visible mounts."""
        for mount in self.all:
            if self.mounted_on(mount.place) is mount:
                yield mount

    def _topmost(self, mount: Mount) -> Mount:
        """Return the topmost mount on the same mount point."""
        passed = []
        top = self._top.get(mount.id)
        while top is None:
            passed.append(mount.id)
            self._top[mount.id] = mount  # stop at a cycle
            over = self._on.get((mount.id, mount.place))
            if not over:
                top = mount
            else:
                mount = over[-1]
                top = self._top.get(mount.id)
        self._top.update(dict.fromkeys(passed, top))
        return top


def _ends(place: str) -> Iterator[int]:
    """Yield the offsets at which the names of a path end, except the last."""
    at = place.find("/", 1)
    while at > 0:
        yield at
        at = place.find("/", at + 1)


def unescape(text: str) -> str:
    """Return a path of the list as it is: space, tab, line end and backslash are octal there."""
    if "\\" in text:
        for octal, character in _ESCAPES:
            text = text.replace(octal, character)
    return text
