"""Exec by our containerd shim, which plans a process before Start asks for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import proc
from support.shim import Refused, Task, wait_for

pytestmark = pytest.mark.ours


def test_an_error_of_exec(task: Callable[..., Task]) -> None:
    one = task(["/bin/sleep", "1000"])
    one.create()
    one.start()
    one.exec("bad", "/no/such")
    with pytest.raises(Refused, match=r"OCI runtime exec failed: .*no such file or directory"):
        one.start("bad")
    one.delete("bad")
    one.exec("good", "true")
    one.start("good")
    assert one.wait("good") == 0


@pytest.mark.parametrize("spec", [None, b"null", b"[]", b"{"], ids=["none", "null", "array", "broken"])
def test_an_exec_without_a_process_is_refused(task: Callable[..., Task], spec: bytes | None) -> None:
    one = task(["/bin/sleep", "1000"])
    one.create()
    one.start()
    given = {} if spec is None else {"spec": {"type_url": "Process", "value": spec}}
    with pytest.raises(Refused, match="spec is not a process object|malformed request") as refused:
        one.client.call("Exec", "ExecProcessRequest", id=one.id, exec_id="e", **given)
    assert "bug" not in str(refused.value)
    one.exec("e", "true")  # the name is free
    one.start("e")
    assert one.wait("e") == 0


def at_work(shim: int, init: int) -> set[int]:
    """The children of a shim with one container, but for its init. Zombies are none."""
    return {one for one in proc.children(shim) if one != init and proc.process_state(one) not in ("", "Z")}


def at_rest(task: Callable[..., Task]) -> tuple[Task, int]:
    """A container that sleeps, and its init; the child that has created it has ended."""
    one = task(["/bin/sleep", "100"])
    init = one.create()
    one.start()
    wait_for(lambda: not at_work(one.shim, init), "the child that created it has ended")
    return one, init


def test_an_exec_is_planned_before_it_is_started(task: Callable[..., Task]) -> None:
    """By a child that is not in the container, becomes the one which runs it, and goes with its exec."""
    one, init = at_rest(task)
    one.exec("planned", "/bin/true")
    wait_for(lambda: len(at_work(one.shim, init)) == 1, "it is planned")
    child = at_work(one.shim, init).pop()
    members = one.client.call("Pids", "ContainerRequest", "PidsResponse", id=one.id)["processes"]
    assert [member["pid"] for member in members] == [init]
    one.start("planned")
    assert one.wait("planned") == 0
    wait_for(lambda: proc.process_state(child) in ("", "Z"), "the child has ended")
    one.exec("dropped", "/bin/true")
    one.delete("dropped")
    wait_for(lambda: not at_work(one.shim, init), "nothing is left of an exec that was never started")


def test_many_execs_without_a_start_are_not_all_planned(task: Callable[..., Task]) -> None:
    one, init = at_rest(task)
    for number in range(12):
        one.exec(f"number-{number}", "/bin/sh", "-c", f"exit {number}")
    assert len(at_work(one.shim, init)) == 4
    for number in range(12):
        one.start(f"number-{number}")
        assert one.wait(f"number-{number}") == number


def test_what_happens_between_exec_and_start_counts(task: Callable[..., Task]) -> None:
    """The container is paused, or gone: as if nobody had planned ahead."""
    one, init = at_rest(task)
    one.exec("first", "/bin/true")
    one.exec("second", "/bin/true")
    wait_for(lambda: len(at_work(one.shim, init)) == 2, "both are planned")
    one.client.call("Pause", "ContainerRequest", id=one.id)
    with pytest.raises(Refused, match="paused"):
        one.start("first")
    one.client.call("Resume", "ContainerRequest", id=one.id)
    one.kill()
    one.wait()
    wait_for(lambda: not at_work(one.shim, init), "nobody holds the namespaces of a container that is gone")
    with pytest.raises(Refused, match="stopped"):
        one.start("second")
