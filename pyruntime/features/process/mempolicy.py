"""linux.memoryPolicy: on which NUMA nodes the process's memory lies (set_mempolicy(2); runtime-spec 1.3)."""

from __future__ import annotations

from pyruntime.errors import ConfigError, KernelError, StepError, errno_name, strerror
from pyruntime.features.process.affinity import parse_list
from pyruntime.kernel.scheduling import set_memory_policy
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request

# linux/mempolicy.h
MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}
_WITHOUT_NODES = ("MPOL_DEFAULT", "MPOL_LOCAL")
_MAYBE_NODES = ("MPOL_PREFERRED",)


def plan(request: Request) -> Iterator[Step]:
    """ENTER: init sets its own, since a policy belongs to a thread and survives execve."""
    given = request.linux.get("memoryPolicy")
    if not given:
        return
    here = "/linux/memoryPolicy"
    mode, nodes, flags = given["mode"], given.get("nodes") or "", list(given.get("flags") or ())
    if nodes and mode in _WITHOUT_NODES:
        raise ConfigError(f"{mode} takes no nodes", pointer=f"{here}/nodes", hint="leave nodes out")
    if not nodes and mode not in _WITHOUT_NODES + _MAYBE_NODES:
        raise ConfigError(f"{mode} needs nodes", pointer=here, hint='set nodes, such as "0-3,7"')
    if "MPOL_F_STATIC_NODES" in flags and "MPOL_F_RELATIVE_NODES" in flags:
        raise ConfigError("MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other", pointer=here)
    listed = parse_list(nodes, f"{here}/nodes") if nodes else []
    yield Step(here, set_policy, mode=mode, nodes=listed, flags=flags)


def set_policy(init: InitActor, mode: str, nodes: list[int], flags: list[str]) -> None:
    """set the memory policy {mode} for the nodes {nodes}"""
    value = MODES[mode]
    for flag in flags:
        value |= FLAGS[flag]
    try:
        set_memory_policy(value, nodes)
    except KernelError as error:
        name = errno_name(error.errno)
        raise StepError(
            f"set the memory policy {mode}: {strerror(error.errno)} ({name})",
            why="this kernel has no NUMA"
            if name == "ENOSYS"
            else "the machine or the cpuset has none of the nodes, or this kernel not that mode",
            hint="name nodes of /sys/devices/system/node/has_memory" if name == "EINVAL" else None,
            step=f"set the memory policy {mode}",
            syscall=error.call(),
            errno=name,
        ) from error
