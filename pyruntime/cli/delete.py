"""delete: remove a container, its cgroup and its state."""

from __future__ import annotations

from pyruntime.cli.flags import TRACE, Flag
from pyruntime.cli.main import one_id
from pyruntime.commands import delete
from pyruntime.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings
    from pyruntime.util.ids import ContainerId

USAGE = "ID"
FLAGS = (
    Flag("force", "kill a running container; an unknown id is not an error", short="f"),
    Flag("regex", "ID is a regular expression: delete every container that it matches", short="r"),
    TRACE,
)


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Delete the container."""

    def one(id: ContainerId) -> None:
        delete.delete_by_id(settings.root, id, force=values["force"], log=settings.log)

    if values["regex"]:
        from pyruntime.cli import each

        if len(words) != 1:
            raise UsageError("delete --regex takes one pattern", hint="see: pyruntime delete --help")
        return each.matching(settings, words[0], one)
    one(one_id(words, "delete"))
    return 0
