"""process.oomScoreAdj: how readily the kernel's out-of-memory killer takes the container's process."""

from __future__ import annotations

import posix

from pyruntime.errors import StepError
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import ParentActor
    from pyruntime.plan.request import Request


def plan(request: Request) -> Iterator[Step]:
    """SETUP: before init does anything that its hooks or children would inherit a wrong value from.

    Without the field the value stays as it is (runtime-spec config.md, "Linux Process")."""
    value = request.process.get("oomScoreAdj")
    if value is not None:
        yield Step("/process/oomScoreAdj", set_score, value=value, rootless=request.rootless)


def set_score(parent: ParentActor, value: int, rootless: bool) -> None:
    """set oom_score_adj to {value}"""
    path = f"/proc/{parent.pid}/oom_score_adj"
    # O_RDWR: what it was before makes the message.
    fd = posix.open(path, posix.O_RDWR | posix.O_CLOEXEC)
    try:
        before = int(posix.read(fd, 16))
        if before == value:
            return
        posix.write(fd, b"%d" % value)
    except PermissionError as error:
        # Below oom_score_adj_min only with CAP_SYS_RESOURCE in the initial user namespace (proc(5)).
        if rootless:
            parent.warn(
                f"oom_score_adj stays {before}: an ordinary user cannot lower it to {value} (/process/oomScoreAdj)"
            )
            return
        # Not "permission denied": docker and podman take these words for those of the program, and exit with 126.
        raise StepError(
            f"failed to update {path} to {value} (EACCES)",
            why=f"it is {before} here, and lowering it takes CAP_SYS_RESOURCE",
            hint=f"ask for {before} or more, or run with CAP_SYS_RESOURCE",
            step=f"set oom_score_adj to {value}",
            syscall=f'write("{path}", "{value}")',
            errno="EACCES",
        ) from error
    finally:
        posix.close(fd)
