"""The container's place in every hierarchy: made by the parent, entered by init itself.

init enters the v1 hierarchies by writing "0" to their `tasks`, opened for it by the parent: a single thread that
moves itself takes no lock (Linux 6.2 and later, commit 9a3284fad42f), while to write its pid to cgroup.procs from
outside takes cgroup_threadgroup_rwsem, and so an RCU grace period, in each hierarchy: 10 ms instead of 0.2 ms for
nine of them. The v2 hierarchy is entered by the clone (CLONE_INTO_CGROUP).
"""

from __future__ import annotations

import posix

from pyruntime.cgroups.layout import UNIFIED
from pyruntime.errors import ConfigError, StepError
from pyruntime.plan.step import Step
from pyruntime.state import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyruntime.plan.request import Request


def plan_create(request: Request) -> Iterator[Step]:
    """PREPARE: note the directories in the record, then make them."""
    if request.systemd_cgroup:
        raise ConfigError("systemd not running on this host, cannot use systemd cgroups manager")
    directories = directories_of(request)
    if directories:
        pointer = "/linux/cgroupsPath" if request.linux.get("cgroupsPath") else ""
        yield Step(pointer, create, directories=directories, rootless=request.rootless)


def plan_join(request: Request) -> Iterator[Step]:
    """BUILD, before anything else: init enters."""
    if request.layout.hierarchies:
        yield Step("/linux/cgroupsPath" if request.linux.get("cgroupsPath") else "", join)


def directories_of(request: Request) -> dict[str, str]:
    """hierarchy -> absolute directory of the container's cgroup.

    An absolute cgroupsPath is below the hierarchy's root, a relative one below the runtime's own cgroup, and
    without one the container's id is (runtime-spec config-linux.md, "Cgroups Path")."""
    path = request.linux.get("cgroupsPath") or request.id
    if ".." in path.split("/"):
        raise ConfigError("may not contain ..", pointer="/linux/cgroupsPath", mend="give the path without ..")
    names = "/".join(name for name in path.split("/") if name not in ("", "."))
    if not names:
        raise ConfigError("is the root cgroup", pointer="/linux/cgroupsPath", mend="name a cgroup below it")
    return {
        h.name: f"{h.mount_point}/{names}" if path.startswith("/") else f"{h.mount_point}{h.own.rstrip('/')}/{names}"
        for h in request.layout.hierarchies
    }


def create(parent: Any, directories: dict[str, str], rootless: bool) -> None:
    """make the cgroup {directories}"""
    parent.record.cgroups = dict(directories)
    parent.record.save()
    for name, directory in directories.items():
        try:
            _make(name, directory)
            if name != UNIFIED:
                parent.cgroup_tasks.append(posix.open(f"{directory}/tasks", posix.O_WRONLY | posix.O_CLOEXEC))
            else:
                flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
                parent.cgroup_directory = posix.open(directory, flags)
        except OSError as error:
            if not rootless or error.errno not in (1, 13, 30):
                raise
            # An ordinary user has cgroups only where they were delegated (cgroups(7), "Cgroup delegation").
            parent.record.cgroups.pop(name)
            parent.warn(f"no cgroup {directory}: {error.strerror}; limits and ps do not work there")


def join(init: Any) -> None:
    """enter the container's cgroup"""
    for fd in init.cgroup_tasks:
        posix.write(fd, b"0")
        posix.close(fd)


def _make(name: str, directory: str) -> None:
    try:
        posix.mkdir(directory, 0o755)
    except FileNotFoundError:
        parent = directory.rpartition("/")[0]
        try:
            _make(name, parent)
        except FileExistsError:
            pass
        posix.mkdir(directory, 0o755)
    except FileExistsError:
        _refuse_in_use(directory)
    if name == "cpuset" or "cpuset" in name.split(","):
        _inherit_cpuset(directory)


def _refuse_in_use(directory: str) -> None:
    """Two containers in one cgroup would share limits, and the first to go would take the other with it."""
    if read_file(f"{directory}/cgroup.procs").strip():
        raise StepError(
            f"container's cgroup is not empty: {directory} holds processes",
            mend="delete the container that uses it, or give another linux.cgroupsPath",
        )


def _inherit_cpuset(directory: str) -> None:
    """A new v1 cpuset is empty, and no process may enter an empty one (cpuset(7))."""
    parent = directory.rpartition("/")[0]
    for file in ("cpuset.cpus", "cpuset.mems"):
        if read_file(f"{directory}/{file}").strip():
            continue
        value = read_file(f"{parent}/{file}").strip()
        if not value and parent.count("/") > 3:
            _inherit_cpuset(parent)
            value = read_file(f"{parent}/{file}").strip()
        write(f"{directory}/{file}", value)


def write(path: str, value: str) -> None:
    """Write a value to a file of a cgroup: one write(2). Raises OSError with the file's name."""
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(fd, value.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        posix.close(fd)
