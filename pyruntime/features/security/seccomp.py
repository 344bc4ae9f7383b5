"""linux.seccomp: the filter of system calls (seccomp(2); runtime-spec config-linux.md, "Seccomp").

The parent compiles the filter before the clone, or finds it compiled in the cache (seccomp_cache.py); init
inherits the program with the parent's memory and loads it as late as it can:

* with noNewPrivileges as its very last step: everything before needs no place in the profile;
* without it before it gives its privileges up, because loading a filter then takes CAP_SYS_ADMIN.

Whatever init does afterwards passes the filter, as it does under runc. Between loading a filter with a
listener and having reported it to the parent, init calls write(2) and read(2) only (libcontainer's order).

Where init clones the process that executes the program (runtime/spawn.py), that process loads the filter, as the last
thing but execve(2), if it can: with noNewPrivileges. It must as well when the filter has a listener, since that is
sent with its pid, or forbids the clone; then it has CAP_SYS_ADMIN up to that moment.
"""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, KernelError, StepError, from_json
from pyruntime.kernel import process
from pyruntime.kernel.constants import CAP_SYS_ADMIN, EACCES, PR_SET_DUMPABLE
from pyruntime.kernel.filter import FLAGS, flag_bits, load_filter
from pyruntime.plan.step import Step
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor, ParentActor
    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import Seccomp

_NOTIFY = "SCMP_ACT_NOTIFY"
_TSYNC = "SECCOMP_FILTER_FLAG_TSYNC"
_WAIT_KILLABLE = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
# Without the field `flags`, as runc and crun: the mitigation of Spectre v4 for every task with a filter is
# what Linux itself gave up in 5.16, for its cost.
_DEFAULT_FLAGS = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)

# The program of the container being made. Init has it by being a clone of the parent: 15 KiB less to send.
_program = b""


def plan(request: Request) -> Iterator[Step]:
    """PREPARE: compile the filter."""
    section = request.linux.get("seccomp")
    if section:
        check(section)
        yield Step(
            "/linux/seccomp",
            prepare,
            rules=len(section.get("syscalls") or ()),
            otherwise=section["defaultAction"],
        )


def plan_privileged(request: Request) -> Iterator[Step]:
    """BECOME, before privileges are dropped: the filter of a process without noNewPrivileges."""
    if not request.process.get("noNewPrivileges"):
        yield from _plan_load(request, 1 << CAP_SYS_ADMIN)


def plan_unprivileged(request: Request) -> Iterator[Step]:
    """BECOME, the last step: the filter of a process with noNewPrivileges."""
    if request.process.get("noNewPrivileges"):
        yield from _plan_load(request, 0)


def _plan_load(request: Request, needs: int) -> Iterator[Step]:
    section = request.linux.get("seccomp")
    if not section:
        return
    flags = section.get("flags")
    flags = list(_DEFAULT_FLAGS if flags is None else flags)
    if uses_listener(section):
        flags.append("SECCOMP_FILTER_FLAG_NEW_LISTENER")
        if _TSYNC in flags:
            # TSYNC returns a thread, NEW_LISTENER a descriptor: together they take this flag (Linux 5.7).
            flags.append("SECCOMP_FILTER_FLAG_TSYNC_ESRCH")
    elif _WAIT_KILLABLE in flags:
        flags.remove(_WAIT_KILLABLE)
        request.warn(f"/linux/seccomp/flags: {_WAIT_KILLABLE} means nothing without {_NOTIFY}; it is left out")
    yield Step("/linux/seccomp", load, flags=flags, visible=request.rootless, needs=needs)


def uses_listener(section: Seccomp) -> bool:
    """Return whether a profile hands system calls to a listener."""
    return any(rule["action"] == _NOTIFY for rule in section.get("syscalls") or ())


def check(section: Seccomp) -> None:
    """Raise ConfigError for a listener that would be asked about init's own calls, like runc."""
    here = "/linux/seccomp"
    if section["defaultAction"] == _NOTIFY:
        raise ConfigError(
            f"{_NOTIFY} cannot be the default action",
            pointer=f"{here}/defaultAction",
            why="init itself would wait for a listener that is not received yet",
            hint="name the system calls to be handed over",
        )
    for index, rule in enumerate(section.get("syscalls") or ()):
        if rule["action"] == _NOTIFY and "write" in rule["names"]:
            raise ConfigError(
                f"write cannot have the action {_NOTIFY}",
                pointer=f"{here}/syscalls/{index}/names",
                why="init reports the listener to the runtime with it",
                hint="take write out of the rule",
            )


def prepare(parent: ParentActor, rules: int, otherwise: str) -> None:
    """compile the system call filter ({rules} rules, otherwise {otherwise})"""
    global _program
    from pyruntime.features.security import seccomp_cache

    root = parent.record.directory.rpartition("/")[0]
    section = parent.request.linux["seccomp"]
    key = seccomp_cache.key(section)
    program = seccomp_cache.find(root, key)
    if program is None:
        from pyruntime.features.security import seccomp_profile

        compiled = seccomp_profile.compile_profile(section)
        for note in compiled.notes:
            parent.log.tell("debug", f"/linux/seccomp: {note}")
        program = compiled.program
        seccomp_cache.store(root, key, program, compiled.library)
    _program = program
    if parent.request.spawns():
        from pyruntime.features.security import seccomp_evaluate  # noqa: F401  # nothing can be imported after the clone


def load(init: InitActor, flags: list[str], visible: bool, needs: int) -> None:
    """load the system call filter ({flags})"""
    listens = "SECCOMP_FILTER_FLAG_NEW_LISTENER" in flags
    if listens and visible:
        # A parent without privileges may take descriptors out of a process that is dumpable only (ptrace(2)).
        process.prctl(PR_SET_DUMPABLE, 1)
    if init.spawn is not None and (listens or not needs or init.spawn.in_python or not _allows_spawn()):
        init.spawn.filter, init.spawn.filter_flags = _program, flag_bits(flags)
        init.spawn.keep = needs
        return
    load_bits(init, _program, flag_bits(flags))


def load_bits(init: InitActor, program: bytes, flags: int) -> None:
    """Load a filter with flags as seccomp(2) takes them; a listener is handed to the parent. Raises StepError."""
    try:
        listener = load_filter(program, flags)
    except KernelError as error:
        if error.errno != EACCES:
            raise
        raise StepError(
            "load the system call filter: permission denied (EACCES)",
            why="without noNewPrivileges this takes CAP_SYS_ADMIN in init's user namespace",
            hint="set /process/noNewPrivileges, or leave /linux/seccomp out",
            step="load the system call filter",
            syscall=error.call(),
            errno="EACCES",
        ) from error
    if flags & FLAGS["SECCOMP_FILTER_FLAG_NEW_LISTENER"]:
        _hand_over(init.channel.fileno(), listener)
        posix.close(listener)


def _allows_spawn() -> bool:
    from pyruntime.features.security import seccomp_evaluate  # in memory since `prepare`

    return seccomp_evaluate.allows_spawn(_program)


def _hand_over(channel: int, listener: int) -> None:
    """Have the parent take the listener out of this process, and wait for that."""
    # Not Channel.send: sendmsg(2) may be one of the system calls that wait for the listener.
    posix.write(channel, fastjson.dumps({"type": "procSeccomp", "arg": {"fd": listener}}).encode())
    answer = posix.read(channel, 65536)
    message = fastjson.loads(answer.decode()) if answer else {}
    if message.get("type") == "procError":
        raise from_json(message["arg"])
    if message.get("type") != "procSeccompDone":
        raise StepError("hand the system call listener over: the parent is gone")
