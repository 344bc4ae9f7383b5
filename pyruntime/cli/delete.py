"""delete: remove a container, its cgroup and its state."""

from __future__ import annotations

from pyruntime import container
from pyruntime.cli.flags import TRACE, Flag
from pyruntime.cli.main import Context, one_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "ID"
FLAGS = (Flag("force", "kill a container that runs; an unknown id is no error", short="f"), TRACE)


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Delete the container."""
    container.delete_by_id(context.root, one_id(words, "delete"), force=values["force"], log=context.log)
    return 0
