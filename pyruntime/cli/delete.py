"""delete: remove a container, its cgroup and its state."""

from __future__ import annotations

from pyruntime.cli.flags import TRACE, Flag
from pyruntime.cli.main import Context, one_id
from pyruntime.commands import lifecycle
from pyruntime.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "ID"
FLAGS = (
    Flag("force", "kill a container that runs; an unknown id is no error", short="f"),
    Flag("regex", "ID is a regular expression: delete every container that it matches", short="r"),
    TRACE,
)


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Delete the container."""
    if values["regex"]:
        from pyruntime.cli import list

        if len(words) != 1:
            raise UsageError("delete --regex takes one pattern", hint="see: pyruntime delete --help")
        return list.each(
            context,
            words[0],
            lambda id: lifecycle.delete_by_id(context.root, id, force=values["force"], log=context.log),
        )
    lifecycle.delete_by_id(context.root, one_id(words, "delete"), force=values["force"], log=context.log)
    return 0
