"""Steps that write a limit to a file of the container's cgroup.

The actor has `.record`, whose `cgroups` say where, and `.warn`: the parent at create, the updater at `update`.
"""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import control_files
from pyruntime.errors import ConfigError, KernelError
from pyruntime.kernel.constants import EACCES, EBUSY, EINVAL, ENOENT, EOPNOTSUPP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pyruntime.plan.actors import CgroupActor
    from pyruntime.plan.step import Step


def write(actor: CgroupActor, hierarchy: str, file: str, value: str) -> None:
    """limit {hierarchy}: {file} = {value}"""
    _write(directory_of(actor, hierarchy), file, value)


def write_lines(actor: CgroupActor, hierarchy: str, file: str, value: list[str]) -> None:
    """limit {hierarchy}: {file} = {value}

    One write(2) a line: the kernel takes one entry at a time."""
    directory = directory_of(actor, hierarchy)
    for line in value:
        _write(directory, file, line)


def write_first(actor: CgroupActor, hierarchy: str, choices: list[list[str]]) -> None:
    """limit {hierarchy}: the first that is there of (file, value) {choices}

    Which file there is depends on the kernel's version and configuration."""
    directory = directory_of(actor, hierarchy)
    for file, value in choices:
        if posix.access(f"{directory}/{file}", posix.F_OK):
            _write(directory, file, value)
            return
    file, value = choices[-1]
    _write(directory, file, value)


def write_if_possible(actor: CgroupActor, hierarchy: str, file: str, value: str, otherwise: str) -> None:
    """limit {hierarchy}, if this kernel can: {file} = {value}

    otherwise: the warning for a kernel that cannot, "" for none."""
    try:
        control_files.write(directory_of(actor, hierarchy), file, value)
    except KernelError as error:
        if error.errno not in (ENOENT, EACCES, EINVAL, EOPNOTSUPP):
            raise
        if otherwise:
            actor.warn(otherwise)


def write_together(actor: CgroupActor, hierarchy: str, writes: list[list[str]]) -> None:
    """limit {hierarchy}: (file, value) {writes}

    Values that bound each other (a quota and its burst, memory and memory with swap): which must be first
    depends on what they were before. One that another stands in the way of is tried again after that."""
    directory = directory_of(actor, hierarchy)
    waiting = writes
    while waiting:
        refused: list[tuple[bool, list[str], int]] = []
        for file, value in waiting:
            try:
                control_files.write(directory, file, value)
            except KernelError as error:
                number = error.errno or 0
                if number not in (EINVAL, EBUSY):
                    fail(directory, file, value, number)
                refused.append((number != EBUSY, [file, value], number))
        if len(refused) == len(waiting):
            # A limit below what is used (EBUSY) is why the one that hangs on it is not valid (EINVAL).
            _, (file, value), number = min(refused)
            fail(directory, file, value, number)
        waiting = [one for _, one, _ in refused]


def directory_of(actor: CgroupActor, hierarchy: str) -> str:
    """Return the container's cgroup in a hierarchy. Raises ConfigError when it could not have one (rootless)."""
    directory = actor.record.cgroups.get(hierarchy)
    if directory is None:
        raise ConfigError(
            "cannot set limits: the container has no cgroup of its own",
            why="its user may not make one" if hierarchy else None,
            hint="have a cgroup delegated to the user (systemd: Delegate=yes), or leave out the limit",
        )
    return str(directory)


def touched(step: Step) -> list[tuple[str, str]]:
    """Return the files that a step writes, as (hierarchy, file): what must be put back when a later step fails."""
    args = step.args
    names = [args["file"]] if "file" in args else []
    names += [file for file, _ in args.get("choices", ())] + [file for file, _ in args.get("writes", ())]
    return [(args["hierarchy"], name) for name in names]


def _write(directory: str, file: str, value: str) -> None:
    try:
        control_files.write(directory, file, value)
    except KernelError as error:
        fail(directory, file, value, error.errno or 0)


def fail(directory: str, file: str, value: str, errno: int) -> NoReturn:
    """Raise the error of a write, with words of why where they are known."""
    from pyruntime.features.cgroups import write_errors  # for errors only

    error = KernelError(errno, "write", (f"{directory}/{file}", value))
    raise write_errors.explain(directory, file, value, error)
