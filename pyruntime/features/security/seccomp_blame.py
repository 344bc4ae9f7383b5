"""Whether linux.seccomp is the cause of an error: the filter holds for the last system calls of init, too.

Imported when something has failed already. With noNewPrivileges the filter is loaded last, so few calls are
affected; without it, init still changes capabilities and user under the filter (features/security/seccomp.py).
"""

from __future__ import annotations

from pyruntime.errors import PyruntimeError
from pyruntime.state import store
from pyruntime.util import fastjson
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.spec.sections import Config, Seccomp
    from pyruntime.state.store import Record

# What init calls after it has loaded the filter.
_LAST = ("read", "write", "close", "mmap", "munmap", "execve", "exit_group")
_PRIVILEGED = ("prctl", "capset", "setresuid", "setresgid", "setgroups", "openat2", "newfstatat", "faccessat2")
_PASSING = frozenset(("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY"))
# How an init ends that is killed at a system call, or cannot continue without one.
_DEATHS = ("killed by signal 31", "killed by signal 11", "exit status", "has stopped", "is gone")


def explain_of(record: Record, error: PyruntimeError) -> None:
    """Name the filter as the cause of an error of a container's init, by the config.json that `create` has kept."""
    try:
        config: Config = fastjson.loads(read_file(record.path(store.CONFIG)))
        explain(error, config)
    except (OSError, ValueError):
        pass  # the first error is the one to show


def explain(error: BaseException, config: Config) -> None:
    """Name the filter as the cause of an error of init, if it is."""
    section = (config.get("linux") or {}).get("seccomp")
    if not section or not isinstance(error, PyruntimeError) or error.why:
        return
    refused = refusals(section, bool((config.get("process") or {}).get("noNewPrivileges")))
    call = (error.syscall or "").partition("(")[0]
    died = any(how in error.message for how in _DEATHS)
    if not refused or not (call in refused or died or (error.errno and not call) or call == "execve"):
        if "signal 31" not in error.message:
            return
        error.why = "signal 31 is SIGSYS: the filter of linux.seccomp killed it"
        error.hint = "allow the system call that the kernel's log names (dmesg, ausearch -m SECCOMP)"
        return
    names = call if call in refused else ", ".join(refused)
    error.why = f"linux.seccomp refuses {names}, which init needs after it has loaded the filter"
    error.hint = f"allow {names} in linux.seccomp"


def refusals(section: Seccomp, no_new_privileges: bool) -> list[str]:
    """Return the system calls that init still needs and that a profile refuses, whatever their arguments."""
    needed = _LAST if no_new_privileges else (*_LAST, *_PRIVILEGED)
    allowed = {name for rule in section.get("syscalls") or () if rule["action"] in _PASSING for name in rule["names"]}
    denied = {
        name
        for rule in section.get("syscalls") or ()
        if rule["action"] not in _PASSING and not rule.get("args")
        for name in rule["names"]
    }
    otherwise = section.get("defaultAction") in _PASSING
    return [name for name in needed if name in denied or not (otherwise or name in allowed)]
