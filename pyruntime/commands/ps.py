"""ps: the processes of a container."""

from __future__ import annotations

from pyruntime.cgroupfs import processes
from pyruntime.errors import PyruntimeError, StateError
from pyruntime.state import cgroup_identity, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.util.ids import ContainerId

SECONDS = 10.0  # for ps(1)


def pids_of(root: str, id: ContainerId) -> list[int]:
    """Return the pids of a container's processes, as this pid namespace has them. Raises StateError without a
    cgroup."""
    record = store.load(root, id)
    if not record.cgroups:
        raise StateError(
            f"the processes of {record.id} are unknown: it has no cgroup of its own",
            why="its user may not make one",
            hint="have a cgroup delegated to the user (systemd: Delegate=yes)",
        )
    return processes.of(cgroup_identity.own(record))


def table(options: list[str], pids: set[int]) -> str:
    """Return what ps(1) prints with these options, without the lines of other processes. Raises PyruntimeError."""
    import subprocess

    try:
        result = subprocess.run(["ps", *options], capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise StateError(
            f"ps {' '.join(options)} does not end within {SECONDS:g} s",
            why="it reads the arguments of every process of the host, and one of them may have its own where nothing "
            "answers (in a mapped file of a FUSE filesystem)",
            hint="use --format json, which looks at no process",
        ) from None
    except FileNotFoundError:
        raise PyruntimeError("ps(1) is not in PATH", hint="install procps, or use --format json") from None
    if result.returncode != 0:
        raise PyruntimeError(f"ps {' '.join(options)}: {result.stderr.strip() or result.stdout.strip()}")
    header, *lines = result.stdout.splitlines()
    titles = header.split()
    if "PID" not in titles:
        raise PyruntimeError(f"ps {' '.join(options)} shows no column PID", hint="choose options that show it")
    column = titles.index("PID")
    kept = [line for line in lines if _pid_in(line, column) in pids]
    return "\n".join([header, *kept]) + "\n"


def _pid_in(line: str, column: int) -> int:
    words = line.split()
    return int(words[column]) if len(words) > column and words[column].isdigit() else -1
