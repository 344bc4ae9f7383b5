"""/linux/maskedPaths and /linux/readonlyPaths (runtime-spec config-linux.md)."""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, KernelError, StepError
from pyruntime.features.rootfs import path
from pyruntime.kernel import mount
from pyruntime.kernel.constants import (
    ENOENT,
    ENOTDIR,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    S_IFCHR,
    S_IFDIR,
    S_IFMT,
)
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request


def plan(request: Request) -> Iterator[Step]:
    """ENTER, before the pivot: read-only paths first, so that a mask below one of them still covers it."""
    for index, name in enumerate(request.linux.get("readonlyPaths") or ()):
        yield Step(f"/linux/readonlyPaths/{index}", make_readonly, path=name)
    for index, name in enumerate(request.linux.get("maskedPaths") or ()):
        yield Step(f"/linux/maskedPaths/{index}", mask, path=name)


def make_readonly(init: InitActor, path: str) -> None:
    """make {path} read-only"""
    target = open_path(init, path)
    if target < 0:
        return
    fd = -1
    try:
        if _is_root(init, target):
            # A mount over the root would be below the working directory and the root of every process.
            mount.set_attributes(init.root_fd, set=MOUNT_ATTR_RDONLY, shown=path)
            return
        # The clone keeps nosuid, nodev and noexec of the mount it is taken from. Mounts below stay as they are:
        # a volume in a read-only directory is writable, like with runc.
        fd = mount.clone_tree("", dirfd=target, recursive=True)
        mount.set_attributes(fd, set=MOUNT_ATTR_RDONLY, shown=path)
        mount.attach(fd, target, path)
    finally:
        if fd >= 0:
            posix.close(fd)
        posix.close(target)


def mask(init: InitActor, path: str) -> None:
    """mask {path}"""
    target = open_path(init, path)
    if target < 0:
        return
    fd = -1
    try:
        found = posix.fstat(target)
        if found.st_mode & S_IFMT == S_IFDIR:
            if _is_root(init, target):
                raise ConfigError(
                    f"{path} is the root of the container and cannot be masked", hint="mask what is below it"
                )
            if init.empty_fd >= 0 and posix.fstat(init.empty_fd).st_dev == found.st_dev:
                return  # masked already, by another name or the same
            fd = empty_directory(init)
        elif _is_null(found):
            return
        else:
            fd = null_device()
        mount.attach(fd, target, path)
    finally:
        if fd >= 0:
            posix.close(fd)
        posix.close(target)


def _is_root(init: InitActor, fd: int) -> bool:
    return bool(posix.readlink(f"/proc/self/fd/{fd}") == init.rootfs)


def _is_null(found: posix.stat_result) -> bool:
    return found.st_mode & S_IFMT == S_IFCHR and found.st_rdev == posix.makedev(1, 3)


def open_path(init: InitActor, name: str) -> int:
    """Open a path below the root (O_PATH); -1 when it is not there: nothing to hide, nothing to protect.

    Below /proc and /sys from the very mount to hide: a process that shares the rootfs could have swapped the
    name for a link, so that a file of his own gets the mask (CVE-2019-19921)."""
    try:
        for place, fd in init.mounted.items():
            if not name.startswith(place + "/"):
                continue
            if ".." in name.split("/"):
                # `..` at the top of that mount would stay there, while the path means what is above it.
                return open_path(init, path.clean(name))
            return path.resolve(fd, name[len(place) :])
        return path.resolve(init.root_fd, name)
    except KernelError as error:
        if error.errno in (ENOENT, ENOTDIR):
            return -1
        raise


def null_device() -> int:
    """Return a detached mount of the host's /dev/null, never of the container's (CVE-2025-31133).

    Read-only: the device is written to as ever, but a chmod(2) of a masked file would be one of the host's device."""
    fd = mount.clone_tree("/dev/null")
    try:
        if not _is_null(posix.fstat(fd)):
            raise StepError("the host's /dev/null is not the device 1:3", hint="mknod -m 666 /dev/null c 1 3")
        attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC
        mount.set_attributes(fd, set=attributes, shown="/dev/null")
    except BaseException:
        posix.close(fd)
        raise
    return fd


def empty_directory(init: InitActor) -> int:
    """Return a detached read-only mount of an empty directory: one tmpfs for all masks of a container.

    A tmpfs for each would cost a superblock each, and its teardown at the container's end."""
    if init.empty_fd < 0:
        attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
        init.empty_fd = mount.new_filesystem("tmpfs", "tmpfs", ["nr_blocks=1", "nr_inodes=1"], attributes)
        return posix.dup(init.empty_fd)
    return mount.clone_tree("", dirfd=init.empty_fd)
