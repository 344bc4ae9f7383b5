"""ps: the processes of a container, by ps(1) or as their pids on the host."""

from __future__ import annotations

from pyruntime.cgroupfs import processes
from pyruntime.cli.flags import Flag
from pyruntime.cli.main import Context, write_output
from pyruntime.errors import PyruntimeError, StateError, UsageError
from pyruntime.state import cgroup_identity, store
from pyruntime.util import fastjson
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "ID [OPTIONS OF ps(1)]"
MIXED = False  # what follows the id is ps's
SECONDS = 10.0  # for ps(1)
FLAGS = (Flag("format", "form of the list", short="f", value="table|json", default="table"),)


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Print the processes."""
    if not words:
        raise UsageError("ps needs the container's id", hint="see: pyruntime ps --help")
    if values["format"] not in ("table", "json"):
        raise UsageError(f"invalid format option: {values['format']!r}", hint="use table or json")
    record = store.load(context.root, ContainerId(words[0]))
    if not record.cgroups:
        raise StateError(
            f"the processes of {record.id} cannot be told: it has no cgroup of its own",
            why="its user may not make one",
            hint="have a cgroup delegated to the user (systemd: Delegate=yes)",
        )
    pids = processes.of(cgroup_identity.own(record))
    if values["format"] == "json":
        text = fastjson.dumps(pids) + "\n"
    else:
        text = table(words[1:] or ["-ef"], set(pids))
    write_output(text)
    return 0


def table(options: list[str], pids: set[int]) -> str:
    """What ps(1) prints with these options, without the lines of other processes. Raises PyruntimeError."""
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
