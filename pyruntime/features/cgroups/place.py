"""The container's place in every hierarchy: made by the parent, entered by init itself.

init enters the v1 hierarchies by writing "0" to their `tasks`, opened for it by the parent: a process of one thread
that moves itself takes no lock, while to write its pid to cgroup.procs from outside takes
cgroup_threadgroup_rwsem, which holds back every fork and exit of the host and begins with an RCU grace period: 5 to
25 ms were measured for nine hierarchies, against 0.2 ms. The cgroup2 tree is entered by the clone
(CLONE_INTO_CGROUP).
"""

from __future__ import annotations

import posix

from pyruntime.cgroupfs.layout import UNIFIED, Layout
from pyruntime.errors import ConfigError, KernelError
from pyruntime.features.cgroups import directories, limits
from pyruntime.kernel import process
from pyruntime.kernel.constants import EACCES, EPERM
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor, ParentActor
    from pyruntime.plan.request import Request

POINTER = "/linux/cgroupsPath"
_LONGEST_NAME, _LONGEST_PATH = 255, 3840  # NAME_MAX; PATH_MAX without a mount point and a file's name
_DENIED = (EPERM, EACCES)
# ENOSYS, E2BIG, EINVAL: not known; EACCES: not from here; EBUSY, EOPNOTSUPP: said again, with a path, on entering.
_NOT_INTO = (38, 7, 22, 13, 1, 16, 95)


def plan_create(request: Request) -> Iterator[Step]:
    """PREPARE: the directories, in every hierarchy of the host."""
    if request.systemd_cgroup:
        from pyruntime.features.cgroups import systemd

        yield from systemd.plan_create(request)
        return
    wanted = directories_of(request)
    if wanted:
        yield Step(
            _pointer(request),
            directories.create,
            directories=list(wanted.values()),
            hierarchies=list(wanted),
            controllers=_controllers(request) if UNIFIED in wanted else [],
            rootless=request.rootless,
        )


def plan_start(request: Request) -> Iterator[Step]:
    """SETUP, first: with --systemd-cgroup systemd makes the cgroup, around init."""
    if request.systemd_cgroup:
        from pyruntime.features.cgroups import systemd

        yield from systemd.plan_start(request)


def plan_join(request: Request) -> Iterator[Step]:
    """BUILD, before anything else: init enters. systemd moves it by itself (features/cgroups/systemd.py)."""
    if request.layout.hierarchies and not request.systemd_cgroup:
        yield Step(_pointer(request), join, rootless=request.rootless)


def _controllers(request: Request) -> list[str]:
    """Return what the cgroup2 cgroup must be handed down for the limits that are asked for."""
    resources = request.linux.get("resources")
    return limits.needed(resources, request.layout) if resources else []


def _pointer(request: Request) -> str:
    return POINTER if request.linux.get("cgroupsPath") else ""


def directories_of(request: Request) -> dict[str, str]:
    """hierarchy -> absolute directory of the container's cgroup (runtime-spec config-linux.md, "Cgroups Path").

    An absolute cgroupsPath counts from each hierarchy's root. A relative one counts from the runtime's own cgroup;
    on a pure v2 host from the parent of that, since a cgroup that holds processes (the runtime) can have no
    limited children. Without one it is the container's id, taken as a relative path.
    Raises ConfigError for a path that leaves the place it counts from."""
    if request.systemd_cgroup:
        from pyruntime.features.cgroups import systemd

        return systemd.directories_of(request)
    path: str = request.linux.get("cgroupsPath") or request.id
    if ".." in path.split("/"):
        raise ConfigError("may not contain ..", pointer=POINTER, hint="give the path without ..")
    if "\n" in path or "\0" in path:
        raise ConfigError("may not contain line breaks or NUL", pointer=POINTER)
    return below(request.layout, path)


def below(layout: Layout, path: str) -> dict[str, str]:
    """hierarchy -> absolute directory, for a checked path as of cgroupsPath."""
    names = "/".join(name for name in path.split("/") if name not in ("", "."))
    if not names:
        raise ConfigError("is the root cgroup", pointer=POINTER, hint="name a cgroup below it")
    if len(names) > _LONGEST_PATH or max(map(len, names.split("/"))) > _LONGEST_NAME:
        raise ConfigError(f"has names of more than {_LONGEST_NAME} bytes, or is too long", pointer=POINTER)
    found = {}
    for hierarchy in layout.hierarchies:
        start = hierarchy.mount_point
        if not path.startswith("/"):
            own = hierarchy.own.rstrip("/")
            start += own.rpartition("/")[0] if layout.kind == "v2" else own
        found[hierarchy.name] = f"{start}/{names}"
    return found


def clone(parent: ParentActor, flags: int) -> tuple[int, int]:
    """clone3(2) of init into its cgroup2 cgroup: (pid, pidfd), (0, -1) in init.

    Where that cannot be (Linux before 5.7, a seccomp filter around us) init enters by cgroup.procs, as it does the
    others."""
    try:
        return process.clone(flags, cgroup_fd=parent.cgroup_directory)
    except KernelError as error:
        if parent.cgroup_directory is None:
            raise
        if error.errno not in _NOT_INTO:
            error.arguments += (parent.record.cgroups[UNIFIED],)
            raise
    flags_of_file = posix.O_WRONLY | posix.O_CLOEXEC
    parent.cgroup_tasks.append(posix.open("cgroup.procs", flags_of_file, dir_fd=parent.cgroup_directory))
    return process.clone(flags)


def join(init: InitActor, rootless: bool) -> None:
    """enter the container's cgroup"""
    for fd in init.cgroup_tasks:
        try:
            posix.write(fd, b"0")
        except OSError as error:
            path = _path_of(fd)
            if not rootless or error.errno not in _DENIED:
                raise KernelError(error.errno or 0, "write", (path, "0")) from None
            # From another part of the tree than was delegated (a login session), an ordinary user may not come.
            init.warn(f"the container stays in the cgroup of its caller: it may not enter {path}")
        posix.close(fd)


def _path_of(fd: int) -> str:
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return "its cgroup"
