"""An init that waits for `start` does not outlive its record: undo goes by the pidfd that create has held since the
clone, not by what /proc says of a number at that moment."""

from __future__ import annotations

import os

import pytest
from support import proc

# Nothing tells of init once it is created: the second question is that of `start`, the third that of undo.
BLIND = """
asked = []
def start_time(pid):
    asked.append(pid)
    return old(pid) if len(asked) == 1 else 0
old = replace("util.procfs.start_time", start_time)
replace("state.liveness.find", lambda record: -1)
"""
# A failure between the clone and the record.
BROKEN = """
def start_time(pid):
    raise OSError(5, "injected")
replace("util.procfs.start_time", start_time)
"""


@pytest.mark.ours
@pytest.mark.parametrize(("verb", "code"), [("run", BLIND), ("run", BROKEN), ("create", BROKEN)])
def test_no_init_is_left(container, weakened, verb, code):
    box = container(["/bin/sleep", "1000"])
    runtime = weakened(code)
    box.bundle.save()
    before = set(proc.children())
    result = runtime.run(verb, "--bundle", box.bundle.path, box.id, check=None, timeout=20)
    assert not (runtime.root / box.id).exists(), result
    proc.wait_until(lambda: not [pid for pid in set(proc.children()) - before if alive(pid)], "init is dead", 5)


def alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}") and proc.process_state(pid) not in ("Z", "X", "")
