"""Freezing a container: the v1 freezer, or cgroup.freeze of v2."""

from __future__ import annotations

from pyruntime.cgroups.layout import UNIFIED
from pyruntime.cgroups.place import write
from pyruntime.state import read_file


def is_frozen(cgroups: dict[str, str]) -> bool:
    """Whether the container's cgroup is frozen, or on its way there."""
    try:
        if "freezer" in cgroups:
            return read_file(f"{cgroups['freezer']}/freezer.state").strip() != "THAWED"
        if UNIFIED in cgroups:
            return read_file(f"{cgroups[UNIFIED]}/cgroup.freeze").strip() == "1"
    except OSError:
        pass
    return False


def thaw(cgroups: dict[str, str]) -> None:
    """Let a frozen container go on."""
    if "freezer" in cgroups:
        write(f"{cgroups['freezer']}/freezer.state", "THAWED")
    elif UNIFIED in cgroups:
        write(f"{cgroups[UNIFIED]}/cgroup.freeze", "0")
