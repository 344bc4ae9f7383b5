"""The place of a mount below the rootfs: opened, made when it is missing, refused when it is a dangerous one."""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, KernelError
from pyruntime.features.rootfs import path
from pyruntime.kernel import files
from pyruntime.kernel.constants import ENOENT, ENOTDIR, O_PATH, PROC_SUPER_MAGIC, S_IFDIR, S_IFLNK, S_IFMT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import Mount

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


def destination_of(request: Request, entry: Mount) -> str:
    """Return the destination of an entry of /mounts, from the container's root on.

    A relative one begins there; of one that begins with the rootfs's path on the host, that is left out, like with
    runc."""
    destination: str = entry["destination"]
    rootfs = request.rootfs().rstrip("/")
    if rootfs and destination.startswith(rootfs) and destination[len(rootfs) : len(rootfs) + 1] in ("", "/"):
        destination = destination[len(rootfs) :]
    return destination if destination.startswith("/") else "/" + destination


def open_destination(
    init: InitActor,
    destination: str,
    type: str,
    *,
    directory: bool = True,
    source: int = -1,
    follow: bool = True,
) -> int:
    """Open the place for a mount (O_PATH), making what is missing. Raises ConfigError for a forbidden one.

    source: the detached mount for a bind. follow: a symbolic link at the end of the path stands for its target."""
    root_fd = init.root_fd
    if not follow and (link := _open_link(root_fd, destination)) >= 0:
        fd = link
    elif not directory:
        fd = path.make_file(root_fd, destination)
        if posix.fstat(fd).st_mode & S_IFMT == S_IFDIR:
            posix.close(fd)
            # In these words, which docker looks for; move_mount(2) itself says EINVAL.
            raise KernelError(ENOTDIR, "move_mount", (destination,))  # ENOTDIR
    elif type in ("proc", "sysfs", "mqueue"):
        fd = _ordinary_directory(root_fd, destination, type)
    else:
        fd = path.make_directory(root_fd, destination)
    try:
        _refuse_root(init, fd, destination)
        _refuse_inside_proc(init, fd, destination, type, source)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def _open_link(root_fd: int, destination: str) -> int:
    """Open a symbolic link itself (O_PATH), -1 when there is none."""
    try:
        fd = path.resolve(root_fd, destination, O_PATH | posix.O_NOFOLLOW)
    except KernelError as error:
        if error.errno != ENOENT:
            raise
        return -1
    if posix.fstat(fd).st_mode & S_IFMT == S_IFLNK:
        return fd
    posix.close(fd)
    return -1


def _ordinary_directory(root_fd: int, destination: str, type: str) -> int:
    """Return the place for /proc or /sys, which may not be reached through a link (CVE-2019-19921, CVE-2023-27561)."""

    def linked(fd: int) -> None:
        raise ConfigError(
            f"filesystem {type} must be mounted on ordinary directory: {destination} goes through a "
            "symbolic link of the rootfs",
            hint="make it a directory in the image",
        )

    return path.make_directory(root_fd, destination, linked=linked)


def _refuse_root(init: InitActor, fd: int, destination: str) -> None:
    """Raise ConfigError for a mount over the root itself, which a link of the rootfs may lead to.

    init would continue below it, and each `exec` enter it: another root, without /proc, masks and read-only paths."""
    if posix.readlink(f"/proc/self/fd/{fd}") == init.rootfs:
        raise ConfigError(
            f'"{destination}" cannot be mounted because it is the root of the container',
            why="processes of `exec` would have another root than the container's",
            hint="make the directory in the image, or set /root/path to the source of the mount",
        )


def _refuse_inside_proc(init: InitActor, fd: int, destination: str, type: str, source: int) -> None:
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
        hint="mount it somewhere else",
    )
