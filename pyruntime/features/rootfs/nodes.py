"""Device nodes for a container that can make none itself: in a user namespace mknod(2) is forbidden.

init asks (`procMountPlease`) for one that the host lacks. The parent makes it on a tmpfs that is mounted nowhere, and
which the host's user namespace owns: on one of the container's no device could be opened. init binds the node from it.
"""

from __future__ import annotations

import posix

from pyruntime.errors import KernelError, StepError
from pyruntime.features.process import user
from pyruntime.kernel import mount
from pyruntime.kernel.constants import EPERM, MNT_DETACH, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.plan.actors import InitActor, ParentActor

_NAME = "node"


def clone(init: InitActor, directory: int, **node: str | int) -> int:
    """Return, in init, a detached mount of a new device node; directory is any of the container's. Raises StepError.

    node: what `make` takes."""
    shown = str(node["path"])
    made = init.ask_parent({"source": shown, "node": node})
    try:
        # A mount that is mounted nowhere cannot be copied from before Linux 6.15: mount it for a moment.
        mount.attach(made, directory, shown)
        try:
            return mount.clone_tree(_NAME, dirfd=made)
        finally:
            mount.umount(f"/proc/self/fd/{made}", MNT_DETACH)
    finally:
        posix.close(made)


def make(parent: ParentActor, *, path: str, kind: int, number: int, mode: int, uid: int, gid: int) -> int:
    """Return, in the parent, a detached tmpfs with the node in it, uid and gid are in the container's user namespace.

    Raises StepError."""
    owner = [user.outside(parent.pid, "uid_map", uid), user.outside(parent.pid, "gid_map", gid)]
    if -1 in owner:
        raise StepError(
            f"the owner {uid}:{gid} of {path} is not mapped in the user namespace",
            hint="correct uid and gid of the device, or the mappings",
        )
    fd = mount.new_filesystem("tmpfs", "tmpfs", ["mode=755"], MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
    try:
        try:
            posix.mknod(_NAME, kind | 0o600, number, dir_fd=fd)
        except PermissionError:
            raise StepError(
                f"{path} is missing on the host, and this process may not make devices (mknod: EPERM)",
                why="the container's user namespace cannot have other devices than the host's",
                hint="make the device on the host, or leave it out",
                errno="ENOENT",
            ) from None
        except OSError as error:
            raise KernelError(error.errno or EPERM, "mknodat", (path,)) from None
        posix.chown(_NAME, *owner, dir_fd=fd, follow_symlinks=False)
        posix.chmod(_NAME, mode, dir_fd=fd)
    except BaseException:
        posix.close(fd)
        raise
    return fd
