"""Making a container's cgroups."""

from __future__ import annotations

import fcntl
import posix

from pyruntime.cgroupfs import processes
from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.errors import KernelError, StateError, strerror
from pyruntime.features.cgroups import cpuset
from pyruntime.kernel.constants import EACCES, EEXIST, ENOENT, EPERM, EROFS
from pyruntime.state import cgroup_identity
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.plan.actors import ParentActor
    from pyruntime.state.store import Record

_DENIED = (EPERM, EACCES, EROFS)
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
_WRITE = posix.O_WRONLY | posix.O_CLOEXEC


def create(
    parent: ParentActor, directories: list[str], hierarchies: list[str], controllers: list[str], rootless: bool
) -> None:
    """make the cgroup {directories}

    hierarchies: the name of each directory's hierarchy, in the same order.
    controllers: what the cgroup2 cgroup must have for its limits.
    rootless:    a hierarchy that may not be written to is left out, with a warning.
    Opens what init enters by: parent.cgroup_tasks, and parent.cgroup_directory for the clone."""
    cgroups = dict(zip(hierarchies, directories, strict=True))
    for directory in directories:
        if posix.access(directory, posix.F_OK):
            require_unused(directory)
    # Record, then do. Which cgroups these are is in the record with init's pid: before that nothing runs in them that
    # would outlive its parent.
    parent.record.cgroups = cgroups
    cgroup_identity.begin(parent.record, rootless=rootless)
    parent.record.save()
    denied = []
    untouched = list(cgroups)
    for name, directory in zip(hierarchies, directories, strict=True):
        untouched.remove(name)
        try:
            made = make(name, directory)
            if len(untouched) + 1 == len(hierarchies):
                _claim(directory, made=made)
            if not made:
                cgroup_identity.take_over(parent.record, directory)
            cgroup_identity.note(parent.record, name, directory)
            if name == UNIFIED:
                parent.cgroup_directory = posix.open(directory, _DIRECTORY)
            else:
                parent.cgroup_tasks.append(posix.open(f"{directory}/tasks", _WRITE))
        except StateError:
            # Another container has made it since the look above: it is not ours to remove.
            _forget(parent.record, [name, *untouched])
            raise
        except OSError as error:
            if not rootless or error.errno not in _DENIED:
                _forget(parent.record, untouched)
                raise
            # An ordinary user has cgroups only where they were delegated (cgroups(7), "Cgroup delegation").
            denied.append(name)
            reason = strerror(error.errno)
            continue
        if name == UNIFIED and (controllers or len(hierarchies) == 1):
            _enable(directory, controllers, others=len(hierarchies) == 1)
    for name in denied:
        del cgroups[name]
    if denied:
        parent.warn(f"no cgroup of the container's own in {', '.join(denied)}: {reason}; it has no limits there")


def _claim(directory: str, *, made: bool) -> None:
    """Keep other creates out of a cgroup that nothing is in yet, until this command ends. Raises StateError.

    The lock goes with its descriptor, which stays open. Its holder has made the directory or found it unused."""
    fd = posix.open(directory, _DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        posix.close(fd)
        raise StateError(
            f"container's cgroup is in use: another container is being created in {directory}",
            hint="give another linux.cgroupsPath",
        ) from None
    if not made:
        require_unused(directory)


def _forget(record: Record, names: list[str]) -> None:
    for name in names:
        del record.cgroups[name]
    record.save()


def _enable(directory: str, required: list[str], *, others: bool) -> None:
    from pyruntime.features.cgroups import controllers

    controllers.enable(directory, required, others=others)


def make(name: str, directory: str) -> bool:
    """Make one cgroup, with those above it that are missing: False when it was there. StateError when it is in use."""
    error = _mkdir(directory)
    if error == ENOENT:
        error = _make_with_parents(directory)
    if error == EEXIST:
        require_unused(directory)
    if "cpuset" in name:
        cpuset.inherit(directory)
    return error != EEXIST


def _make_with_parents(directory: str) -> int:
    missing = [directory]
    while _mkdir(directory) == ENOENT:
        directory = directory.rpartition("/")[0]
        missing.append(directory)
    error = 0
    for one in reversed(missing):
        error = _mkdir(one)  # EEXIST: made by another container that begins at this moment
    return error


def _mkdir(directory: str) -> int:
    """mkdir(2): 0, ENOENT or EEXIST. Raises KernelError for anything else."""
    try:
        posix.mkdir(directory, 0o755)
    except OSError as error:
        if error.errno not in (ENOENT, EEXIST):
            raise KernelError(error.errno or 0, "mkdir", (directory,)) from None
        return error.errno
    return 0


def require_unused(directory: str) -> None:
    """Raise StateError when a cgroup that was there before holds processes or is frozen.

    Two containers in one cgroup would share its limits, and the first to go would take the other with it; in a
    frozen one init would never run."""
    pids = processes.below(directory, foreign=True)
    if not pids and processes.has_unseen(directory):
        pids = [0]
    if pids:
        raise StateError(
            f"container's cgroup is not empty: {len(pids)} process(es) found in {directory}",
            why=processes.shown(pids),
            hint="delete the container that uses it, or give another linux.cgroupsPath",
        )
    for file, frozen in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
        try:
            text = read_file(f"{directory}/{file}").strip()
        except OSError:
            continue
        if text == frozen:
            raise StateError(
                f"container's cgroup unexpectedly frozen: {directory}/{file} is {text}",
                hint="thaw it, or give another linux.cgroupsPath",
            )
