"""Mounts of a Create request: the root filesystem of the bundle, usually a snapshot."""

from __future__ import annotations

import posix

from pyruntime.errors import KernelError, StepError
from pyruntime.features.rootfs import mount_options, path
from pyruntime.kernel import mount, process
from pyruntime.kernel.constants import (
    CLONE_NEWNS,
    EINVAL,
    ENOENT,
    MNT_DETACH,
    MOUNT_ATTR_IDMAP,
    MS_BIND,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
    O_PATH,
    UMOUNT_NOFOLLOW,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.shim.message_types import Mount

_PAGE = 4096  # what mount(2) copies of its data
_GONE = (ENOENT, EINVAL)  # nothing is mounted there
_LAYERED = ("overlay", "bind")
_MAPS = ("uidmap", "gidmap")
_LAYERS = ("lowerdir", "upperdir", "workdir")


def mount_all(mounts: list[Mount], rootfs: str) -> None:
    """Mount in order on rootfs, or on their target below it. Changes the working directory. Raises KernelError;
    nothing is mounted then."""
    if mounts:
        try:
            posix.mkdir(rootfs, 0o711)
        except FileExistsError:
            pass
    try:
        for one in mounts:
            _mount(one, _below(rootfs, one["target"]) if one["target"] else rootfs)
    except BaseException:
        unmount(rootfs)
        raise


def _below(rootfs: str, target: str) -> str:
    """Resolve a target within rootfs: symbolic links belong to the image and must not leave it. Raises KernelError."""
    root = posix.open(rootfs, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        place = path.resolve(root, target)
    finally:
        posix.close(root)
    try:
        return posix.readlink(f"/proc/self/fd/{place}")
    finally:
        posix.close(place)


def _mount(one: Mount, target: str) -> None:
    words = one["options"]
    maps = {name: [word.partition("=")[2] for word in words if word.startswith(f"{name}=")] for name in _MAPS}
    if any(maps.values()):
        rest = [word for word in words if word.partition("=")[0] not in _MAPS]
        _mount_mapped({**one, "options": rest}, target, {f"{name[:3]}_map": lines for name, lines in maps.items()})
        return
    wanted = mount_options.parse(words)
    attributes = wanted.for_one_mount()
    flags = 0
    for attribute, flag in mount_options.MOUNT_FLAGS:
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
            if word in mount_options.SUPERBLOCK:
                flags |= mount_options.SUPERBLOCK[word]
            else:
                words.append(word)
        data = ",".join(shortened(words))
        if len(data.encode()) >= _PAGE:
            raise StepError(
                f"the options of the root filesystem have {len(data.encode())} bytes",
                why=f"mount(2) is limited to {_PAGE} bytes, and truncates longer ones",
                hint="use an image with fewer layers",
            )
        mount.mount(one["source"], target, one["type"], flags | wanted.legacy, data or None)
    for kind, tree_too in wanted.propagation:
        mount.set_propagation(target, kind, recursive=tree_too)


def _mount_mapped(one: Mount, target: str, given: dict[str, list[str]]) -> None:
    """Mount with other owners: those of an overlay's lower layers, or of another filesystem, are shifted.

    containerd 2 asks so for a container with a user namespace, in place of a copy of the image for each set of maps.
    The mounts that this takes are made in mounts of this process's own, so that none is left if it is killed.
    given: uid_map and gid_map -> ["0:400000:65536"], inside, outside and count, or several with commas. Raises
    StepError for others, KernelError for what the kernel does not take."""
    from pyruntime.features.rootfs import idmapped

    maps = {name: [_numbers(line) for word in words for line in word.split(",")] for name, words in given.items()}
    place = posix.open(target, O_PATH | posix.O_CLOEXEC)
    ours = posix.open("/proc/self/ns/mnt", posix.O_RDONLY | posix.O_CLOEXEC)
    userns = idmapped.user_namespace(maps)
    process.unshare(CLONE_NEWNS)
    try:
        mount.set_propagation("/", MS_SLAVE, recursive=True)
        mount.mount("tmpfs", target, "tmpfs", 0, "mode=700")
        whole = f"{target}/whole"
        posix.mkdir(whole)
        if one["type"] == "overlay":
            words = [_with_mapped_layers(word, target, userns) for word in one["options"]]
            _mount({**one, "options": words}, whole)
            made = mount.clone_tree(whole)
        else:
            _mount(one, whole)
            made = mount.clone_tree(whole, recursive=True)
            mount.set_attributes(made, set=MOUNT_ATTR_IDMAP, userns_fd=userns, shown=one["source"])
    finally:
        process.setns(ours, CLONE_NEWNS)
    mount.attach(made, place, target)
    for fd in (made, place, ours, userns):
        posix.close(fd)


def _numbers(line: str) -> list[int]:
    words = line.split(":")
    if len(words) != 3 or not all(word.isdecimal() for word in words):
        said = f"the root filesystem has an option uidmap or gidmap of {line!r}"
        raise StepError(said, hint="give INSIDE:OUTSIDE:COUNT")
    return [int(word) for word in words]


def _with_mapped_layers(word: str, folder: str, userns: int) -> str:
    """Return an option of overlay; if it is lowerdir, with mapped copies of the layers, which are mounted below
    folder."""
    name, _, value = word.partition("=")
    if name != "lowerdir":
        return word
    copies = []
    for number, layer in enumerate(value.split(":")):
        copies.append(f"{folder}/{number}")
        posix.mkdir(copies[-1])
        fd = mount.clone_tree(layer)
        mount.set_attributes(fd, set=MOUNT_ATTR_IDMAP, userns_fd=userns, shown=layer)
        place = posix.open(copies[-1], O_PATH | posix.O_CLOEXEC)
        mount.attach(fd, place, copies[-1])
        posix.close(place)
        posix.close(fd)
    return f"{name}={':'.join(copies)}"


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
    """Unmount everything on rootfs; release an overlay only when this process exits. types: of the filesystems.

    To release an overlay writes its upper layer to disk, which takes 5 to 20 ms. containerd needs only that the
    mount is detached, so a descriptor keeps it until the response is sent. A filesystem on a block device must
    be released first, since containerd may remove the device."""
    if types and all(type in _LAYERED for type in types):
        try:
            posix.open(rootfs, O_PATH | posix.O_CLOEXEC)  # closed when the process exits
        except OSError:
            pass
    unmount(rootfs)


def unmount(rootfs: str) -> None:
    """Unmount everything on rootfs."""
    while True:
        try:
            mount.umount(rootfs, MNT_DETACH | UMOUNT_NOFOLLOW)
        except KernelError as error:
            if error.errno in _GONE:
                return
            raise
