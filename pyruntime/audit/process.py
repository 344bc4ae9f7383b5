"""Check the attributes of the process: /proc/PID/status, attr, prlimit(2)."""

from __future__ import annotations

import posix

from pyruntime.audit.comparison import Comparison, as_asked, cannot_see, compare, drifted
from pyruntime.features.process.capabilities import names
from pyruntime.features.process.personality import DOMAINS
from pyruntime.features.process.rlimits import INFINITY, RESOURCES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.audit.view import View

_ITSELF = "a process may change this by itself"


def uid(view: View, pointer: str, uid: int, **_: object) -> Iterator[Comparison]:
    """Check real, effective, saved and filesystem uid."""
    yield _id(view, pointer, "uid", uid, "Uid", "uid_map")


def gid(view: View, pointer: str, gid: int, **_: object) -> Iterator[Comparison]:
    """Check real, effective, saved and filesystem gid."""
    yield _id(view, pointer, "gid", gid, "Gid", "gid_map")


def _id(view: View, pointer: str, what: str, asked: int, field: str, file: str) -> Comparison:
    wanted = outside(view, file, asked)
    found = [int(word) for word in view.status[field].split()]
    shown = f"{what} {asked}" + (f" (here {wanted})" if wanted != asked else "")
    if found == [wanted] * 4:
        return as_asked(pointer, shown)
    return drifted(pointer, shown, wanted, sorted(set(found)), _ITSELF if asked == 0 else "")


def outside(view: View, file: str, number: int) -> int:
    """Map an id of the container to this user namespace (user_namespaces(7)); -1 if it is not mapped."""
    for line in view.read(file).splitlines():
        inside, here, size = map(int, line.split())
        if inside <= number < inside + size:
            return here + number - inside
    return -1


def groups(view: View, pointer: str, groups: list[int], **_: object) -> Iterator[Comparison]:
    """Check the supplementary groups."""
    wanted = sorted(outside(view, "gid_map", number) for number in groups)
    found = sorted(int(word) for word in view.status["Groups"].split())
    if found == wanted or not set(found) - set(wanted) - {outside(view, "gid_map", 0)}:
        missing = set(wanted) - set(found)
        yield as_asked(pointer, "additional groups", f"without {sorted(missing)}" if missing else "")
    else:
        yield drifted(pointer, "additional groups", wanted or "none", found, _ITSELF)


def umask(view: View, pointer: str, umask: str, **_: object) -> Iterator[Comparison]:
    """Check the umask, if config.json sets it."""
    if pointer:
        yield compare(pointer, "umask", umask, view.status.get("Umask", umask), _ITSELF)


def no_new_privileges(view: View, pointer: str, **_: object) -> Iterator[Comparison]:
    """Check no_new_privs."""
    yield compare(pointer, "no new privileges", "1", view.status.get("NoNewPrivs", "?"))


def bounding(view: View, pointer: str, mask: int, **_: object) -> Iterator[Comparison]:
    """Check the bounding set."""
    yield _capabilities(view, pointer, "bounding", "CapBnd", mask, mask)


def capabilities(
    view: View, pointer: str, effective: int, permitted: int, inheritable: int, ambient: int, **_: object
) -> Iterator[Comparison]:
    """Check the other capability sets, after execve(2)."""
    after = _after_execve(view, permitted, inheritable, ambient)
    yield _capabilities(view, f"{pointer}/effective", "effective", "CapEff", effective, after)
    yield _capabilities(view, f"{pointer}/permitted", "permitted", "CapPrm", permitted, after)
    yield _capabilities(view, f"{pointer}/inheritable", "inheritable", "CapInh", inheritable, inheritable)
    yield _capabilities(view, f"{pointer}/ambient", "ambient", "CapAmb", ambient, ambient)


def _after_execve(view: View, permitted: int, inheritable: int, ambient: int) -> int:
    """Return the permitted set after execve(2) of a program without file capabilities (capabilities(7))."""
    if view.status["Uid"].split()[1] != str(outside(view, "uid_map", 0)):
        return ambient
    # Root's programs count as having all file capabilities; no_new_privs lets them gain nothing by that.
    gained = inheritable | int(view.status["CapBnd"], 16)
    return gained & permitted if view.status.get("NoNewPrivs") == "1" else gained


