"""The mounts of a container without a mount namespace of its own: they are the host's, and are undone with it."""

from __future__ import annotations

import posix

from pyruntime.errors import KernelError
from pyruntime.kernel import mount
from pyruntime.kernel.constants import EINVAL, ENOENT, MNT_DETACH, O_PATH, UMOUNT_NOFOLLOW
from pyruntime.util import mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.state.store import Record


def detach(record: Record) -> None:
    """Take away the bind of the rootfs on itself, and with it all that a container without a mount namespace
    of its own has mounted below and on it. In another mount namespace than create's there is nothing to do."""
    foreign = int(record.extra.get("foreign_mounts", 0))
    # Counted again each time: an unmount that propagates may take away two.
    while count(record.host_mounts) > foreign:
        try:
            mount.umount(record.host_mounts, MNT_DETACH | UMOUNT_NOFOLLOW)
        except KernelError as error:
            if error.errno in (ENOENT, EINVAL):  # gone meanwhile
                return
            raise


def count(directory: str) -> int:
    """Return how many mounts lie on a directory, one over the other (proc(5), mountinfo)."""
    try:
        fd = posix.open(directory, O_PATH | posix.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    place = posix.readlink(f"/proc/self/fd/{fd}")
    posix.close(fd)
    return sum(one.place == place for one in mountinfo.of("self"))
