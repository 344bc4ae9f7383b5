"""/proc/PID/mountinfo: the kernel's own list of a process's mounts, and which of them is seen at a path.

No path is walked for that: the tree of mounts is all in the list, so nothing that the container has mounted (a FUSE
filesystem that does not answer, a link) is touched."""

from __future__ import annotations

from pyruntime.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


class Mount:
    """One mount (proc(5), "/proc/PID/mountinfo").

    root: what of the filesystem is shown; place: the mount point, from the process's root on.
    options: of the mount, optional: "shared:N", "master:N", …; super_options: of the filesystem."""

    __slots__ = ("fstype", "id", "optional", "options", "parent", "place", "root", "source", "super_options")

    def __init__(self, line: str) -> None:
        front, _, back = line.partition(" - ")
        fields, tail = front.split(" "), back.split(" ")
        self.id, self.parent = int(fields[0]), int(fields[1])
        self.root, self.place = _unescaped(fields[3]), _unescaped(fields[4])
        self.options = frozenset(fields[5].split(","))
        self.optional = tuple(fields[6:])
        self.fstype, self.source = tail[0], _unescaped(tail[1])
        self.super_options = tuple(tail[2].split(",")) if len(tail) > 2 else ()

    @property
    def readonly(self) -> bool:
        """Whether nothing can be written through it."""
        return "ro" in self.options or "ro" in self.super_options

    def describe(self) -> str:
        """In words, for a finding."""
        flags = ",".join(sorted(self.options))
        return f"{self.fstype} {flags}" + ("" if self.root == "/" else f", {self.root} of it")


class Mounts:
    """All mounts of a process. Raises StateError for a list that makes no sense.

    A container may have a hundred thousand of them (fs.mount-max), so that nothing here may look at each for each."""

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
        """The mount that the process sees as /; None when its root is no mount."""
        return self._root

    def seen_at(self, place: str) -> Mount | None:
        """The mount that a walk along a clean absolute path without links ends in."""
        current = self.root()
        if current is None:
            return None
        # A walk meets the mount points from the root on, and from each mount on only what is mounted on that one.
        for at in (*_ends(place), len(place)):
            crossed = self._on.get((current.id, place[:at]))
            if crossed and at > len(current.place.rstrip("/")):
                current = self._topmost(crossed[-1])
        return current

    def mounted_on(self, place: str) -> Mount | None:
        """The mount whose mount point is this very path, if that is what one sees there."""
        found = self.seen_at(place)
        return found if found is not None and found.place == place else None

    def seen(self) -> Iterator[Mount]:
        """The mounts that can be reached, each where it is mounted."""
        for mount in self.all:
            if self.mounted_on(mount.place) is mount:
                yield mount

    def _topmost(self, mount: Mount) -> Mount:
        """The one that lies over the others on the same mount point."""
        passed = []
        top = self._top.get(mount.id)
        while top is None:
            passed.append(mount.id)
            self._top[mount.id] = mount  # a list that goes in circles ends where it was
            over = self._on.get((mount.id, mount.place))
            if not over:
                top = mount
            else:
                mount = over[-1]
                top = self._top.get(mount.id)
        self._top.update(dict.fromkeys(passed, top))
        return top


def _ends(place: str) -> Iterator[int]:
    """Where the names of a path end, but for the last."""
    at = place.find("/", 1)
    while at > 0:
        yield at
        at = place.find("/", at + 1)


def _unescaped(text: str) -> str:
    if "\\" in text:
        for octal, character in _ESCAPES:
            text = text.replace(octal, character)
    return text
