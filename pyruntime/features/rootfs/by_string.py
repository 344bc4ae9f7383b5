"""mount(2), whose options are one string: for what the newer calls cannot take, and for remounts.

The target is a descriptor here too, by its name in the host's /proc.
"""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError
from pyruntime.features.rootfs import mount_options, path
from pyruntime.kernel import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.plan.actors import InitActor

_PAGE = 4096  # what mount(2) copies of its data


def mount_filesystem(
    init: InitActor,
    target: int,
    destination: str,
    type: str,
    source: str,
    data: list[str],
    set: int,
    legacy: int,
    copy_up: bool,
    propagation: list[tuple[int, bool]],
) -> None:
    """Mount what fsconfig(2) cannot take: MS_I_VERSION, and values of more than 255 bytes."""
    flags = legacy
    for attribute, flag in mount_options.MOUNT_FLAGS:
        if set & attribute:
            flags |= flag
    _mount_with_data(source, target, type, flags, data)
    if not (copy_up or propagation):
        return
    mounted = path.resolve(init.root_fd, destination)
    try:
        if copy_up:
            from pyruntime.features.rootfs import copyup  # in memory since the plan

            copyup.copy_tree(target, mounted)
        for kind, tree in propagation:
            mount.set_attributes(mounted, propagation=kind, recursive=tree, shown=destination)
    finally:
        posix.close(mounted)


def remount(init: InitActor, destination: str, flags: int, data: list[str]) -> None:
    """change the mount on {destination}"""
    target = path.resolve(init.root_fd, destination)
    try:
        _mount_with_data(None, target, None, flags, data)
    finally:
        posix.close(target)


def _mount_with_data(source: str | None, target: int, type: str | None, flags: int, data: list[str]) -> None:
    words = []
    for word in data:
        if word in mount_options.SUPERBLOCK:
            flags |= mount_options.SUPERBLOCK[word]
        else:
            words.append(word)
    text = ",".join(words)
    if len(text.encode()) >= _PAGE:
        raise ConfigError(
            f"the options for the filesystem have {len(text.encode())} bytes",
            why=f"mount(2) takes fewer than {_PAGE}, and would cut the rest off",
            hint="use shorter paths, or fewer layers",
        )
    mount.mount(source, f"/proc/self/fd/{target}", type, flags, text or None)
