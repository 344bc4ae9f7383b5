"""resume: let a paused container go on."""

from __future__ import annotations

from pyruntime.cli.main import one_id
from pyruntime.commands import resume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.commands.settings import Settings

USAGE = "ID"
FLAGS = ()


def run(settings: Settings, values: dict[str, Any], words: list[str]) -> int:
    """Thaw."""
    resume.resume(settings.root, one_id(words, "resume"))
    return 0
