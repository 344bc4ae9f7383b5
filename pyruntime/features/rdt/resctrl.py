"""linux.intelRdt: shares of cache and memory bandwidth, by a group of resctrl (filesystems/resctrl.rst)."""

from __future__ import annotations

import posix

from pyruntime.errors import StepError
from pyruntime.kernel.constants import EINVAL
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import ParentActor
    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import IntelRdt
    from pyruntime.state.store import Record

ROOT = "/sys/fs/resctrl"
_FIELD = "/linux/intelRdt"


def plan(request: Request) -> Iterator[Step]:
    """SETUP: a group, its schemata, and init in it (runtime-spec config-linux.md, "IntelRdt")."""
    given = request.linux.get("intelRdt")
    if not given:
        return
    group = given.get("closID") or request.id
    lines = schemata(given)
    own = not given.get("closID")
    yield Step(_FIELD, enter, group=group, own=own, lines=lines)
    if given.get("enableMonitoring"):
        yield Step(f"{_FIELD}/enableMonitoring", monitor, group=group, name=request.id)


def plan_exec(request: Request) -> Iterator[Step]:
    """SETUP: one more process into the container's group, and into what counts it."""
    given = request.linux.get("intelRdt")
    if given:
        paths = [_path(given.get("closID") or request.id)]
        if given.get("enableMonitoring"):
            paths.append(f"{paths[0]}/mon_groups/{request.id}")
        yield Step(_FIELD, join, paths=paths)


def schemata(given: IntelRdt) -> list[str]:
    """Return the lines to write: those of l3CacheSchema, without its MB: lines when memBwSchema has one, that of
    memBwSchema, and those of schemata, which has the last word."""
    bandwidth = given.get("memBwSchema") or ""
    cache = [line.strip() for line in (given.get("l3CacheSchema") or "").splitlines() if line.strip()]
    if bandwidth:
        cache = [line for line in cache if not line.startswith("MB:")]
        cache.append(bandwidth.strip())
    return cache + [line.strip() for line in given.get("schemata") or () if line.strip()]


def enter(parent: ParentActor, group: str, own: bool, lines: list[str]) -> None:
    """put init into the resctrl group {group}"""
    _require()
    path = _path(group)
    exists = posix.access(path, posix.F_OK)
    if not exists:
        if not own and not lines:
            raise StepError(
                f"the resctrl group {group} does not exist",
                why="a group without schemata must exist already",
                hint=f"make {path}, or say what it allows",
            )
        parent.record.extra["rdt"] = path
        parent.record.save()
        posix.mkdir(path, 0o755)
    write_schemata(path, lines)
    _write(f"{path}/tasks", str(parent.pid))


def join(parent: ParentActor, paths: list[str]) -> None:
    """put the process into the resctrl groups {paths}"""
    # The monitoring group is of the other one, and is left when that is entered: so it comes after.
    for path in paths:
        _write(f"{path}/tasks", str(parent.pid))


def _path(group: str) -> str:
    return ROOT if group == "/" else f"{ROOT}/{group}"


def write_schemata(path: str, lines: list[str]) -> None:
    """Set a group's shares. Raises StepError with the kernel's own words."""
    for line in lines:
        _write(f"{path}/schemata", line + "\n")


def monitor(parent: ParentActor, group: str, name: str) -> None:
    """count what the container uses in the monitoring group {name}"""
    path = f"{_path(group)}/mon_groups/{name}"
    parent.record.extra["rdt_monitor"] = path
    parent.record.save()
    posix.mkdir(path, 0o755)
    _write(f"{path}/tasks", str(parent.pid))


def remove(record: Record) -> None:
    """Remove the groups that were made for a container; those that are gone already are no error."""
    for name in ("rdt_monitor", "rdt"):
        path = record.extra.get(name)
        if path:
            try:
                posix.rmdir(path)
            except FileNotFoundError:
                pass


def _require() -> None:
    if posix.access(f"{ROOT}/schemata", posix.F_OK):
        return
    fd = posix.open("/proc/filesystems", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        known = b"resctrl" in posix.read(fd, 65536).split()
    finally:
        posix.close(fd)
    if known:
        raise StepError(f"resctrl is not mounted on {ROOT}", pointer=_FIELD, hint=f"mount -t resctrl resctrl {ROOT}")
    raise StepError(
        "this host has no resctrl",
        pointer=_FIELD,
        why="its kernel is built without it, or its processors have no cache or bandwidth control",
        hint="leave intelRdt out",
    )


def _write(path: str, text: str) -> None:
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(fd, text.encode())
    except OSError as error:
        reason = _last_status() if error.errno == EINVAL else None
        raise StepError(f"write {text.strip()!r} to {path}: {error.strerror}", pointer=_FIELD, why=reason) from error
    finally:
        posix.close(fd)


def _last_status() -> str | None:
    """Return the kernel's own words on the last refusal."""
    try:
        fd = posix.open(f"{ROOT}/info/last_cmd_status", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None
    try:
        return posix.read(fd, 4096).decode(errors="replace").strip() or None
    finally:
        posix.close(fd)
