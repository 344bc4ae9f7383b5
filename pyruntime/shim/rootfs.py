"""The mounts that the engine gives with Create: the root filesystem of the bundle, a snapshot for most."""

from __future__ import annotations

import posix

from pyruntime.errors import KernelError, StepError
from pyruntime.kernel import mount
from pyruntime.kernel.constants import MNT_DETACH, MS_BIND, MS_REC, MS_REMOUNT, UMOUNT_NOFOLLOW
from pyruntime.rootfs import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PAGE = 4096  # what mount(2) copies of its data
_GONE = (2, 22)  # ENOENT, EINVAL: nothing is mounted there
_O_PATH = 0o10000000
_LAYERED = ("overlay", "bind")
_LAYERS = ("lowerdir", "upperdir", "workdir")


def mount_all(mounts: list[dict[str, Any]], rootfs: str) -> None:
    """Mount one after the other on rootfs, or below it where they say. Changes the working directory; raises
    KernelError, and then nothing is mounted."""
    if mounts:
        try:
            posix.mkdir(rootfs, 0o711)
        except FileExistsError:
            pass
    try:
        for one in mounts:
            _mount(one, f"{rootfs}/{one['target']}" if one["target"] else rootfs)
    except BaseException:
        unmount(rootfs)
        raise


def _mount(one: dict[str, Any], target: str) -> None:
    wanted = options.parse(one["options"])
    attributes = wanted.for_one_mount()
    flags = 0
    for attribute, flag in options.MOUNT_FLAGS:
        if attributes & attribute:
            flags |= flag
    if wanted.bind or one["type"] in ("bind", "rbind"):
        tree = MS_REC if wanted.recursive_bind or one["type"] == "rbind" else 0
        mount.mount(one["source"], target, None, MS_BIND | tree, None)
        if flags:
            mount.mount(None, target, None, MS_BIND | MS_REMOUNT | flags, None)
    else:
        words = []
        for word in wanted.data:
            if word in options.SUPERBLOCK:
                flags |= options.SUPERBLOCK[word]
            else:
                words.append(word)
        data = ",".join(shortened(words))
        if len(data.encode()) >= _PAGE:
            raise StepError(
                f"the options of the root filesystem have {len(data.encode())} bytes",
                why=f"mount(2) takes fewer than {_PAGE}, and would cut the rest off",
                mend="use an image of fewer layers",
            )
        mount.mount(one["source"], target, one["type"], flags | wanted.legacy, data or None)
    for kind, tree_too in wanted.propagation:
        mount.set_propagation(target, kind, recursive=tree_too)


def shortened(words: list[str]) -> list[str]:
    """overlay's options with paths from the working directory, which this changes, when they are too long else:
    many layers have long paths that begin alike."""
    if len(",".join(words).encode()) < _PAGE:
        return words
    values = dict(word.split("=", 1) for word in words if word.partition("=")[0] in _LAYERS)
    paths = [path for value in values.values() for path in value.split(":")]
    common = paths[0].rpartition("/")[0]
    while common and not all(path.startswith(common + "/") for path in paths):
        common = common.rpartition("/")[0]
    if not common:
        return words
    posix.chdir(common)
    short = []
    for word in words:
        name, _, value = word.partition("=")
        if name in _LAYERS:
            value = ":".join(path.removeprefix(common + "/") for path in value.split(":"))
            word = f"{name}={value}"
        short.append(word)
    return short


def detach(rootfs: str, types: list[str]) -> None:
    """Take away everything that is mounted on rootfs, by filesystems of these types; an overlay's end may come later.

    That end writes its upper layer to disk, which takes 5 to 20 ms. The mount is gone from every path at once, and
    the engine needs no more: so hold it by a descriptor, and answer first. A filesystem with a device of its own
    must be off that device before the engine goes on."""
    if types and all(type in _LAYERED for type in types):
        try:
            posix.open(rootfs, _O_PATH | posix.O_CLOEXEC)  # closed by the end of the process
        except OSError:
            pass
    unmount(rootfs)


def unmount(rootfs: str) -> None:
    """Take away everything that is mounted on rootfs."""
    while True:
        try:
            mount.umount(rootfs, MNT_DETACH | UMOUNT_NOFOLLOW)
        except KernelError as error:
            if error.errno in _GONE:
                return
            raise
