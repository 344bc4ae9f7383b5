"""linux.resources.unified: files of the cgroup2 tree by their own names."""

from __future__ import annotations

from pyruntime.cgroupfs.layout import UNIFIED, Layout
from pyruntime.errors import ConfigError
from pyruntime.features.cgroups import setting
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

POINTER = "/linux/resources/unified"
# What init, which is in the cgroup by then, would not outlive: (what it does, what to do instead).
_ENDS = {
    "cgroup.freeze": ("would freeze init before it is done", "pause the container once it runs"),
    "cgroup.kill": ("would kill init", "leave it out"),
}


def check_new(unified: dict[str, str]) -> None:
    """Raise ConfigError for what may be written to a container that runs, but not to one that is being made."""
    for file, (what, hint) in _ENDS.items():
        if unified.get(file, "").strip() == "1":
            raise ConfigError(f"{file}=1 {what}", pointer=f"{POINTER}/{file}", hint=hint)


def plan(unified: dict[str, str], layout: Layout) -> Iterator[Step]:
    """One step a file, in the order of config.json; every line of a value is written by itself."""
    for file, value in unified.items():
        pointer = f"{POINTER}/{file.replace('~', '~0').replace('/', '~1')}"
        if "/" in file or "." not in file:
            raise ConfigError(f'"{file}" is not a file of a cgroup', pointer=pointer, hint='write it as "memory.high"')
        if layout.kind not in ("v2", "hybrid"):
            raise ConfigError("this host has no cgroup2 tree", pointer=pointer, hint="leave out unified")
        controller = file.partition(".")[0]
        if controller != "cgroup" and layout.serving(controller) != UNIFIED:
            raise ConfigError(
                f"the cgroup2 tree of this host does not have the controller {controller}",
                pointer=pointer,
                why=f"it is {layout.kind}" + (": v1 has it" if layout.serving(controller) else ""),
                hint="leave it out, or use the field of linux.resources that is meant",
            )
        lines = value.splitlines() or [""]
        yield Step(pointer, setting.write_lines, hierarchy=UNIFIED, file=file, value=lines)
