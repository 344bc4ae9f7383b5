"""resume: resume a paused container."""

from __future__ import annotations

from pyruntime.cli.main import one_id
from pyruntime.commands import resume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = "ID"
FLAGS = ()


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Thaw."""
    resume.resume(settings.root, one_id(words, "resume"))
    return 0
