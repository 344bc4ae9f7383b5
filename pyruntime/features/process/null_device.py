"""Standard input and output that are the host's /dev/null, which is the same file for everybody.

Engines give it for unused streams. By a descriptor of it, root in a container without a user namespace may
change its mode, owner and times for the whole host (/proc/self/fd/0; fchmod(2)). So the process gets the /dev/null of
its container, like with runc. If the container has made something else of that, it gets a node of its own.
"""

from __future__ import annotations

import fcntl
import posix

from pyruntime.features.rootfs import path
from pyruntime.kernel.constants import EBADF, O_ACCMODE, O_PATH, S_IFCHR, S_IFMT
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request

# Whatever the container has put in its place: no terminal is taken, no fifo waited for, no link followed.
_NO_EFFECT = posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
_NULL = posix.makedev(1, 3)


def plan(request: Request) -> Iterator[Step]:
    """ENTER: while init's root is known by a descriptor, and its device is there.

    Not for an ordinary user's containers, nor for those in a user namespace: their root does not own the device."""
    if not (request.process.get("terminal") or request.rootless or request.namespace("user")[0]):
        from pyruntime.kernel import mount  # noqa: F401  for `_new`: the process of the step imports nothing

        yield Step("", reopen)


def reopen(init: InitActor) -> None:
    """take the container's /dev/null as standard input and output in place of the host's"""
    for number in (0, 1, 2):
        if not _is_stream_null(number):
            continue
        mode = fcntl.fcntl(number, fcntl.F_GETFL) & O_ACCMODE
        fd = _containers(init.root_fd, mode)
        if fd < 0:
            fd = _new(mode)
        posix.set_blocking(fd, True)
        posix.dup2(fd, number)
        posix.close(fd)


def _is_stream_null(fd: int) -> bool:
    try:
        return _is_null(posix.fstat(fd))
    except OSError as error:
        if error.errno == EBADF:
            return False
        raise


def _is_null(found: posix.stat_result) -> bool:
    return found.st_mode & S_IFMT == S_IFCHR and found.st_rdev == _NULL


def _containers(root_fd: int, mode: int) -> int:
    """Open the container's /dev/null; -1 when that is missing or something else."""
    directory = fd = -1
    try:
        directory = path.resolve(root_fd, "/dev", O_PATH | posix.O_DIRECTORY)
        fd = posix.open("null", mode | _NO_EFFECT, dir_fd=directory)
        if _is_null(posix.fstat(fd)):
            found, fd = fd, -1
            return found
    except OSError:
        pass  # ENOENT, ELOOP, EACCES and whatever such a file answers
    finally:
        for one in (directory, fd):
            if one >= 0:
                posix.close(one)
    return -1


def _new(mode: int) -> int:
    """Open a node of the same device in a private filesystem. Raises OSError."""
    from pyruntime.kernel import mount
    from pyruntime.kernel.constants import MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID

    settings = ["nr_blocks=1", "nr_inodes=4", "mode=755"]
    top = mount.new_filesystem("tmpfs", "tmpfs", settings, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
    try:
        posix.mkdir("dev", 0o755, dir_fd=top)  # /proc/self/fd shows the path from the top
        posix.mknod("dev/null", S_IFCHR | 0o666, _NULL, dir_fd=top)
        posix.chmod("dev/null", 0o666, dir_fd=top)  # past the umask
        return posix.open("dev/null", mode | _NO_EFFECT, dir_fd=top)
    finally:
        posix.close(top)