def _capabilities(view: View, pointer: str, kind: str, field: str, asked: int, after: int) -> Comparison:
    what = f"{kind} capabilities"
    found = int(view.status[field], 16)
    if found in (asked, after):
        return as_asked(pointer, what)
    more = found & ~(asked | after)
    if more:
        note = f"more than asked for: {names(more) or hex(more)}"
        return drifted(pointer, what, names(asked) or "none", names(found) or hex(found), note)
    fewer = asked & ~found
    return as_asked(pointer, what, f"without {names(fewer)}: the host lacks it, or the process gave it up")


def seccomp(view: View, pointer: str, **_: object) -> Iterator[Comparison]:
    """Check that a seccomp filter is active. The kernel does not show its rules."""
    mode = view.status.get("Seccomp")
    count = view.status.get("Seccomp_filters", "1")
    if mode is None:
        yield cannot_see(pointer, "a filter of system calls", "this kernel has none")
    elif mode == "2":
        yield as_asked(pointer, "a filter of system calls", f"in force: {count}; what is in them the kernel keeps")
    else:
        yield drifted(pointer, "a filter of system calls", "mode 2 (filter)", f"mode {mode}")


def apparmor(view: View, pointer: str, profile: str, **_: object) -> Iterator[Comparison]:
    """Check the AppArmor profile."""
    yield _label(view, pointer, f"the AppArmor profile {profile}", profile, ("attr/apparmor/current", "attr/current"))


def selinux(view: View, pointer: str, label: str, **_: object) -> Iterator[Comparison]:
    """Check the SELinux label of the process."""
    yield _label(view, pointer, f"the SELinux label {label}", label, ("attr/current",))


def _label(view: View, pointer: str, what: str, asked: str, attributes: tuple[str, ...]) -> Comparison:
    for name in attributes:
        try:
            found = view.read(name).strip("\n\0 ")
        except OSError:
            continue  # EINVAL: the module is not switched on
        if found:
            bare = found.partition(" (")[0]
            note = "complaining, not enforcing" if "(complain)" in found else ""
            return compare(pointer, what, asked, bare, note)
    return cannot_see(pointer, what, "the security module is not switched on on this host")


def rlimit(view: View, pointer: str, limit: str, soft: int, hard: int, **_: object) -> Iterator[Comparison]:
    """Check a resource limit (prlimit(2))."""
    import resource

    infinite = resource.RLIM_INFINITY
    try:
        found = resource.prlimit(view.pid, RESOURCES[limit])
    except OSError as error:
        yield cannot_see(pointer, limit, str(error.strerror))
        return
    got = [INFINITY if value == infinite else value for value in found]
    asked = f"soft {_shown(soft)}, hard {_shown(hard)}"
    yield compare(pointer, limit, asked, f"soft {_shown(got[0])}, hard {_shown(got[1])}")


def _shown(value: int) -> str:
    return "unlimited" if value == INFINITY else str(value)


def oom_score(view: View, pointer: str, value: int, **_: object) -> Iterator[Comparison]:
    """Check oom_score_adj."""
    yield compare(pointer, f"oom_score_adj {value}", str(value), view.read("oom_score_adj").strip())


def personality(view: View, pointer: str, domain: str, **_: object) -> Iterator[Comparison]:
    """Check the execution domain, the low byte of personality(2)."""
    try:
        found = int(view.read("personality"), 16) & 0xFF
    except OSError as error:
        yield cannot_see(pointer, f"personality {domain}", str(error.strerror))
        return
    shown = next((name for name, number in DOMAINS.items() if number == found), hex(found))
    yield compare(pointer, f"personality {domain}", domain, shown)


_POLICIES = {0: "SCHED_OTHER", 1: "SCHED_FIFO", 2: "SCHED_RR", 3: "SCHED_BATCH", 5: "SCHED_IDLE", 6: "SCHED_DEADLINE"}


def scheduler(view: View, pointer: str, policy: str, nice: int, priority: int, **_: object) -> Iterator[Comparison]:
    """Check the scheduling policy, and the priority or nice value."""
    number = posix.sched_getscheduler(view.pid) & ~posix.SCHED_RESET_ON_FORK
    shown = _POLICIES.get(number, str(number))
    yield compare(f"{pointer}/policy", f"scheduled as {policy}", policy, shown)
    if policy in ("SCHED_FIFO", "SCHED_RR"):
        found = posix.sched_getparam(view.pid).sched_priority
        yield compare(f"{pointer}/priority", "priority", priority, found)
    elif policy in ("SCHED_OTHER", "SCHED_BATCH"):
        yield compare(f"{pointer}/nice", "nice", nice, posix.getpriority(posix.PRIO_PROCESS, view.pid), _ITSELF)
