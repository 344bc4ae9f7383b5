"""The root itself: prepared in the host's tree, entered by pivot_root(2), read-only, its propagation."""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, KernelError
from pyruntime.features.rootfs import mount_options, sources
from pyruntime.kernel import mount
from pyruntime.kernel.constants import (
    EINVAL,
    MNT_DETACH,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    O_PATH,
    S_IFDIR,
    S_IFMT,
)
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request


def plan_prepare(request: Request) -> Iterator[Step]:
    """BUILD: the first step below the rootfs."""
    if not request.config.get("root"):
        raise ConfigError(
            "is required and missing",
            pointer="/root",
            hint='add "root": {"path": "rootfs"}, with the unpacked image there',
        )
    asked = request.linux.get("rootfsPropagation") or ""
    kind, _ = mount_options.propagation_of(asked or "rslave")
    own, _ = request.namespace("mount")
    pointer = "/root/path"
    # A root that is not asked to be a slave gets no mounts from a shared root of the host.
    top = kind if asked and kind in (MS_PRIVATE, MS_SLAVE) else MS_PRIVATE
    yield Step(pointer, prepare, rootfs=request.rootfs(), propagation=kind, own_mounts=own, top=top)


def plan_enter(request: Request) -> Iterator[Step]:
    """ENTER: away from the host's tree."""
    own, _ = request.namespace("mount")
    if not own:
        yield Step("/linux/namespaces", change_root)
    elif request.pivot:
        shared = mount_options.propagation_of(request.linux.get("rootfsPropagation") or "rslave")[0] == MS_SHARED
        yield Step("/root/path", pivot, shared=shared)
    else:
        from pyruntime.features.rootfs import no_pivot

        yield Step("/root/path", no_pivot.move_root)


def plan_propagation(request: Request) -> Iterator[Step]:
    """ENTER: the propagation of the new root, where it could not be had before pivot_root(2)."""
    word = request.linux.get("rootfsPropagation") or ""
    if word and mount_options.propagation_of(word)[0] not in (MS_PRIVATE, MS_SLAVE):
        kind, tree = mount_options.propagation_of(word)
        yield Step("/linux/rootfsPropagation", set_propagation, word=word, propagation=kind, tree=tree)


def plan_readonly(request: Request) -> Iterator[Step]:
    """ENTER: /root/readonly, once nothing has to be made in it any more."""
    if (request.config.get("root") or {}).get("readonly"):
        yield Step("/root/readonly", make_readonly)


def prepare(init: InitActor, rootfs: str, propagation: int, own_mounts: bool, top: int) -> None:
    """bind the rootfs {rootfs} on itself"""
    try:
        target = sources.open_path(init, rootfs)
    except (FileNotFoundError, NotADirectoryError):
        raise _no_rootfs(rootfs) from None
    if posix.fstat(target).st_mode & S_IFMT != S_IFDIR:
        raise _no_rootfs(rootfs)
    real = posix.readlink(f"/proc/self/fd/{target}")
    if real == "/":
        raise ConfigError("rootfs / is the host's own root", hint="give a directory of its own")
    if own_mounts:
        early = propagation if propagation in (MS_SHARED, MS_PRIVATE) else MS_SLAVE
        mount.set_propagation("/", early, recursive=True)
        if early == MS_SHARED:
            # Else the mounts below would show up on the host, and pivot_root(2) refuses a shared parent.
            _make_containing_mount_private(real)
    init.root_fd = mount.clone_tree("", dirfd=target, recursive=True)
    mount.set_attributes(init.root_fd, propagation=top, shown=rootfs)
    mount.attach(init.root_fd, target, rootfs)
    posix.close(target)
    init.rootfs = real


def _no_rootfs(rootfs: str) -> ConfigError:
    return ConfigError(
        f"rootfs {rootfs} does not exist or is not a directory",
        hint="unpack an image there, or correct root.path",
    )


def _make_containing_mount_private(directory: str) -> None:
    """Make the mount that a directory is on private: the nearest name upwards that is a mount point."""
    while True:
        try:
            mount.set_propagation(directory or "/", MS_PRIVATE, recursive=False)
            return
        except KernelError as error:
            if error.errno != EINVAL or not directory:
                raise
        directory = directory.rpartition("/")[0]


def pivot(init: InitActor, shared: bool) -> None:
    """pivot_root(2) into the rootfs"""
    old = posix.open("/", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        posix.fchdir(init.root_fd)
        mount.pivot_root(".", ".")
        posix.fchdir(old)
        if shared:
            # The unmount below must not reach the host.
            mount.set_attributes(old, propagation=MS_SLAVE, recursive=True, shown="old root")
        mount.umount(".", MNT_DETACH)
        posix.chdir("/")
    finally:
        posix.close(old)


def change_root(init: InitActor) -> None:
    """chroot(2) into the rootfs: without a mount namespace of its own, a pivot would take the host's root"""
    posix.fchdir(init.root_fd)
    posix.chroot(".")
    posix.chdir("/")


def set_propagation(init: InitActor, word: str, propagation: int, tree: bool) -> None:
    """make the propagation of the root {word}"""
    mount.set_attributes(init.root_fd, propagation=propagation, recursive=tree, shown="/")


def make_readonly(init: InitActor) -> None:
    """make the root read-only"""
    mount.set_attributes(init.root_fd, set=MOUNT_ATTR_RDONLY, shown="/")
