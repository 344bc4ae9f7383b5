"""Mounts: mount(2), umount2(2), pivot_root(2) and the descriptor-based calls of Linux 5.2 and 5.12."""

from __future__ import annotations

import posix

from pyruntime.errors import KernelError
from pyruntime.kernel.call import NULL, check, ffi, lib, text
from pyruntime.kernel.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    AT_SYMLINK_NOFOLLOW,
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_FD,
    FSCONFIG_SET_FLAG,
    FSCONFIG_SET_STRING,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None) -> None:
    """mount(2)."""
    check(
        lib.shim_mount(
            NULL if source is None else text(source),
            text(target),
            NULL if fstype is None else text(fstype),
            flags,
            NULL if data is None else text(data),
        ),
        "mount",
        source,
        target,
        fstype,
        hex(flags),
        data,
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    check(lib.shim_umount2(text(target), flags), "umount2", target, hex(flags))


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    check(lib.shim_pivot_root(text(new_root), text(put_old)), "pivot_root", new_root, put_old)


def clone_tree(path: str, *, dirfd: int = AT_FDCWD, recursive: bool = False, follow: bool = True) -> int:
    """Copy a mount, or the tree of mounts, at a path into a detached one: open_tree(2) with OPEN_TREE_CLONE.

    An empty path means what dirfd itself is. follow: a symbolic link at the end of the path stands for its target.
    Gives back a descriptor, close-on-exec."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    words = "OPEN_TREE_CLONE"
    if recursive:
        flags |= AT_RECURSIVE
        words += "|AT_RECURSIVE"
    if not path:
        flags |= AT_EMPTY_PATH
    if not follow:
        flags |= AT_SYMLINK_NOFOLLOW
    return check(lib.shim_open_tree(dirfd, text(path), flags), "open_tree", path or f"fd {dirfd}", words)


def attach(mount_fd: int, target_fd: int, shown: str) -> None:
    """Attach a detached mount on what target_fd (O_PATH) stands for: move_mount(2), no path involved."""
    check(
        lib.shim_move_mount(mount_fd, b"", target_fd, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH),
        "move_mount",
        shown,
    )


def set_attributes(
    fd: int,
    *,
    set: int = 0,
    clear: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    userns_fd: int = 0,
    shown: str = "",
) -> None:
    """mount_setattr(2) on the mount that a descriptor stands for; MOUNT_ATTR_* and MS_SHARED and the like."""
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    check(
        lib.shim_mount_setattr(fd, b"", flags, set, clear, propagation, userns_fd),
        "mount_setattr",
        shown or f"fd {fd}",
        f"set={set:#x}",
        f"clear={clear:#x}",
        f"propagation={propagation:#x}",
    )


def set_propagation(path: str, propagation: int, *, recursive: bool) -> None:
    """mount(2) of MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE on the mount at a path of the host."""
    flags = AT_RECURSIVE if recursive else 0
    check(
        lib.shim_mount_setattr(AT_FDCWD, text(path), flags, 0, 0, propagation, 0),
        "mount_setattr",
        path,
        f"propagation={propagation:#x}",
    )


def open_proc(namespace: int) -> int:
    """fsopen(2) of a proc filesystem that shows a pid namespace: a descriptor of its context, close-on-exec.

    Raises KernelError, EINVAL where the kernel has no option pidns (before Linux 6.17)."""
    context = check(lib.shim_fsopen(b"proc", FSOPEN_CLOEXEC), "fsopen", "proc")
    result = lib.shim_fsconfig(context, FSCONFIG_SET_FD, b"pidns", NULL, namespace)
    if result < 0:
        posix.close(context)
        raise KernelError(-result, "fsconfig", ("pidns",))
    return context


def open_filesystem_in_child(fstype: str) -> int:
    """fsopen(2) by a child that has only this process's descriptors and capabilities: a descriptor of the context."""
    return check(lib.shim_fsopen_in_child(text(fstype)), "fsopen", fstype)


def new_filesystem(fstype: str, source: str, settings: list[str], attributes: int, context: int | None = None) -> int:
    """Make a filesystem and a detached mount of it: fsopen(2), fsconfig(2), fsmount(2).

    settings are `key=value` or bare words, attributes MOUNT_ATTR_*; context is of an fsopen(2) that was made before,
    and is closed. Raises KernelError whose message holds
    what the filesystem itself said. Gives back a descriptor of the mount, close-on-exec."""
    if context is None:
        context = check(lib.shim_fsopen(text(fstype), FSOPEN_CLOEXEC), "fsopen", fstype)
    try:
        if source:
            _configure(context, FSCONFIG_SET_STRING, "source", source)
        _set(context, settings)
        _configure(context, FSCONFIG_CMD_CREATE, None, None)
        return check(lib.shim_fsmount(context, FSMOUNT_CLOEXEC, attributes), "fsmount", fstype)
    except KernelError as error:
        error.arguments += tuple(_complaints(context))
        raise
    finally:
        posix.close(context)


def try_settings(fstype: str, settings: list[str]) -> None:
    """Check settings of a filesystem without making it: new_filesystem without its last two calls. Raises like that."""
    context = check(lib.shim_fsopen(text(fstype), FSOPEN_CLOEXEC), "fsopen", fstype)
    try:
        _set(context, settings)
    except KernelError as error:
        error.arguments += tuple(_complaints(context))
        raise
    finally:
        posix.close(context)


def _set(context: int, settings: list[str]) -> None:
    for setting in settings:
        key, equals, value = setting.partition("=")
        if equals:
            _configure(context, FSCONFIG_SET_STRING, key, value)
        else:
            _configure(context, FSCONFIG_SET_FLAG, key, None)


def _configure(context: int, command: int, key: str | None, value: str | None) -> None:
    result = lib.shim_fsconfig(
        context, command, NULL if key is None else text(key), NULL if value is None else text(value), 0
    )
    if result < 0:
        shown = () if key is None else (key,) if value is None else (f"{key}={value}",)
        raise KernelError(-result, "fsconfig", shown or ("CMD_CREATE",))


def _complaints(context: int) -> list[str]:
    """Return what the filesystem wrote to its context's log: lines such as `e tmpfs: Bad value for 'size'`."""
    lines = []
    buffer = ffi.new("char[]", 1024)
    while (size := lib.shim_read_log(context, buffer, 1024)) > 0:
        lines.append(ffi.string(buffer, size).decode("utf-8", "replace").strip())
    return lines


def mount_id(fd: int) -> int:
    """Return the id of the mount a descriptor is on, as in /proc/self/mountinfo: statx(2), STATX_MNT_ID."""
    found = ffi.new("unsigned long long *")
    check(lib.shim_mount_id(fd, found), "statx", f"fd {fd}")
    return int(found[0])
