"""What a container has of cache and memory bandwidth, and uses of it: `intel_rdt` of runc's events
(Documentation/arch/x86/resctrl.rst)."""

from __future__ import annotations

import posix

from pyruntime.features.rdt import resctrl
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.spec.sections import IntelRdt

_CACHE = ("cbm_mask", "min_cbm_bits", "num_closids")
_BANDWIDTH = ("bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids")
_COUNTERS = {"mbm_stats": ("mbm_total_bytes", "mbm_local_bytes"), "cmt_stats": ("llc_occupancy",)}


def read(given: IntelRdt | None, id: str, root: str = resctrl.ROOT) -> dict[str, object]:
    """Return the statistics of the container with this linux.intelRdt; {} without one, or without the group.

    root: where resctrl is mounted."""
    if not given:
        return {}
    group = given.get("closID") or id
    directory = root if group == "/" else f"{root}/{group}"
    found: dict[str, object] = {}
    for resource, name, members in (("L3", "l3_cache", _CACHE), ("MB", "mem_bw", _BANDWIDTH)):
        texts = {one: _text(f"{root}/info/{resource}/{one}") for one in members}
        info = {one: text if one == "cbm_mask" else int(text) for one, text in texts.items() if text}
        if info:
            found[f"{name}_info"] = info
        for key, place in ((f"{name}_schema_root", root), (f"{name}_schema", directory)):
            line = _schema(place, resource)
            if line:
                found[key] = line
    if given.get("enableMonitoring"):
        found |= _counted(f"{directory}/mon_groups/{id}/mon_data")
    return found


def _counted(directory: str) -> dict[str, object]:
    """Return the counters of a monitoring group, for each cache: mon_L3_00, mon_L3_01."""
    try:
        domains = sorted(name for name in posix.listdir(directory) if name.startswith("mon_L3"))
    except OSError:
        return {}
    found: dict[str, object] = {}
    for key, names in _COUNTERS.items():
        entries = [
            {name: int(text) for name in names if (text := _text(f"{directory}/{domain}/{name}")).isdigit()}
            for domain in domains
        ]
        if any(entries):
            found[key] = entries
    return found


def _schema(directory: str, resource: str) -> str:
    """Return the line of a resource: `L3:0=fffff;1=fffff`."""
    for line in _text(f"{directory}/schemata").splitlines():
        if line.strip().startswith(f"{resource}:"):
            return line.strip()
    return ""


def _text(path: str) -> str:
    try:
        return read_file(path).strip()
    except OSError:
        return ""
