"""--regex of kill and delete: the command for each container whose id matches."""

from __future__ import annotations

import re

from pyruntime.commands.list import ids_of
from pyruntime.errors import PyruntimeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime.commands.settings import Settings
    from pyruntime.util.ids import ContainerId


def matching(settings: Settings, pattern: str, act: Callable[[ContainerId], None]) -> int:
    """Act on each container in whose id the regular expression is found: 0, or 1 when that failed for some.

    Each failure is a line in the log. Raises UsageError."""
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--regex: {pattern!r} is not a regular expression: {error}") from None
    failed = 0
    for id in filter(wanted.search, ids_of(settings)):
        try:
            act(id)
        except (PyruntimeError, OSError) as error:
            failed = 1
            settings.log.error(f"{id}: {error}")
    return failed
