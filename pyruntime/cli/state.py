"""state: the state of a container as JSON (runtime-spec runtime.md, "State", and what runc adds)."""

from __future__ import annotations

from pyruntime.cli.main import Context, one_id, write_output
from pyruntime.state import store
from pyruntime.state.status import oci_state, status_of
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "ID"
FLAGS = ()


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Print the state."""
    record = store.load(context.root, one_id(words, "state"))
    shown = oci_state(record, status_of(record))
    # runc's callers look for these beside the specification's.
    shown.setdefault("pid", 0)
    shown["rootfs"] = record.rootfs
    shown["created"] = record.created
    shown["owner"] = ""
    write_output(fastjson.dumps(shown, indent=2) + "\n")
    return 0
