"""How one more process gets into a container's cgroups: `exec`, and its --cgroup.

It is cloned into the cgroup2 tree (clone3(2), CLONE_INTO_CGROUP); the hierarchies of v1 it enters as the first thing
it does, by descriptors that its parent has opened.
"""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import control_files
from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.errors import KernelError, StepError, UsageError
from pyruntime.kernel import process
from pyruntime.kernel.constants import EACCES, EBUSY, ENODEV, ENOENT, EOPNOTSUPP, EPERM, O_PATH
from pyruntime.plan.step import Step
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.features.exec_registry import ExecRequest
    from pyruntime.plan.actors import EntrantActor, ParentActor


def chosen(cgroups: dict[str, str], words: list[str]) -> dict[str, str]:
    """Return the directories that a process goes into: the container's own, or those below them that --cgroup names.

    words: what was given to --cgroup, `PATH` once or `CONTROLLER[,CONTROLLER]:PATH` any number of times.
    Raises UsageError."""
    result = dict(cgroups)
    seen: set[str] = set()
    for word in words:
        names, colon, path = word.rpartition(":")
        if ":" in names:
            raise UsageError(f"invalid --cgroup argument: {word}", hint="write it as CONTROLLER:PATH")
        if not colon and len(words) > 1:
            raise UsageError(
                f"invalid --cgroup argument: {word} (missing <controller>: prefix)",
                hint="one path for all controllers, or one for each: --cgroup cpu:a --cgroup memory:b",
            )
        if ".." in path.split("/"):
            raise UsageError(f"invalid --cgroup argument: {path} is not a sub cgroup path")
        for name in names.split(",") if colon else cgroups:
            key = name if not colon else _hierarchy(cgroups, name)
            if colon and name in seen:
                raise UsageError(f"invalid --cgroup argument(s): controller {name} specified multiple times")
            seen.add(name)
            result[key] = f"{cgroups[key]}/{path.strip('/')}".rstrip("/")
    return result


def _hierarchy(cgroups: dict[str, str], controller: str) -> str:
    for name in cgroups:
        if controller in name.split(","):
            return name
    if UNIFIED in cgroups and len(cgroups) == 1:
        return UNIFIED
    raise UsageError(
        f"invalid --cgroup argument: the container has no cgroup of the controller {controller}",
        hint=f"it has those of {' '.join(cgroups) or 'none'}",
    )


def plan_open(request: ExecRequest) -> Iterator[Step]:
    """PREPARE: open the way into the hierarchies of v1."""
    directories = [directory for name, directory in request.cgroups.items() if name != UNIFIED]
    if directories:
        yield Step("", open_tasks, directories=directories, rootless=request.rootless)


def plan(request: ExecRequest) -> Iterator[Step]:
    """ENTER, before anything else."""
    if request.cgroups:
        yield Step("", join)


def open_tasks(parent: ParentActor, directories: list[str], rootless: bool) -> None:
    """open the cgroups {directories}"""
    for directory in directories:
        try:
            parent.cgroup_tasks.append(posix.open(f"{directory}/tasks", posix.O_WRONLY | posix.O_CLOEXEC))
        except OSError as error:
            if rootless and error.errno in (EACCES, EPERM):
                continue  # a user who was not given the tree has no cgroup in it either
            if error.errno in (ENOENT, ENODEV):
                raise _missing(directory) from None
            raise


def join(entrant: EntrantActor) -> None:
    """enter the container's cgroup"""
    for fd in entrant.cgroup_tasks:
        posix.write(fd, b"0")  # see place.py for why it is `tasks`, and the process itself that writes
        posix.close(fd)


def clone(request: ExecRequest) -> tuple[int, int]:
    """Clone a process into the cgroup2 tree, as kernel.process.clone does: (pid, pidfd), (0, -1) in the child."""
    directory = request.cgroups.get(UNIFIED)
    if not directory:
        return process.clone(0)
    try:
        fd = posix.open(directory, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except FileNotFoundError:
        raise _missing(directory) from None
    try:
        return process.clone(0, cgroup_fd=fd)
    except KernelError as error:
        if error.errno in (EBUSY, EOPNOTSUPP) and not request.sub_cgroup:
            # init (systemd, for example) has moved itself below and shares controllers out there, so that the
            # container's own cgroup takes no processes any more.
            directory = _place_of_init(request.target.pid, directory)
        elif not (request.rootless and error.errno in (EACCES, EPERM)):
            error.arguments += (directory,)
            raise
    finally:
        posix.close(fd)
    pid, pidfd = process.clone(0)
    if pid:
        try:
            control_files.write(directory, "cgroup.procs", str(pid))
        except KernelError as error:
            if not (request.rootless and error.errno in (EACCES, EPERM)):
                raise
    return pid, pidfd


def _place_of_init(pid: int, directory: str) -> str:
    """Return the directory of the cgroup2 tree that init is in; `directory` when that cannot be seen from here."""
    for line in read_file(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith("0::/") and "/.." not in line:
            return _mount_point(directory) + line[3:]
    return directory


def _mount_point(directory: str) -> str:
    """Return where the filesystem of a directory is mounted: above, the device is another one."""
    device = posix.stat(directory).st_dev
    while posix.stat(directory.rpartition("/")[0] or "/").st_dev == device:
        directory = directory.rpartition("/")[0]
    return directory


def _missing(directory: str) -> StepError:
    return StepError(
        f"the cgroup {directory} does not exist",
        why="--cgroup takes one that is there, or the container is being deleted",
        errno="ENOENT",
    )
