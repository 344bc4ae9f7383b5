"""The running container that is looked at: its init, held by descriptors, and what the kernel shows of it."""

from __future__ import annotations

import posix
import select

from pyruntime.audit.probe import Hidden, Probe
from pyruntime.errors import StateError
from pyruntime.features.namespaces.namespaces import KINDS
from pyruntime.features.rootfs.path import clean
from pyruntime.kernel.constants import O_PATH
from pyruntime.runtime.init import open_proc
from pyruntime.util import procfs
from pyruntime.util.mountinfo import Mount, Mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.audit.probe import Described
    from pyruntime.cgroupfs.layout import Layout

_MAX_FILE = 64 << 20  # 100000 mounts, as many as a mount namespace may have (fs.mount-max), have 15 MB of mountinfo


class View:
    """A process and its surroundings.

    Everything is read through descriptors of /proc/PID that are bound to this very process: another one that gets its
    pid later is never taken for it."""

    def __init__(self, pid: int, layout: Layout) -> None:
        self.pid = pid
        self.proc_fd = open_proc()
        try:
            self.pidfd = posix.pidfd_open(pid)
            self.fd = posix.open(f"{pid}", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=self.proc_fd)
            self.require_life()
            self.root_fd = posix.open("root", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=self.fd)
            self.mounts = Mounts(self.read("mountinfo"))
            self.status = procfs.status(self.read("status"))
        except (ProcessLookupError, FileNotFoundError):
            raise _gone(pid) from None
        except PermissionError as error:
            raise StateError(
                f"process {pid} cannot be looked at: {error.strerror}", hint="run as root, or as the container's owner"
            ) from None
        self.layout = layout
        self.cgroups = self._cgroups()
        self.probe = Probe(self.pidfd, self.root_fd, self.proc_fd)

    def close(self) -> None:
        """End the helper, close the descriptors."""
        self.probe.close()
        for fd in (self.root_fd, self.fd, self.pidfd, self.proc_fd):
            posix.close(fd)

    def require_life(self) -> None:
        """Raise StateError when the process has ended."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if poll.poll(0):
            raise _gone(self.pid)

    def read(self, name: str) -> str:
        """Return a file of /proc/PID. Raises OSError.

        Only those that the kernel writes by itself: cmdline and environ are pages of the process's, which may be of
        a filesystem of its own that does not answer."""
        fd = posix.open(name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=self.fd)
        try:
            data = b""
            while len(data) < _MAX_FILE and (chunk := posix.read(fd, 1 << 20)):
                data += chunk
            return data.decode("utf-8", "surrogateescape")
        finally:
            posix.close(fd)

    def namespace(self, kind: str) -> tuple[int, int] | None:
        """Return which namespace of a kind it is in, as (device, inode) of nsfs; None if the kernel has none of the
        kind."""
        return _namespace(self.fd, f"ns/{KINDS[kind][1]}")

    def own_namespace(self, kind: str) -> tuple[int, int] | None:
        """Return the one of this process, which asks: the host's."""
        return _namespace(self.proc_fd, f"self/ns/{KINDS[kind][1]}")

    def root(self) -> tuple[int, int]:
        """Return (device, inode) of its root directory."""
        found = posix.fstat(self.root_fd)
        return found.st_dev, found.st_ino

    def look(self, path: str) -> Described | None:
        """Return what a path below its root is (Probe.look)."""
        return self.probe.look(path)

    def mount_at(self, place: str) -> Mount | None:
        """Return the mount on a path, None when it is no mount point. Links of the image are followed if need be."""
        place = clean(place)
        found = self.mounts.mounted_on(place)
        if found is not None:
            return found
        try:
            looked = self.probe.look(place)
        except Hidden:
            return None
        if looked is None:
            return None
        mount = self.mounts.by_id.get(looked["mount"])
        if mount is None or mount.place == "/":
            return None
        # Through a link it is a mount point when the mount's own root is what was found.
        there = self.probe.look(mount.place)
        same = there is not None and (there["dev"], there["ino"]) == (looked["dev"], looked["ino"])
        return mount if same and mount.place != place else None

    def _cgroups(self) -> dict[str, str]:
        """hierarchy -> absolute directory of the cgroup that it is in, as far as this process can see it."""
        found = {}
        own = {hierarchy.name: hierarchy for hierarchy in self.layout.hierarchies}
        for line in self.read("cgroup").splitlines():
            _, names, path = line.split(":", 2)
            name = names.removeprefix("name=") or "unified"
            if name in own and not path.startswith("/.."):
                found[name] = own[name].mount_point + path.removesuffix(" (deleted)").rstrip("/")
        return found


def _namespace(directory: int, name: str) -> tuple[int, int] | None:
    try:
        found = posix.stat(name, dir_fd=directory)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _gone(pid: int) -> StateError:
    return StateError(f"process {pid} does not run", hint="give the pid of the container's init; see: pyruntime list")
