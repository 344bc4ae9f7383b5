"""Paths below a rootfs: the one place that resolves them.

The rootfs, and whatever a running container does to it meanwhile, is hostile: a path string says nothing of
what will be found there. So every path is walked by the kernel below the root's descriptor (openat2(2),
RESOLVE_IN_ROOT: `..` and links cannot leave), and what comes out is a descriptor (O_PATH) that stays what it
is however the names change afterwards (CVE-2021-30465). What is missing is made component by component in
the descriptor of its parent (CVE-2024-45310).
"""

from __future__ import annotations

import posix

from pyruntime.errors import KernelError
from pyruntime.kernel import files
from pyruntime.kernel.constants import (
    ELOOP,
    ENOENT,
    O_PATH,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_LINKS = 40  # as the kernel's own limit (path_resolution(7))


def clean(name: str) -> str:
    """Return an absolute path without empty names, `.` and `..`, as a text: no link is looked at."""
    names: list[str] = []
    for part in name.split("/"):
        if part == "..":
            names = names[:-1]
        elif part not in ("", "."):
            names.append(part)
    return "/" + "/".join(names)


def resolve(root_fd: int, path: str, flags: int = O_PATH) -> int:
    """Open what a path below the root stands for, links followed inside the root. Raises KernelError."""
    return files.open_resolved(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def make_directory(root_fd: int, path: str, mode: int = 0o755, *, linked: Callable[[int], None] | None = None) -> int:
    """Open the directory at a path below the root (O_PATH), making it and its parents if missing.

    linked: called with the descriptor of each directory that a symbolic link leads to, before anything is made in it;
            raises to refuse it."""
    try:
        return _open(root_fd, path, O_PATH | posix.O_DIRECTORY, linked)
    except KernelError as error:
        if error.errno != ENOENT:
            raise
    return _make(root_fd, path, mode, directory=True, linked=linked)


def _open(root_fd: int, path: str, flags: int, linked: Callable[[int], None] | None, *, followed: bool = False) -> int:
    """Return `resolve`; linked is as `make_directory` has it, followed: a link on the path was followed already."""
    if linked is not None and not followed:
        try:
            return files.open_resolved(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
        except KernelError as error:
            if error.errno != ELOOP:
                raise
    fd = resolve(root_fd, path, flags)
    if linked is not None:
        try:
            linked(fd)
        except BaseException:
            posix.close(fd)
            raise
    return fd


def make_file(root_fd: int, path: str, mode: int = 0o644) -> int:
    """Open the file at a path below the root (O_PATH), making it, empty, and its directories if missing."""
    try:
        return resolve(root_fd, path)
    except KernelError as error:
        if error.errno != ENOENT:
            raise
    return _make(root_fd, path, mode, directory=False)


def _make(root_fd: int, path: str, mode: int, *, directory: bool, linked: Callable[[int], None] | None = None) -> int:
    """Make a path component by component. A dangling link is followed to where it points inside the root."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    links = 0
    at = 0
    parent = resolve(root_fd, "/", O_PATH | posix.O_DIRECTORY)
    try:
        while at < len(names):
            last = at == len(names) - 1
            walked = "/" + "/".join(names[: at + 1])
            try:
                found = _open(root_fd, walked, O_PATH, linked, followed=links > 0)
            except KernelError as error:
                if error.errno != ENOENT:
                    raise
                name = names[at]
                target = _link_target(parent, name)
                if target is not None:
                    links += 1
                    if links > _MAX_LINKS:
                        raise KernelError(ELOOP, "openat2", (path,)) from None
                    into = [] if target.startswith("/") else names[:at]
                    names = into + [n for n in target.split("/") if n not in ("", ".")] + names[at + 1 :]
                    at = 0
                    posix.close(parent)
                    parent = resolve(root_fd, "/", O_PATH | posix.O_DIRECTORY)
                    continue
                found = _make_one(parent, name, mode if last else 0o755, directory=directory or not last, shown=walked)
            posix.close(parent)
            parent = found
            at += 1
        result, parent = parent, -1
        return result
    finally:
        if parent >= 0:
            posix.close(parent)


def _make_one(parent: int, name: str, mode: int, *, directory: bool, shown: str) -> int:
    """Make one directory or empty file in an opened directory and open it, also if another process made it meanwhile.

    shown is its path, for messages."""
    try:
        if directory:
            posix.mkdir(name, mode, dir_fd=parent)
        else:
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
            posix.close(posix.open(name, flags, mode, dir_fd=parent))
    except FileExistsError:
        pass
    except OSError as error:
        raise KernelError(error.errno or 0, "mkdirat" if directory else "openat", (shown,)) from None
    resolve_flags = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
    return files.open_resolved(parent, name, O_PATH | posix.O_NOFOLLOW, resolve_flags)


def _link_target(parent: int, name: str) -> str | None:
    """Return where a symbolic link points, None when it is none or is not there."""
    try:
        return posix.readlink(name, dir_fd=parent)
    except OSError:
        return None
