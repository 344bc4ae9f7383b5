"""What a config grants beyond what was learnt, and what it lacks."""

from __future__ import annotations

from pyruntime.diagnose.finding import Finding
from pyruntime.features.process.capabilities import SETS
from pyruntime.learn import profile, results, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.learn.profile import Document

RULE = "learnt"


def findings(config: Document, directory: str) -> list[Finding]:
    """Warnings for what is granted and was not needed, errors for what was needed and is not granted."""
    _, report = results.read(directory)
    return [
        *_system_calls(config, report),
        *_capabilities(config, report),
        *_root(config, report),
        *_limits(config, report),
    ]


def _wide(pointer: str, message: str, hint: str) -> Finding:
    return Finding("warning", pointer, message, why="no run needed it", hint=hint, rule=RULE)


def _lacking(pointer: str, message: str, hint: str) -> Finding:
    return Finding("error", pointer, message, why="a run needed it", hint=hint, rule=RULE)


def _system_calls(config: Document, report: Document) -> list[Finding]:
    pointer = "/linux/seccomp"
    given = (config.get("linux") or {}).get("seccomp")
    calls = report["syscalls"]
    needed = {*calls["seen"], *calls["compat"]}
    granted = profile.allowed(given)
    if granted is None:
        denied = profile.denied(given) & needed
        found = [_wide(pointer, f"all system calls but {len(profile.denied(given))} are allowed", "use seccomp.json")]
        if denied:
            found.append(_lacking(pointer, f"denied: {' '.join(sorted(denied))}", "allow them"))
        return found
    found = []
    if more := granted - needed - set(calls["runtime"]):
        found.append(_wide(pointer, f"allowed: {' '.join(sorted(more))}", "remove them from the rules"))
    if less := needed - granted:
        found.append(_lacking(pointer, f"not allowed: {' '.join(sorted(less))}", "allow them"))
    return found


def _capabilities(config: Document, report: Document) -> list[Finding]:
    used = report["capabilities"]["used"]
    if used is None:
        return []
    sets = (config.get("process") or {}).get("capabilities") or {}
    found = []
    for name in SETS:
        more = [one for one in sets.get(name) or () if one not in used]
        if more:
            found.append(
                _wide(f"/process/capabilities/{name}", f"never used: {' '.join(more)}", "remove them from the set")
            )
    if less := [one for one in used if one not in (sets.get("bounding") or ())]:
        found.append(_lacking("/process/capabilities/bounding", f"used: {' '.join(less)}", "add them to the sets"))
    return found


def _root(config: Document, report: Document) -> list[Finding]:
    places = report["paths"]["root_directories"]
    mounts = [mount["destination"] for mount in config.get("mounts") or () if "ro" not in (mount.get("options") or ())]
    covered = {place for place in places if any(written.is_below(place, mount) for mount in mounts)}
    left = [place for place in places if place not in covered]
    if (config.get("root") or {}).get("readonly"):
        return (
            [_lacking("/root/readonly", f"written to: {' '.join(left)}", "mount a tmpfs or a volume there")]
            if left
            else []
        )
    if left or not report["paths"]["root_seen"]:
        return []
    return [_wide("/root/readonly", "the root filesystem can be written to", "set it to true")]


def _limits(config: Document, report: Document) -> list[Finding]:
    resources = (config.get("linux") or {}).get("resources") or {}
    found = []
    for name in ("memory", "pids"):
        pointer, peak = f"/linux/resources/{name}/limit", report["peaks"][name]
        limit = (resources.get(name) or {}).get("limit")
        if limit is None or limit <= 0:
            found.append(_wide(pointer, f"no limit; the peak was {peak}", f"set it to {2 * peak}"))
        elif limit < peak:
            found.append(_lacking(pointer, f"{limit} is below the peak of {peak}", f"raise it to {2 * peak}"))
    return found
