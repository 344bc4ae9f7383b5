"""Sources of mounts: files and directories of the host, as seen in the container's own mount namespace.

init opens them itself. Root of a user namespace may not search a directory that only the host's root may: then
init asks the parent (`procMountPlease`), which enters init's mount namespace for one openat(2). There the mounts
that were made before are seen, and what the host has locked stays locked (mount_namespaces(7)).
"""

from __future__ import annotations

import posix

from pyruntime.errors import KernelError, PyruntimeError, from_oserror
from pyruntime.kernel import mount, process
from pyruntime.kernel.constants import CLONE_NEWNS
from pyruntime.runtime import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_O_PATH = 0o10000000
_EPERM, _EACCES = 1, 13


def clone(init: Any, source: str, *, recursive: bool = False, follow: bool = True) -> int:
    """In init: a detached copy of the mount, or the tree of mounts, at a path of the host. Raises KernelError.

    follow: a symbolic link at the end of the path stands for its target."""
    try:
        return mount.clone_tree(source, recursive=recursive, follow=follow)
    except KernelError as error:
        if not _may_ask(init, source, error):
            raise
    fd = _ask(init, source, follow)
    try:
        return mount.clone_tree("", dirfd=fd, recursive=recursive)
    finally:
        posix.close(fd)


def open_path(init: Any, source: str, *, follow: bool = True) -> int:
    """In init: open a path of the host (O_PATH). Raises OSError."""
    try:
        return _open(source, follow)
    except PermissionError as error:
        if not _may_ask(init, source, error):
            raise
    return _ask(init, source, follow)


def _open(source: str, follow: bool) -> int:
    return posix.open(source, _O_PATH | posix.O_CLOEXEC | (0 if follow else posix.O_NOFOLLOW))


def _may_ask(init: Any, source: str, error: OSError) -> bool:
    """Whether the parent may open what init may not: nothing below the rootfs, whose links the image decides."""
    return error.errno == _EACCES and not (init.rootfs and source.startswith(init.rootfs + "/"))


def _ask(init: Any, source: str, follow: bool) -> int:
    init.channel.send(channel.MOUNT_PLEASE, {"source": source, "follow": follow})
    return int(init.channel.expect(channel.MOUNT_FD)[1][0])


def serve(parent: Any, arg: dict[str, Any]) -> None:
    """In the parent: answer `procMountPlease`, with a descriptor or with what went wrong."""
    try:
        if "maps" in arg:
            from pyruntime.features.rootfs import idmapped

            fd = idmapped.open_mapped(parent, **arg)
        elif "node" in arg:
            from pyruntime.features.rootfs import nodes

            fd = nodes.make(parent, **arg["node"])
        else:
            fd = _open_for_init(parent, **arg)
    except OSError as error:
        parent.channel.send_error(from_oserror(error, doing=f"open {arg['source']}"))
        return
    except PyruntimeError as error:
        parent.channel.send_error(error)
        return
    parent.channel.send(channel.MOUNT_FD, None, (fd,))
    posix.close(fd)


def _open_for_init(parent: Any, *, source: str, follow: bool) -> int:
    if not parent.request.has_new("mount"):
        # What a path means in a namespace that others have is theirs to decide, and the rights here are the host's.
        raise KernelError(_EACCES, "open_tree", (source,))
    try:
        with Inside(parent.pid):
            return _open(source, follow)
    except KernelError as error:
        if error.errno != _EPERM:
            raise
        raise KernelError(_EACCES, "open_tree", (source,)) from None  # an ordinary user cannot enter: no other rights
    except OSError as error:
        raise KernelError(error.errno or _EACCES, "open_tree", (source,)) from None


class Inside:
    """A context in which this process is among the mounts of another, with its root, by its pid."""

    __slots__ = ("back", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.back: list[int] = []

    def __enter__(self) -> None:
        back = [_namespace("self"), _open("/", True), _open(".", True)]
        there = [_namespace(str(self.pid)), _open(f"/proc/{self.pid}/root", True)]
        if posix.fstat(back[0]).st_ino == posix.fstat(there[0]).st_ino:
            _close(back + there)
            return
        self.back = back
        try:
            process.setns(there[0], CLONE_NEWNS, "of the container's init")
            # setns(2) moves root and working directory to the root of the namespace, which may not be the caller's.
            posix.fchdir(there[1])
            posix.chroot(".")
        except BaseException:
            self.__exit__()
            raise
        finally:
            _close(there)

    def __exit__(self, *error: object) -> None:
        if not self.back:
            return
        namespace, root, directory = self.back
        process.setns(namespace, CLONE_NEWNS)
        posix.fchdir(root)
        posix.chroot(".")
        posix.fchdir(directory)
        _close(self.back)
        self.back = []


def _namespace(pid: str) -> int:
    return posix.open(f"/proc/{pid}/ns/mnt", posix.O_RDONLY | posix.O_CLOEXEC)


def _close(fds: list[int]) -> None:
    for fd in fds:
        posix.close(fd)
