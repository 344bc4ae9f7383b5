"""Mounts whose owners are shifted: mounts[].uidMappings and gidMappings, options idmap and ridmap.

mount_setattr(2) with MOUNT_ATTR_IDMAP takes rights over the filesystem, which init in its user namespace has
not: init asks (`procMountPlease`), the parent opens the source in init's mount namespace, where earlier mounts
are seen, maps it, and sends the detached mount.
"""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, KernelError, from_oserror
from pyruntime.features.namespaces import id_maps
from pyruntime.features.rootfs import sources
from pyruntime.kernel import mount, process
from pyruntime.kernel.constants import CLONE_NEWUSER, EINVAL, MOUNT_ATTR_IDMAP, SIGKILL
from pyruntime.kernel.pidfd import send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.plan.actors import ParentActor
    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import Mount


def plan(request: Request, pointer: str, entry: Mount, *, whole_tree: bool) -> dict[str, object]:
    """What init asks the parent for, of an entry of /mounts. Raises ConfigError for what cannot be mapped."""
    if request.rootless:
        raise ConfigError(
            "mapped mounts are for root only",
            pointer=pointer,
            why="mount_setattr(2) with MOUNT_ATTR_IDMAP needs CAP_SYS_ADMIN over the filesystem",
            hint="leave out idmap and the mappings of the mount",
        )
    if not entry.get("uidMappings") and not request.namespace("user")[0]:
        raise ConfigError(
            "has no mappings, and the container has no user namespace to take them from",
            pointer=pointer,
            hint="add uidMappings and gidMappings to the mount",
        )
    maps = {
        file: [[line["containerID"], line["hostID"], line["size"]] for line in lines or ()]
        for file, lines in (("uid_map", entry.get("uidMappings")), ("gid_map", entry.get("gidMappings")))
    }
    return {"whole_tree": whole_tree, "maps": maps}


def open_mapped(
    parent: ParentActor,
    *,
    source: str,
    recursive: bool,
    whole_tree: bool,
    maps: dict[str, list[list[int]]],
) -> int:
    """Return, in the parent, a detached, mapped copy of the mount at source, for its init.

    Without maps the container's own user namespace gives them. Raises StepError."""
    try:
        userns = user_namespace(maps) if any(maps.values()) else _open(f"/proc/{parent.pid}/ns/user")
        try:
            with sources.Inside(parent.pid):
                try:
                    fd = _clone(source, recursive, whole_tree, userns)
                except KernelError as error:
                    if error.errno != EINVAL or recursive:
                        raise
                    fd = -1
            # In a user namespace a mount that another one lies on cannot be had without that.
            return fd if fd >= 0 else _clone(source, recursive, whole_tree, userns)
        finally:
            posix.close(userns)
    except OSError as error:
        raise from_oserror(error, doing=f"map the owners of {source}") from error


def _clone(source: str, recursive: bool, whole_tree: bool, userns: int) -> int:
    fd = mount.clone_tree(source, recursive=recursive)
    try:
        mount.set_attributes(fd, set=MOUNT_ATTR_IDMAP, recursive=whole_tree, userns_fd=userns, shown=source)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def _open(path: str) -> int:
    return posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)


class _Holder:
    """What idmap.write_map writes for: a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid


def user_namespace(maps: dict[str, list[list[int]]]) -> int:
    """Return a user namespace with these maps, uid_map and gid_map -> [[inside, outside, count]]: that of a process
    which does nothing and is ended here. Gives back a descriptor, close-on-exec; raises KernelError."""
    read_end, write_end = posix.pipe2(posix.O_CLOEXEC)
    pid, pidfd = process.clone(CLONE_NEWUSER)
    if pid == 0:
        posix.close(write_end)
        posix.read(read_end, 1)
        posix._exit(0)
    posix.close(read_end)
    try:
        for file, lines in maps.items():
            id_maps.write_map(_Holder(pid), file, lines, rootless=False)
        return _open(f"/proc/{pid}/ns/user")
    finally:
        posix.close(write_end)
        send_signal(pidfd, SIGKILL)
        posix.waitpid(pid, 0)
        posix.close(pidfd)
