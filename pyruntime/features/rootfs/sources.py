"""Sources of mounts: files and directories of the host, as seen in the container's own mount namespace.

init opens them itself. Root of a user namespace may not search a directory that only the host's root may: then
init asks the parent (`procMountPlease`), which enters init's mount namespace for one openat(2). There the mounts
that were made before are seen, and what the host has locked stays locked (mount_namespaces(7)).
"""

from __future__ import annotations

import posix

from pyruntime.errors import KernelError
from pyruntime.kernel import mount, process
from pyruntime.kernel.constants import CLONE_NEWNS, EACCES, EPERM, O_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.plan.actors import InitActor, ParentActor


def clone(init: InitActor, source: str, *, recursive: bool = False, follow: bool = True) -> int:
    """Return, in init, a detached copy of the mount, or the tree of mounts, at a path of the host. Raises KernelError.

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


def open_path(init: InitActor, source: str, *, follow: bool = True) -> int:
    """In init: open a path of the host (O_PATH). Raises OSError."""
    try:
        return _open(source, follow)
    except PermissionError as error:
        if not _may_ask(init, source, error):
            raise
    return _ask(init, source, follow)


def _open(source: str, follow: bool) -> int:
    return posix.open(source, O_PATH | posix.O_CLOEXEC | (0 if follow else posix.O_NOFOLLOW))


def _may_ask(init: InitActor, source: str, error: OSError) -> bool:
    """Return whether the parent may open what init may not: nothing below the rootfs, whose links the image decides."""
    return error.errno == EACCES and not (init.rootfs and source.startswith(init.rootfs + "/"))


def _ask(init: InitActor, source: str, follow: bool) -> int:
    return init.ask_parent({"source": source, "follow": follow})


def open_for_init(parent: ParentActor, wanted: dict[str, Any]) -> int:
    """In the parent: open what init asks for with `ask_parent`. Raises OSError or PyruntimeError."""
    if "maps" in wanted:
        from pyruntime.features.rootfs import idmapped

        return idmapped.open_mapped(parent, **wanted)
    if "node" in wanted:
        from pyruntime.features.rootfs import nodes

        return nodes.make(parent, **wanted["node"])
    return _open_source(parent, **wanted)


def _open_source(parent: ParentActor, *, source: str, follow: bool) -> int:
    if not parent.request.has_new("mount"):
        # What a path means in a namespace that others have is theirs to decide, and the rights here are the host's.
        raise KernelError(EACCES, "open_tree", (source,))
    try:
        with Inside(parent.pid):
            return _open(source, follow)
    except KernelError as error:
        if error.errno != EPERM:
            raise
        raise KernelError(EACCES, "open_tree", (source,)) from None  # an ordinary user cannot enter: no other rights
    except OSError as error:
        raise KernelError(error.errno or EACCES, "open_tree", (source,)) from None


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
