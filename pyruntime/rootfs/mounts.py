"""/mounts: filesystems and binds below the rootfs.

A mount is made detached, gets its attributes in one call, and is attached to a descriptor of its destination:
no string of a path below the rootfs is given to mount(2) (CVE-2021-30465), and there is never a moment at
which it is there without its nosuid or ro.
"""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, KernelError
from pyruntime.kernel import files, mount
from pyruntime.kernel.constants import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_RDONLY,
    PROC_SUPER_MAGIC,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
)
from pyruntime.plan.step import Step
from pyruntime.rootfs import options, path
from pyruntime.start import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyruntime.plan.request import Request

_S_IFMT = 0o170000
_S_IFDIR = 0o040000

# What may be mounted inside /proc: files that lxcfs shows a container of its own (CVE-2019-16884: anything else
# there may be what the runtime, or an LSM, reads and writes).
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "slabinfo",
        "stat",
        "swaps",
        "uptime",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    )
)

_EPERM = 1
_LONGEST_SETTING = 255  # fsconfig(2) copies 256 bytes, the NUL among them


def plan(request: Request) -> Iterator[Step]:
    """BUILD: every entry of /mounts, in order."""
    for index, entry in enumerate(request.config.get("mounts") or ()):
        pointer = f"/mounts/{index}"
        kind = entry.get("type") or ""
        words = entry.get("options") or []
        if kind == "cgroup":
            from pyruntime.rootfs import cgroup_mounts

            yield from cgroup_mounts.plan(request, pointer, entry)
            continue
        parsed = options.parse(words)
        destination = _destination(request, entry)
        source = entry.get("source") or ""
        attributes = parsed.set & ~MOUNT_ATTR_RDONLY if late_readonly(entry, parsed) else parsed.set
        if parsed.bind or kind == "bind":
            if not source:
                raise ConfigError("is missing: a bind mount needs it", pointer=f"{pointer}/source")
            if parsed.data:
                request.warn(
                    f"config.json: {pointer}/options: a bind mount takes no filesystem options, "
                    f"left out: {' '.join(parsed.data)}"
                )
            idmap = None
            if parsed.idmap or entry.get("uidMappings") or entry.get("gidMappings"):
                from pyruntime.rootfs import idmapped

                idmap = idmapped.plan(request, pointer, entry, whole_tree=parsed.idmap == "ridmap")
            yield Step(
                pointer,
                bind,
                idmap=idmap,
                source=source if source.startswith("/") else f"{request.bundle}/{source}",
                recursive=parsed.recursive_bind,
                destination=destination,
                set=attributes,
                clear=parsed.clear,
                tree_set=parsed.tree_set,
                tree_clear=parsed.tree_clear,
                propagation=parsed.propagation,
            )
        else:
            if parsed.copy_up:
                from pyruntime.rootfs import copyup  # noqa: F401  # for init, which imports nothing
            yield Step(
                pointer,
                mount_filesystem,
                type=kind,
                source=source or kind,
                destination=destination,
                data=parsed.data,
                set=attributes,
                legacy=parsed.legacy,
                copy_up=parsed.copy_up,
                propagation=parsed.propagation,
            )


def plan_readonly(request: Request) -> Iterator[Step]:
    """ENTER: what had to stay writable until everything below it was made becomes read-only."""
    for index, entry in enumerate(request.config.get("mounts") or ()):
        if late_readonly(entry, options.parse(entry.get("options") or [])):
            yield Step(f"/mounts/{index}/options", make_readonly, destination=_destination(request, entry))


def late_readonly(entry: dict[str, Any], parsed: options.Options) -> bool:
    """Whether a read-only mount is made writable first: a tmpfs, and /dev, get mount points and nodes."""
    if not parsed.set & MOUNT_ATTR_RDONLY or parsed.bind:
        return False
    return entry.get("type") == "tmpfs" or entry["destination"].rstrip("/") == "/dev"


def _destination(request: Request, entry: dict[str, Any]) -> str:
    destination: str = entry["destination"]
    return destination if destination.startswith("/") else "/" + destination


def mount_filesystem(
    init: Any,
    destination: str,
    type: str,
    source: str,
    data: list[str],
    set: int,
    legacy: int,
    copy_up: bool,
    propagation: list[list[Any]],
) -> None:
    """mount {type} on {destination}"""
    target = open_destination(init, destination, type)
    try:
        if legacy or any(len(word) > _LONGEST_SETTING for word in data):
            _mount_by_string(init, target, destination, type, source, data, set, legacy, propagation)
            return
        fd = mount.new_filesystem(type, source, data, set)
        try:
            if copy_up:
                from pyruntime.rootfs import copyup  # in memory since `plan`

                copyup.copy_tree(target, fd)
            _attach(init, fd, target, destination, propagation)
        finally:
            posix.close(fd)
    finally:
        posix.close(target)


