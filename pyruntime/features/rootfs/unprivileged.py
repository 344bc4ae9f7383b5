"""What a user namespace may not mount, and what stands in for it (user_namespaces(7), mount_namespaces(7)).

proc, sysfs and mqueue show a pid, network or ipc namespace, and only root of the user namespace that owns it may
mount them. A container with a user namespace of its own that shares one of these with the host gets the host's
mount bound. With one of its own it can mount them, unless the runtime itself is in a container that hides parts
of the host's: then there is nothing to bind that would be the container's.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import IdMapping

# filesystem -> the namespace that it shows, and where the host has it
_SHOWN = {"sysfs": ("network", "/sys"), "proc": ("pid", "/proc"), "mqueue": ("ipc", "/dev/mqueue")}


def stand_in(request: Request, kind: str) -> str:
    """Return the path of the host to bind where a filesystem cannot be mounted, "" where nothing can stand in."""
    if kind not in _SHOWN:
        return ""
    namespace, path = _SHOWN[kind]
    if kind == "sysfs":
        return "" if request.has_new(namespace) else path
    return "" if request.namespace(namespace)[0] else path


def without_unmapped_group(request: Request, pointer: str, kind: str, data: list[str]) -> list[str]:
    """Return the options for the filesystem without devpts's `gid=` of a group that is not mapped.

    Engines ask for `gid=5` (tty) by habit, also of a user namespace with one id."""
    maps = request.linux.get("gidMappings")
    if kind != "devpts" or not maps:
        return data
    kept = []
    for word in data:
        key, _, value = word.partition("=")
        if key == "gid" and value.isdigit() and not _is_mapped(int(value), maps):
            request.warn(f"config.json: {pointer}/options: {word} is left out: the group is not in /linux/gidMappings")
        else:
            kept.append(word)
    return kept


def _is_mapped(number: int, maps: list[IdMapping]) -> bool:
    return any(line["containerID"] <= number < line["containerID"] + line["size"] for line in maps)
