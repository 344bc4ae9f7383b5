"""start: run the user's process of a created container."""

from __future__ import annotations

import posix

from pyruntime.cli.flags import TRACE
from pyruntime.cli.main import Context, one_id
from pyruntime.commands import lifecycle
from pyruntime.state import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "ID"
FLAGS = (TRACE,)


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Start the container."""
    record = store.load(context.root, one_id(words, "start"))
    notify = None
    if posix.environ.get(b"NOTIFY_SOCKET") and posix.access(record.path("notify"), posix.F_OK):
        from pyruntime.features import notify_socket

        notify = notify_socket.listen(record, context.log.warning)
    lifecycle.start(record, context.log)
    if notify is not None:
        notify.wait(record)
    return 0
