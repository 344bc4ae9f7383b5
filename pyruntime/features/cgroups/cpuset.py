"""linux.resources.cpu.cpus and .mems: on which CPUs and memory nodes the container runs."""

from __future__ import annotations

from pyruntime.cgroupfs import control_files
from pyruntime.features.cgroups import setting
from pyruntime.plan.step import Step
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.spec.sections import Cpu

FILES = ("cpuset.cpus", "cpuset.mems")


def plan(cpu: Cpu, hierarchy: str, pointer: str, warn: Callable[[str], None]) -> Iterator[Step]:
    """Yield the steps for cpus and mems; lists as of cpuset(7), "0-3,7"."""
    for name in ("cpus", "mems"):
        if cpu.get(name):
            place, file = f"{pointer}/{name}", f"cpuset.{name}"
            yield Step(place, setting.write, hierarchy=hierarchy, file=file, value=cpu[name])


def inherit(directory: str) -> None:
    """Give a cgroup of the v1 hierarchy, and those above it that have none, the CPUs and nodes of their parents:
    a new one is empty, and no process may enter an empty one (cpuset(7)). Those that are set stay."""
    for name in FILES:
        _inherit(directory, name)


def _inherit(directory: str, name: str) -> str:
    value = read_file(f"{directory}/{name}").strip()
    if not value:
        value = _inherit(directory.rpartition("/")[0], name)
        control_files.write(directory, name, value)
    return value
