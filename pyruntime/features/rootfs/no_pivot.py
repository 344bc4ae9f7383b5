"""Entering a root without pivot_root(2), which fails on an initramfs: MS_MOVE and chroot(2)."""

from __future__ import annotations

import posix

from pyruntime.errors import KernelError
from pyruntime.kernel import mount
from pyruntime.kernel.constants import EINVAL, ENOENT, MNT_DETACH, O_PATH
from pyruntime.util import mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.plan.actors import InitActor


def move_root(init: InitActor) -> None:
    """move the rootfs over / and chroot(2) into it"""
    # The host's proc and sysfs stay mounted beneath the new root. Who may make a user namespace could reach
    # them again by mounting proc, which the kernel allows where a full one is visible: so cover them.
    for one in mountinfo.of("self"):
        if one.fstype not in ("proc", "sysfs") or one.place.startswith(init.rootfs + "/"):
            continue
        try:
            mount.umount(one.place, MNT_DETACH)
        except KernelError as error:
            if error.errno == EINVAL:
                mount.mount("tmpfs", one.place, "tmpfs", 0, None)
            elif error.errno != ENOENT:
                raise
    target = posix.open("/", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    mount.attach(init.root_fd, target, "/")
    posix.close(target)
    posix.fchdir(init.root_fd)
    posix.chroot(".")
    posix.chdir("/")
