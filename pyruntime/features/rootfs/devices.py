"""Device nodes and links in /dev (runtime-spec config-linux.md, "Devices", "Default Devices", "Dev symbolic links")."""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, KernelError
from pyruntime.features.rootfs import mount_options, nodes, path, sources
from pyruntime.features.rootfs.destination import destination_of
from pyruntime.kernel import mount
from pyruntime.kernel.constants import (
    ENOENT,
    ENOTDIR,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    S_IFBLK,
    S_IFCHR,
    S_IFIFO,
    S_IFMT,
    S_IFREG,
)
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request

_KINDS = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}

# path -> (major, minor); character devices, 0666, owned by the container's root
DEFAULT = {
    "/dev/null": (1, 3),
    "/dev/zero": (1, 5),
    "/dev/full": (1, 7),
    "/dev/random": (1, 8),
    "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}

LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)


def plan(request: Request) -> Iterator[Step]:
    """BUILD: the default devices, those of /linux/devices, and the links; nothing in a /dev that is a bind."""
    if _dev_is_bound(request):
        return
    bound = request.namespace("user")[0] or request.rootless
    asked = request.linux.get("devices") or []
    paths = {entry["path"] for entry in asked}
    for name, (major, minor) in DEFAULT.items():
        if name not in paths:
            yield Step("", make, path=name, type="c", major=major, minor=minor, mode=0o666, uid=0, gid=0, bound=bound)
    for index, entry in enumerate(asked):
        yield Step(
            f"/linux/devices/{index}",
            make,
            path=entry["path"],
            type=entry["type"],
            major=entry.get("major") or 0,
            minor=entry.get("minor") or 0,
            mode=entry.get("fileMode", 0o666) & 0o7777,
            uid=entry.get("uid") or 0,
            gid=entry.get("gid") or 0,
            bound=bound,
        )
    for link, target in LINKS:
        yield Step("", make_link, path=link, target=target)
    yield Step("", link_ptmx)


def _dev_is_bound(request: Request) -> bool:
    for entry in request.config.get("mounts") or ():
        if path.clean(destination_of(request, entry)) == "/dev":
            words = mount_options.split(entry.get("options") or [])
            if entry.get("type") == "bind" or "bind" in words or "rbind" in words:
                return True
    return False


def make(
    init: InitActor, path: str, type: str, major: int, minor: int, mode: int, uid: int, gid: int, bound: bool
) -> None:
    """make the device {path} ({type} {major}:{minor})"""
    directory, name = _parent(init, path)
    kind, number = _KINDS[type], posix.makedev(major, minor)
    owner = {"mode": mode, "uid": uid, "gid": gid}
    try:
        if bound and type != "p":
            _bind(init, directory, name, path, kind, number, owner)
            return
        try:
            posix.mknod(name, kind | mode, number, dir_fd=directory)
        except FileExistsError:
            if not _is_there(directory, name, path, kind, number):
                _bind(init, directory, name, path, kind, number, owner)
            return
        except PermissionError:
            # Neither may a user namespace make nodes, nor a container on some hosts: then the host's own.
            _bind(init, directory, name, path, kind, number, owner)
            return
        if uid or gid:
            posix.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
    finally:
        posix.close(directory)


def _is_there(directory: int, name: str, shown: str, kind: int, number: int) -> bool:
    """Return whether the rootfs holds the very device already; False for an empty file, which a bind on it has left.

    Anything else is refused (CVE-2025-31133: a link in place of /dev/null)."""
    found = posix.stat(name, dir_fd=directory, follow_symlinks=False)
    if _is_device(found, kind, number):
        return True
    if found.st_mode & S_IFMT == S_IFREG and found.st_size == 0 and kind != S_IFIFO:
        return False
    raise ConfigError(
        f"the rootfs holds {shown}, and it is not the device {posix.major(number)}:{posix.minor(number)}",
        hint="remove it from the image, or mount a tmpfs on /dev",
    )


def _is_device(found: posix.stat_result, kind: int, number: int) -> bool:
    return found.st_mode & S_IFMT == kind and (kind == S_IFIFO or found.st_rdev == number)


def _bind(
    init: InitActor, directory: int, name: str, shown: str, kind: int, number: int, owner: dict[str, int]
) -> None:
    """Bind the host's device of the same path, if it is the one that is wanted, or a new one that the host lacks."""
    try:
        fd = sources.clone(init, shown)
    except KernelError as error:
        if error.errno not in (ENOENT, ENOTDIR):
            raise
        fd = nodes.clone(init, directory, path=shown, kind=kind, number=number, **owner)
    try:
        if not _is_device(posix.fstat(fd), kind, number):
            raise ConfigError(
                f"{shown} of the host is not the device {posix.major(number)}:{posix.minor(number)}",
                why="this container cannot make device nodes, so the host's are bound",
                hint="make the device on the host, or leave it out",
            )
        mount.set_attributes(fd, set=MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, shown=shown)
        target = path.make_file(directory, "/" + name)
        mount.attach(fd, target, shown)
        posix.close(target)
    finally:
        posix.close(fd)


def make_link(init: InitActor, path: str, target: str) -> None:
    """link {path} to {target}"""
    directory, name = _parent(init, path)
    try:
        posix.symlink(target, name, dir_fd=directory)
    except FileExistsError:
        pass
    finally:
        posix.close(directory)


def link_ptmx(init: InitActor) -> None:
    """link /dev/ptmx to pts/ptmx"""
    directory, name = _parent(init, "/dev/ptmx")
    try:
        try:
            posix.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
        posix.symlink("pts/ptmx", name, dir_fd=directory)
    finally:
        posix.close(directory)


def _parent(init: InitActor, shown: str) -> tuple[int, str]:
    """Return the directory of a device or link (O_PATH), made if missing, and its name there."""
    directory, _, name = shown.rpartition("/")
    if directory == "/dev":
        return posix.dup(open_dev(init)), name
    return _directory(init, directory or "/"), name


def open_dev(init: InitActor) -> int:
    """Return the container's /dev (O_PATH), opened once: init keeps it.

    Raises ConfigError when a link of the image leads to it in a mount of the config's."""
    if init.dev_fd < 0:
        init.dev_fd = _directory(init, "/dev")
    return int(init.dev_fd)


def _directory(init: InitActor, shown: str) -> int:
    """Return a directory for devices (O_PATH), made if missing.

    Where the image's links decide what it is, it must be the image's own, or in the mount on /dev: another mount may be
    a directory of the host, where no node may be made and nothing removed (CVE-2026-41579)."""

    def linked(fd: int) -> None:
        own = [mount.mount_id(known) for known in (init.root_fd, init.mounted.get("/dev", init.root_fd))]
        if mount.mount_id(fd) not in own:
            found = posix.readlink(f"/proc/self/fd/{fd}")
            raise ConfigError(
                f"{shown} of the rootfs is a link into another mount",
                why=f"devices would be made in {found.removeprefix(init.rootfs)}",
                hint="make it a directory in the image, or mount a tmpfs on /dev",
            )

    return path.make_directory(init.root_fd, shown, linked=linked)
