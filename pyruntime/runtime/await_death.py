"""Wait for an init that is dead and cannot be reaped: a process of its pid namespace is a zombie.

pid_namespaces(7): an init's exit waits until every process of its namespace is gone, zombies too. One that `exec
--detach` has started is the child of a process outside that is to reap it. Loaded when an init does not exit at once.
"""

from __future__ import annotations

import posix
import time

from pyruntime.errors import StateError
from pyruntime.kernel.constants import PF_EXITING
from pyruntime.util import procfs
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select

    from pyruntime.state.store import Record

_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 1.0  # in which a parent usually reaps


def await_death(record: Record, poll: select.poll, seconds: float) -> str:
    """Wait until a killed init has exited. poll: its pidfd is registered for POLLIN.

    Returns "" when it has exited, otherwise a description of the zombies that it waits for: no process of the container
    runs then, and its cgroups can be removed. Raises StateError after `seconds`."""
    begin = time.monotonic()
    while not poll.poll(_LOOK_SECONDS * 1000):
        now = time.monotonic()
        if now - begin > _GRACE_SECONDS:
            zombies = holding(record.pid)
            if zombies:
                return _describe(zombies)
        if now - begin > seconds:
            raise StateError(
                f"container {record.id}: init (pid {record.pid}) did not die within {seconds:g} s",
                why="it is stuck in the kernel, on a dead network filesystem or a failing disk for example",
                hint=f"look at /proc/{record.pid}/stack, then delete again",
            )
    return ""


def holding(init: int) -> list[int]:
    """Return the pids of zombies that an exiting init waits for; [] if it is not exiting, or waits for others too."""
    try:
        if not int(procfs.stat(init)[procfs.FLAGS]) & PF_EXITING:
            return []
        namespace = posix.readlink(f"/proc/{init}/ns/pid")
    except OSError:
        return []
    found = []
    for name in posix.listdir("/proc"):
        if not name.isdigit() or int(name) == init:
            continue
        try:
            if posix.readlink(f"/proc/{name}/ns/pid") != namespace:
                continue
            if procfs.stat(name)[procfs.STATE] != "Z":
                return []
        except OSError:
            continue  # gone meanwhile
        found.append(int(name))
    return found


def _describe(zombies: list[int]) -> str:
    """Describe the zombies: "pid 12 (sh), whose parent 7 (shim) does not reap it"."""
    words = []
    for pid in zombies[:3]:
        try:
            parent = int(procfs.stat(pid)[procfs.PARENT])
            words.append(f"pid {pid} ({_name(pid)}), whose parent {parent} ({_name(parent)}) does not reap it")
        except OSError:
            continue
    return "; ".join(words) or f"pid {zombies[0]}"


def _name(pid: int) -> str:
    return read_file(f"/proc/{pid}/comm").strip()