def _mount_by_string(
    init: Any,
    target: int,
    destination: str,
    type: str,
    source: str,
    data: list[str],
    set: int,
    legacy: int,
    propagation: list[list[Any]],
) -> None:
    """mount(2), for what fsconfig(2) cannot take: MS_I_VERSION, and values of more than 255 bytes.

    The target is a descriptor here too, by its name in the host's /proc."""
    flags = legacy
    for attribute, flag in options.MOUNT_FLAGS:
        if set & attribute:
            flags |= flag
    mount.mount(source, f"/proc/self/fd/{target}", type, flags, ",".join(data) or None)
    if propagation:
        mounted = path.resolve(init.root_fd, destination)
        for kind, tree in propagation:
            mount.set_attributes(mounted, propagation=kind, recursive=tree, shown=destination)
        posix.close(mounted)


def bind(
    init: Any,
    destination: str,
    source: str,
    recursive: bool,
    set: int,
    clear: int,
    tree_set: int,
    tree_clear: int,
    propagation: list[list[Any]],
    idmap: dict[str, Any] | None,
) -> None:
    """bind {source} on {destination}"""
    if idmap is None:
        fd = mount.clone_tree(source, recursive=recursive)
    else:
        init.channel.send(channel.MOUNT_PLEASE, {"source": source, "recursive": recursive, **idmap})
        fd = init.channel.expect(channel.MOUNT_FD)[1][0]
    try:
        is_directory = posix.fstat(fd).st_mode & _S_IFMT == _S_IFDIR
        target = open_destination(init, destination, "bind", directory=is_directory, source=fd)
        try:
            if set or clear:
                change_attributes(fd, set, clear, recursive=False, shown=destination)
            if tree_set or tree_clear:
                change_attributes(fd, tree_set, tree_clear, recursive=True, shown=destination)
            _attach(init, fd, target, destination, propagation)
        finally:
            posix.close(target)
    finally:
        posix.close(fd)


def make_readonly(init: Any, destination: str) -> None:
    """make the mount on {destination} read-only"""
    fd = path.resolve(init.root_fd, destination)
    try:
        mount.set_attributes(fd, set=MOUNT_ATTR_RDONLY, shown=destination)
    finally:
        posix.close(fd)


def change_attributes(fd: int, set: int, clear: int, *, recursive: bool, shown: str) -> None:
    """Set and clear attributes of a mount. What a more privileged mount namespace locked stays as it is.

    In a user namespace ro, nosuid, … of the host's mounts cannot be cleared (mount_namespaces(7), "locked"):
    a `rw` there is a wish of the engine, no reason to fail."""
    try:
        mount.set_attributes(fd, set=set, clear=clear, recursive=recursive, shown=shown)
    except KernelError as error:
        clear_needed = MOUNT_ATTR__ATIME if set & MOUNT_ATTR__ATIME else 0
        if error.errno != _EPERM or not clear & ~clear_needed:
            raise
        mount.set_attributes(fd, set=set, clear=clear & clear_needed, recursive=recursive, shown=shown)


def _attach(init: Any, fd: int, target: int, destination: str, propagation: list[list[Any]]) -> None:
    for kind, tree in propagation:
        mount.set_attributes(fd, propagation=kind, recursive=tree, shown=destination)
    mount.attach(fd, target, destination)


def open_destination(
    init: Any, destination: str, type: str, *, directory: bool = True, source: int = -1
) -> int:
    """Open the place for a mount (O_PATH), making what is missing. Raises ConfigError for a forbidden one.

    source is the detached mount for a bind."""
    root_fd = init.root_fd
    if not directory:
        fd = path.make_file(root_fd, destination)
    elif type in ("proc", "sysfs", "mqueue"):
        fd = _ordinary_directory(root_fd, destination, type)
    else:
        fd = path.make_directory(root_fd, destination)
    try:
        _refuse_inside_proc(init, fd, destination, type, source)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def _ordinary_directory(root_fd: int, destination: str, type: str) -> int:
    """The place for /proc or /sys, which may not be reached through a link (CVE-2019-19921, CVE-2023-27561)."""
    posix.close(path.make_directory(root_fd, destination))
    try:
        flags = path.O_PATH | posix.O_DIRECTORY
        return files.open_resolved(root_fd, destination, flags, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
    except KernelError as error:
        if error.errno != 40:  # ELOOP
            raise
        raise ConfigError(
            f"filesystem {type} must be mounted on ordinary directory: {destination} goes through a "
            "symbolic link of the rootfs",
            mend="make it a directory in the image",
        ) from None


def _refuse_inside_proc(init: Any, fd: int, destination: str, type: str, source: int) -> None:
    """Raise ConfigError for a mount over /proc, or inside it, that could fool what reads and writes there."""
    shown = posix.readlink(f"/proc/self/fd/{fd}")
    inside = shown[len(init.rootfs) :] if shown.startswith(init.rootfs + "/") else shown
    if inside == "/proc" and type != "proc":
        if source >= 0 and files.filesystem_magic(source) == PROC_SUPER_MAGIC:
            return
    elif not inside.startswith("/proc/") or inside in _PROC_FILES or files.filesystem_magic(fd) != PROC_SUPER_MAGIC:
        return
    if inside == "/proc" and type == "proc":
        return
    raise ConfigError(
        f'"{destination}" cannot be mounted because it is inside /proc',
        why="what the runtime and the kernel's security modules read and write there must be the kernel's",
        mend="mount it somewhere else",
    )
