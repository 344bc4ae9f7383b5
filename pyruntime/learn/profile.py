"""Profiles of system calls: what was seen, cut to what the config allowed (runtime-spec config-linux.md, "Seccomp").

A learnt profile denies by default and allows names. It is never wider than the profile it was learnt under: rules that
restrict stay, and a name is allowed only where that profile allowed it, under the same conditions.
"""

from __future__ import annotations

import posix
from itertools import product

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Document = dict[str, Any]  # JSON that was read: a config, a profile, a report

GRANTS = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", ("SCMP_ARCH_X86",)),
    "aarch64": ("SCMP_ARCH_AARCH64", ("SCMP_ARCH_ARM",)),
}
# What init calls between the load of the filter and the wait for `start`, when learning has not begun: always, and
# where the filter is loaded before privileges are dropped (features/security/seccomp.py). tests/linux/test_learn.py
# runs a program that calls almost nothing under profiles of these.
RUNTIME = ("brk", "close", "execve", "exit_group", "madvise", "mmap", "munmap", "read", "write")
RUNTIME_PRIVILEGED = (
    "access capget capset chdir faccessat fchdir fstat getcwd getdents64 lseek newfstatat openat prctl pread64 "
    "setgroups setresgid setresuid uname"
).split()
# What runc's init calls under the filter, which docker loads before privileges are dropped, and what Go's runtime calls
# beside it. tests/linux/test_learn.py runs runc under it.
RUNC = (
    "brk capget capset chdir clone close epoll_ctl epoll_pwait execve exit exit_group faccessat2 fchown fcntl fstat "
    "fstatfs futex getcwd getdents64 getpid getppid gettid madvise mmap mprotect munmap nanosleep newfstatat openat "
    "prctl read rt_sigaction rt_sigprocmask rt_sigreturn sched_yield setgid setgroups setuid sigaltstack tgkill write"
).split()
_INVERSE = {
    "SCMP_CMP_EQ": "SCMP_CMP_NE",
    "SCMP_CMP_NE": "SCMP_CMP_EQ",
    "SCMP_CMP_LT": "SCMP_CMP_GE",
    "SCMP_CMP_GE": "SCMP_CMP_LT",
    "SCMP_CMP_LE": "SCMP_CMP_GT",
    "SCMP_CMP_GT": "SCMP_CMP_LE",
}


def of_runtime(config: Document) -> list[str]:
    """Return the calls that the runtime itself makes under the filter."""
    if (config.get("process") or {}).get("noNewPrivileges"):
        return list(RUNTIME)
    return sorted({*RUNTIME, *RUNTIME_PRIVILEGED})


def learnt(given: Document | None, names: Iterable[str], *, compat: bool) -> tuple[Document, list[str]]:
    """Return a profile that allows `names` as far as the given one allowed them: (linux.seccomp, what was left out,
    as sentences).

    compat: a program of the 32-bit architecture ran."""
    wanted = set(names)
    notes: list[str] = []
    native, foreign = _ARCHITECTURES.get(posix.uname().machine, ("", ()))
    profile: Document = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1}
    if not given:
        profile["architectures"] = [native, *(foreign if compat else ())]
        profile["syscalls"] = [{"names": sorted(wanted), "action": "SCMP_ACT_ALLOW"}]
        return profile, notes
    architectures = given.get("architectures") or [native]
    profile["architectures"] = [one for one in architectures if compat or one not in foreign]
    for member in ("flags", "listenerPath", "listenerMetadata"):
        if member in given:
            profile[member] = given[member]
    if given["defaultAction"] in GRANTS:
        profile["syscalls"] = _from_denials(given, wanted, notes)
    else:
        profile["defaultAction"] = given["defaultAction"]
        del profile["defaultErrnoRet"]
        if "defaultErrnoRet" in given:
            profile["defaultErrnoRet"] = given["defaultErrnoRet"]
        profile["syscalls"] = _from_grants(given, wanted, notes)
    return profile, notes


def _from_grants(given: Document, wanted: set[str], notes: list[str]) -> list[Document]:
    """Rules of a profile that denies by default: its grants for what is wanted, and all its restrictions."""
    rules = []
    granted: set[str] = set()
    for rule in given.get("syscalls") or ():
        if rule["action"] not in GRANTS:
            rules.append(rule)
            granted |= set(rule["names"])
            continue
        names = [name for name in rule["names"] if name in wanted]
        granted |= set(names)
        if names:
            rules.append({**rule, "names": sorted(names)})
    for name in sorted(wanted - granted):
        notes.append(f"system calls: {name} was called, and the config denies it: it stays denied")
    return rules


def _from_denials(given: Document, wanted: set[str], notes: list[str]) -> list[Document]:
    """Rules for a profile that denies by default, from one that allows by default."""
    denials: dict[str, list[list[Document]]] = {}
    rules = []
    for rule in given.get("syscalls") or ():
        if rule["action"] in GRANTS:
            continue
        rules.append(rule)
        for name in rule["names"]:
            denials.setdefault(name, []).append(rule.get("args") or [])
    plain = sorted(wanted - denials.keys())
    if plain:
        rules.append({"names": plain, "action": given["defaultAction"]})
    for name in sorted(wanted & denials.keys()):
        conditions = denials[name]
        if not all(conditions):
            notes.append(f"system calls: {name} was called, and the config denies it: it stays denied")
            continue
        if any(one["op"] not in _INVERSE for all_of in conditions for one in all_of):
            notes.append(f"system calls: {name} is left out: its condition in the config has no inverse")
            continue
        # Allowed when of each denial at least one comparison fails.
        for choice in product(*conditions):
            arguments = [{**one, "op": _INVERSE[one["op"]]} for one in choice]
            rules.append({"names": [name], "action": given["defaultAction"], "args": arguments})
    return rules


def for_docker(given: Document | None, names: Iterable[str], *, compat: bool) -> Document:
    """As `learnt`, as `docker run --security-opt seccomp=FILE` takes it, with what runc calls itself."""
    profile, _ = learnt(given, {*names, *RUNC}, compat=compat)
    found = {key: value for key, value in profile.items() if key in ("defaultAction", "defaultErrnoRet", "flags")}
    found["architectures"] = profile["architectures"]
    found["syscalls"] = profile["syscalls"]
    return found


def denied(profile: Document | None) -> set[str]:
    """Return names that a profile denies under any arguments."""
    rules = (profile or {}).get("syscalls") or ()
    return {name for rule in rules if rule["action"] not in GRANTS and not rule.get("args") for name in rule["names"]}


def allowed(profile: Document | None) -> set[str] | None:
    """Return names that a profile allows at least under conditions; None when it allows all that it does not name."""
    if not profile or profile["defaultAction"] in GRANTS:
        return None
    return {name for rule in profile.get("syscalls") or () if rule["action"] in GRANTS for name in rule["names"]}
