"""/proc/PID/mountinfo: the kernel's own list of a process's mounts, and which of them is seen at a path.

No path is walked for that: the tree of mounts is all in the list, so nothing that the container has mounted (a FUSE
filesystem that does not answer, a link) is touched."""

from __future__ import annotations

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
    """All mounts of a process."""

    def __init__(self, text: str) -> None:
        self.all = [Mount(line) for line in text.splitlines() if " - " in line]
        self.by_id = {mount.id: mount for mount in self.all}
        self._below: dict[int, list[Mount]] = {}
        for mount in self.all:
            self._below.setdefault(mount.parent, []).append(mount)

    def root(self) -> Mount | None:
        """The mount that the process sees as /; None when its root is no mount."""
        found = next((m for m in self.all if m.place == "/" and m.parent not in self.by_id), None)
        if found is None:
            found = next((m for m in self.all if m.place == "/"), None)
        return None if found is None else self._topmost(found)

    def seen_at(self, place: str) -> Mount | None:
        """The mount that a walk along a clean absolute path without links ends in."""
        current = self.root()
        while current is not None:
            crossed = [
                mount
                for mount in self._below.get(current.id, ())
                if len(mount.place) > len(current.place) and _is_at_or_above(mount.place, place)
            ]
            if not crossed:
                return current
            # A walk meets the mount points from the root on.
            current = self._topmost(min(crossed, key=lambda mount: len(mount.place)))
        return None

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
        passed = {mount.id}
        while True:
            over = [m for m in self._below.get(mount.id, ()) if m.place == mount.place and m.id not in passed]
            if not over:
                return mount
            mount = over[-1]
            passed.add(mount.id)


def _is_at_or_above(one: str, other: str) -> bool:
    return one in ("/", other) or other.startswith(one + "/")


def _unescaped(text: str) -> str:
    if "\\" in text:
        for octal, character in _ESCAPES:
            text = text.replace(octal, character)
    return text
