"""OOM kills in a container: the count, and notification."""

from __future__ import annotations

import posix
import select

from pyruntime.cgroupfs import control_files
from pyruntime.cgroupfs.layout import UNIFIED, serving_hierarchy
from pyruntime.errors import StepError
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NEVER = -1


def kills(cgroups: dict[str, str]) -> int:
    """Return the number of OOM kills in the container, 0 if the kernel does not count them."""
    hierarchy = serving_hierarchy(cgroups, "memory")
    file = "memory.events" if hierarchy == UNIFIED else "memory.oom_control"
    return max(0, _count(f"{cgroups.get(hierarchy, '/nonexistent')}/{file}"))


def explain(cgroups: dict[str, str]) -> str:
    """Return the reason of an OOM kill during create, such as "memory limit 4 MiB too low"; "" without a kill."""
    if not kills(cgroups):
        return ""
    hierarchy = serving_hierarchy(cgroups, "memory")
    file = "memory.max" if hierarchy == UNIFIED else "memory.limit_in_bytes"
    try:
        limit = int(read_file(f"{cgroups[hierarchy]}/{file}"))
    except (OSError, ValueError):
        return "memory limit too low"  # that of a cgroup above
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if limit % size == 0:
            return f"memory limit {limit // size} {unit} too low"
    return f"memory limit {limit} bytes too low"


def init_killed(cgroups: dict[str, str]) -> StepError | None:
    """Return the error for an init that was OOM-killed before it executed the user process, else None."""
    killed = explain(cgroups)
    if not killed:
        return None
    pointer = "/linux/resources/memory/limit"
    return StepError(f"the container's init was OOM-killed: {killed}", pointer=pointer, hint="raise the limit")


def _count(path: str) -> int:
    """Return the value of oom_kill in a file, -1 if it is missing."""
    try:
        return _count_in(read_file(path))
    except OSError:
        return _NEVER


def _count_in(text: str) -> int:
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill":
            return int(number)
    return _NEVER


class Watch:
    """Notification of OOM kills in a container: poll `fd` for `events`, then call `pending`.

    v1 notifies by an eventfd (cgroup.event_control), v2 by POLLPRI on memory.events."""

    def __init__(self, cgroups: dict[str, str]) -> None:
        """Raises OSError if the container has no memory cgroup."""
        hierarchy = serving_hierarchy(cgroups, "memory")
        directory = cgroups.get(hierarchy, "/nonexistent")
        self.v2 = hierarchy == UNIFIED
        self.path = f"{directory}/{'memory.events' if self.v2 else 'memory.oom_control'}"
        flags = posix.O_RDONLY | posix.O_CLOEXEC
        self.file = posix.open(self.path, flags)
        self.fd = self.file
        self.events = select.POLLPRI
        if not self.v2:
            try:
                self.fd = posix.eventfd(0, posix.EFD_CLOEXEC)
                self.events = select.POLLIN
                control_files.write(directory, "cgroup.event_control", f"{self.fd} {self.file}")
            except OSError:
                self.close()
                raise
        self.seen = max(0, self._read())

    def _read(self) -> int:
        """Read the count from the polled descriptor: that makes kernfs clear the event."""
        try:
            return _count_in(posix.pread(self.file, 1 << 16, 0).decode())
        except OSError:  # ENODEV: the cgroup was removed
            return _NEVER

    def pending(self) -> Iterator[None]:
        """Return an item for each kill since the last call, and clear the event."""
        if not self.v2:
            # Notified when the limit is hit, before the kill is counted; and when
            # the cgroup is removed.
            posix.eventfd_read(self.fd)
            if not self.gone:
                yield None
            return
        count = self._read()
        for _ in range(count - self.seen):
            yield None
        self.seen = max(self.seen, count)

    @property
    def gone(self) -> bool:
        """Whether the cgroup was removed."""
        return not posix.access(self.path, posix.F_OK)

    def close(self) -> None:
        """Close the descriptors."""
        posix.close(self.file)
        if self.fd != self.file:
            posix.close(self.fd)
