"""A process of `exec --detach` that nobody reaps keeps the container's init from being reaped, and nothing else."""

from __future__ import annotations

import os
import time

import pytest
from support import leaks, proc


@pytest.mark.differs(
    runc="runc 1.1.5 gives up after 10 s: container init still running", crun="crun 1.8.1 does not tell"
)
def test_delete_does_not_wait_for_who_does_not_reap(container):
    """The zombie is our own child: as a subreaper that waits for `delete` to return, we could not reap it before."""
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.start()
    pid_file = box.runtime.folder / "exec.pid"
    box.runtime.run("exec", "--detach", "--pid-file", str(pid_file), box.id, "true")
    pid = int(pid_file.read_text())
    proc.wait_until(lambda: proc.process_state(pid) == "Z", "the process of exec has ended")
    init = box.pid
    begin = time.monotonic()
    result = box.delete("--force")
    assert time.monotonic() - begin < 6 * proc.SLOW
    assert f"pid {pid} (true), whose parent {os.getpid()} " in result.stderr
    assert "does not reap it" in result.stderr
    assert not [one for one in leaks.cgroups() if one.endswith(box.id)]
    os.waitpid(pid, 0)
    proc.wait_until(lambda: proc.process_state(init) in ("Z", ""), "init is dead")
    assert box.wait() == 137


def test_a_parent_that_reaps_is_waited_for(container):
    """No word of it, when the zombie goes while `delete` waits."""
    box = container(["/bin/sleep", "1000"])
    box.create()
    box.start()
    pid_file = box.runtime.folder / "exec.pid"
    box.runtime.run("exec", "--detach", "--pid-file", str(pid_file), box.id, "true")
    pid = int(pid_file.read_text())
    proc.wait_until(lambda: proc.process_state(pid) == "Z", "the process of exec has ended")
    command = box.runtime.spawn("delete", "--force", box.id)
    time.sleep(0.3 * proc.SLOW)
    os.waitpid(pid, 0)
    assert command.wait().code == 0
    if box.runtime.is_ours and proc.SLOW == 1:
        assert "reap" not in command.stderr
    assert box.wait() == 137
