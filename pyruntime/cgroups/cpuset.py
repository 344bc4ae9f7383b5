"""The CPUs and memory nodes of a v1 cpuset: a new one has none, and lets no process in until it has."""

from __future__ import annotations

from pyruntime.cgroups import files
from pyruntime.errors import KernelError
from pyruntime.state import read_file

FILES = ("cpuset.cpus", "cpuset.mems")
_EACCES = 13
_EBUSY = 16


def inherit(directory: str) -> None:
    """Give a cgroup of the v1 cpuset hierarchy, and those above it that have none, the CPUs and nodes of
    their parents. Does nothing where they are set, as with cgroup.clone_children."""
    for name in FILES:
        _inherit(directory, name)


def _inherit(directory: str, name: str) -> str:
    value = read_file(f"{directory}/{name}").strip()
    if value:
        return value
    value = _inherit(directory.rpartition("/")[0], name)
    if value:
        files.write(directory, name, value)
    return value


def widen(directory: str, name: str, value: str) -> None:
    """Set a file of a cpuset; a limit beyond what the parent has is an error that says so. Raises KernelError."""
    try:
        files.write(directory, name, value)
    except KernelError as error:
        if error.errno in (_EACCES, _EBUSY):
            above = read_file(f"{directory.rpartition('/')[0]}/{name}").strip()
            error.arguments += (f"the cgroup above has {above or 'none'}",)
        raise
