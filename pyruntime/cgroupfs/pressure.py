"""Notification of memory pressure in a container: v1 by memory.pressure_level, v2 by a trigger of memory.pressure.

v1 (Documentation/admin-guide/cgroup-v1/memory.rst, "Memory Pressure"): the kernel's own three levels. v2
(Documentation/accounting/psi.rst) knows no levels: they are shares of a second in which processes waited for memory.
"""

from __future__ import annotations

import posix
import select

from pyruntime.cgroupfs import control_files
from pyruntime.cgroupfs.layout import UNIFIED, serving_hierarchy

# Level -> trigger: some or all processes waited for so many microseconds of a window.
_TRIGGERS = {"low": "some 70000 1000000", "medium": "some 150000 1000000", "critical": "full 100000 1000000"}
LEVELS = tuple(_TRIGGERS)


class Watch:
    """Poll `fd` for `events`, then call `pending`. level: one of LEVELS; v1 also notifies of higher levels."""

    def __init__(self, cgroups: dict[str, str], level: str) -> None:
        """Raises OSError where the container has no memory cgroup, or the kernel does not count pressure."""
        hierarchy = serving_hierarchy(cgroups, "memory")
        directory = cgroups.get(hierarchy, "/nonexistent")
        self.level = level
        if hierarchy == UNIFIED:
            self.file = posix.open(f"{directory}/memory.pressure", posix.O_RDWR | posix.O_NONBLOCK | posix.O_CLOEXEC)
            self.fd, self.events = self.file, select.POLLPRI
            try:
                posix.write(self.file, _TRIGGERS[level].encode() + b"\0")
            except OSError:
                posix.close(self.file)
                raise
            return
        self.file = posix.open(f"{directory}/memory.pressure_level", posix.O_RDONLY | posix.O_CLOEXEC)
        self.fd, self.events = posix.eventfd(0, posix.EFD_CLOEXEC), select.POLLIN
        try:
            control_files.write(directory, "cgroup.event_control", f"{self.fd} {self.file} {level}")
        except OSError:
            self.close()
            raise

    def pending(self) -> bool:
        """Take the event: whether the container is still there, whose removal looks like one, too."""
        if self.fd != self.file:
            posix.eventfd_read(self.fd)
        return not posix.readlink(f"/proc/self/fd/{self.file}").endswith(" (deleted)")

    def close(self) -> None:
        """Close the descriptors."""
        posix.close(self.file)
        if self.fd != self.file:
            posix.close(self.fd)
