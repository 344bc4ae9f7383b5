"""Detect a process of ours that makes no progress: init, or one that `exec` brings into a container.

A container must not hold up the commands that act on it. Yet on its way to the user's program our process enters the
container's cgroup, which may be frozen, or be out of memory without an OOM killer; it opens files below the rootfs,
and the filesystem there (FUSE, NFS) may never answer; in a shared pid namespace it can be sent SIGSTOP. Who waits for
it looks here every SECONDS: has it run at all since the last look?

Hooks are not the container: they may take as long as they like, or as their timeout says (runtime-spec config.md).

Imported after a wait without result, never by a command that works.
"""

from __future__ import annotations

import posix

from pyruntime import runtime
from pyruntime.errors import StepError
from pyruntime.util import procfs
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select

# Slow work (a copied-up directory of gigabytes, a CPU quota of a thousandth) is progress, but it must end.
LONGEST = 600.0

# Beginnings of kernel functions, in the order in which /proc/PID/stack may have them: what the process waits for.
_WAITS = (
    (("fuse_", "request_wait_answer"), "a FUSE filesystem does not answer"),
    (("nfs", "rpc_", "__rpc_"), "an NFS server does not answer"),
    (("cifs_", "smb2_"), "an SMB server does not answer"),
    (("p9_", "v9fs_"), "a 9p server does not answer"),
    (("do_freezer_trap", "__refrigerator"), "its cgroup is frozen"),
    # do_freezer_trap, where the compiler has made it a part of its caller: a stopped process has another state.
    (("get_signal",), "its cgroup is frozen"),
    (("mem_cgroup_oom",), "its cgroup is out of memory, and the OOM killer is off (memory.disableOOMKiller)"),
    (("seccomp_do_user_notification",), "the agent at linux.seccomp.listenerPath does not answer a system call"),
)


class Watch:
    """Checks one process periodically for a caller that waits for it.

    doing: what it should be doing, for the error; may be changed meanwhile."""

    def __init__(self, pid: int, doing: str) -> None:
        self.pid = pid
        self.doing = doing
        self.seen = ""
        self.seconds = 0.0

    def look(self) -> None:
        """Check after each PATIENCE seconds of waiting. Raises StepError when the process makes no progress."""
        if _hooks(self.pid):
            self.seen, self.seconds = "", 0.0
            return
        self.seconds += runtime.PATIENCE
        before, self.seen = self.seen, _progress(self.pid)
        if self.seen and self.seen != before and self.seconds < LONGEST:
            return
        raise StepError(
            f"the container's process (pid {self.pid}) makes no progress: {self.doing} has taken {self.seconds:g} s",
            why=reason(self.pid),
            hint="run the command with --debug: the last step that it logs is the one that hangs",
        )


def wait(poll: select.poll, watch: Watch) -> None:
    """Wait until something of `poll` is ready. Raises StepError when the watched process makes no progress before."""
    while not poll.poll(runtime.PATIENCE * 1000):
        watch.look()


def reason(pid: int) -> str:
    """Return why a process makes no progress, as far as the kernel reports it."""
    state = _field(pid, "State")
    if not state or state[0] in "ZX":
        return "it is dead, and another process holds its end of the handshake open"
    if state[0] in "Tt":
        return "it is stopped (SIGSTOP)" if state[0] == "T" else "it is being traced"
    functions = _functions(pid)
    for beginnings, words in _WAITS:
        if any(function.startswith(beginnings) for function in functions):
            return words
    where = f" in the kernel's {functions[0]}" if functions else ""
    return f"it waits{where} (state {state})"


def _progress(pid: int) -> str:
    """Return what changes whenever a process has run; "" when it is gone."""
    try:
        lines = read_file(f"/proc/{pid}/status").splitlines()
        times = procfs.stat(pid)[procfs.UTIME : procfs.STIME + 1]
    except OSError:
        return ""
    return " ".join([*times, *(line for line in lines if "ctxt_switches" in line)])


def _field(pid: int, name: str) -> str:
    try:
        lines = read_file(f"/proc/{pid}/status").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")), "")


def _functions(pid: int) -> list[str]:
    """Return the kernel's functions that a process is in, the innermost first: all of them for root, else one, or
    none."""
    try:
        # "[<0>] fuse_lookup_name+0xa5/0x2a0"
        lines = read_file(f"/proc/{pid}/stack").splitlines()
        return [line.split()[1].partition("+")[0] for line in lines if len(line.split()) > 1]
    except OSError:
        pass
    try:
        name = read_file(f"/proc/{pid}/wchan")
    except OSError:
        return []
    return [name] if name not in ("", "0") else []


def _hooks(pid: int) -> bool:
    """Return whether a process has children: those of init, before it is the user's program, are hooks."""
    for name in posix.listdir("/proc"):
        if name.isdigit():
            try:
                fields = procfs.stat(name)
            except OSError:
                continue
            if int(fields[procfs.PARENT]) == pid and fields[procfs.STATE] not in "ZX":
                return True
    return False
