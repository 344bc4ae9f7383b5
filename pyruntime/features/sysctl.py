"""/linux/sysctl: kernel parameters that belong to a namespace of the container (sysctl(5), namespaces(7)).

Written through the host's /proc before the pivot: which namespace a parameter acts on is decided by the
process that opens it, and the container's own /proc could be anything (CVE-2025-52881).
"""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, KernelError, StepError
from pyruntime.kernel import files
from pyruntime.kernel.constants import PROC_SUPER_MAGIC, RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request

_IPC = frozenset(
    (
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    )
)


def plan(request: Request) -> Iterator[Step]:
    """ENTER: one step a parameter. Raises ConfigError for one that is not the container's own to set."""
    for name, value in (request.linux.get("sysctl") or {}).items():
        # JSON pointers write "/" as "~1" (RFC 6901); sysctl(8) takes both separators.
        pointer = "/linux/sysctl/" + name.replace("~", "~0").replace("/", "~1")
        path = name if "/" in name.partition(".")[0] else name.replace("/", "\0").replace(".", "/")
        path = path.replace("\0", ".")
        _check(request, path.replace("/", "."), pointer)
        yield Step(pointer, write, name=name, path=path, value=value)


def _check(request: Request, name: str, pointer: str) -> None:
    if name in _IPC or name.startswith("fs.mqueue."):
        needed = "ipc"
    elif name.startswith("net."):
        needed = "network"
    elif name == "kernel.domainname":
        needed = "uts"
    elif name == "kernel.hostname":
        raise ConfigError("is set by /hostname", pointer=pointer, hint="use the hostname field")
    elif name.startswith("user."):
        needed = "user"
    else:
        raise ConfigError(
            f"sysctl {name!r} is not in a separate kernel namespace",
            pointer=pointer,
            why="it would change the whole host",
            hint="set it on the host with sysctl(8), or leave it out",
        )
    if not request.namespace(needed)[0]:
        raise ConfigError(
            f"sysctl {name!r} needs a namespace of the container's own",
            pointer=pointer,
            why=f"without one of type {needed} it would change the whole host",
            hint=f'add {{"type": "{needed}"}} to linux.namespaces',
        )


def write(init: InitActor, name: str, path: str, value: str) -> None:
    """set sysctl {name} to {value}"""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
    fd = files.open_resolved(init.proc_fd, f"sys/{path}", posix.O_WRONLY, resolve)
    try:
        if files.filesystem_magic(fd) != PROC_SUPER_MAGIC:
            raise StepError(f"/proc/sys/{path} is not on a proc filesystem")
        posix.write(fd, value.encode())
    except KernelError:
        raise
    except OSError as error:
        raise KernelError(error.errno or 0, "write", (f"/proc/sys/{path}", value)) from None
    finally:
        posix.close(fd)
