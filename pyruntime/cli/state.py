"""state: the state of a container as JSON (runtime-spec runtime.md, "State", and what runc adds)."""

from __future__ import annotations

from pyruntime import fastjson, state
from pyruntime.cli.main import Context, one_id, write_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "ID"
FLAGS = ()


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Print the state."""
    record = state.load(context.root, one_id(words, "state"))
    shown = state.oci_state(record, state.status(record))
    # runc's callers look for these beside the specification's.
    shown.setdefault("pid", 0)
    shown["rootfs"] = record.rootfs
    shown["created"] = record.created
    shown["owner"] = ""
    write_output(fastjson.dumps(shown, indent=2) + "\n")
    return 0
