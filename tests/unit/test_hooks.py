"""Running one hook: what it gets, what is kept of it, and that it cannot hold us up."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pyruntime.errors import HookError
from pyruntime.features import hooks
from pyruntime.plan.step import execute

pytestmark = pytest.mark.usefixtures("never_hang", "leaves_nothing")


class Actor:
    """What a hook is run for: anything that has a state."""

    record = None
    trace = None

    def __init__(self, **state: Any) -> None:
        self.state = state

    def oci_state(self, status: str) -> dict[str, Any]:
        return {**self.state, "status": status}


def run(script: str, actor: Actor | None = None, **hook: Any) -> None:
    """Run a poststop hook that is a shell script."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], **hook}
    execute(list(hooks.plan_poststop({"poststop": [hook]})), actor or Actor())


def test_the_state_comes_on_standard_input(tmp_path: Path) -> None:
    run(f"cat > {tmp_path}/state", Actor(id="böx"))
    assert json.loads((tmp_path / "state").read_text()) == {"id": "böx", "status": "stopped"}


def test_arguments_and_environment_are_the_hooks_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f'echo "$0 $1 $A" > {out}; env | grep -c HOME >> {out}; true'
    run("", args=["name", "-c", script, "zero", "one"], env=["A=1=2", "no equals"])
    assert out.read_text().splitlines() == ["zero one 1=2", "0"]


def test_without_args_it_gets_its_path(tmp_path: Path) -> None:
    script = tmp_path / "hook"
    script.write_text(f'#!/bin/sh\necho "$0 $#" > {tmp_path}/out\n')
    script.chmod(0o755)
    execute(list(hooks.plan_poststop({"poststop": [{"path": str(script)}]})), Actor())
    assert (tmp_path / "out").read_text() == f"{script} 0\n"


def test_one_that_does_not_read_a_long_state() -> None:
    run("exec <&-; sleep 0.05", Actor(annotations={"a": "x" * 1_000_000}))
    run("true", Actor(annotations={"a": "x" * 1_000_000}))


def test_one_that_fails_is_quoted() -> None:
    with pytest.raises(HookError) as caught:
        run("echo first; echo second >&2; exit 3")
    error = caught.value
    assert error.message == "error running poststop hook #0: /bin/sh: exit status 3"
    assert error.why == "it said: first / second"
    assert error.pointer == "/hooks/poststop/0"


def test_only_the_end_of_many_words_is_kept() -> None:
    with pytest.raises(HookError) as caught:
        run("head -c 1000000 /dev/zero | tr '\\0' x; echo the end; exit 1")
    assert len(caught.value.why or "") < 5000
    assert (caught.value.why or "").endswith("the end")


def test_one_that_is_killed() -> None:
    with pytest.raises(HookError, match="killed by signal 15"):
        run("kill -TERM $$")


def test_one_that_takes_too_long() -> None:
    began = time.monotonic()
    with pytest.raises(HookError, match="timed out after 1 s") as caught:
        run("echo before; exec sleep 60", timeout=1)
    assert 0.9 < time.monotonic() - began < 5
    assert caught.value.why == "it said: before"


def test_one_that_leaves_a_process_with_its_output(tmp_path: Path) -> None:
    """A daemon that a hook starts holds the pipe for ever; the hook is over all the same."""
    began = time.monotonic()
    run(f"sleep 3 & echo $! > {tmp_path}/pid")
    assert time.monotonic() - began < 2
    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_one_that_is_not_there() -> None:
    with pytest.raises(HookError, match="/no/such: no such file or directory") as caught:
        execute(list(hooks.plan_poststop({"poststop": [{"path": "/no/such"}]})), Actor())
    assert caught.value.errno == "ENOENT"


def test_one_that_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text("#!/bin/sh\n")
    with pytest.raises(HookError, match="permission denied"):
        execute(list(hooks.plan_poststop({"poststop": [{"path": str(tmp_path / "hook")}]})), Actor())


def test_no_descriptor_of_ours_reaches_it(tmp_path: Path) -> None:
    """What the caller of the tests left open is the caller's; python makes no descriptor inheritable."""
    ours = [os.open("/usr", os.O_RDONLY), *os.pipe()]
    targets = {os.readlink(f"/proc/self/fd/{fd}") for fd in ours}
    run(f"ls -l /proc/self/fd > {tmp_path}/out")
    found = {line.rpartition(" -> ")[2] for line in (tmp_path / "out").read_text().splitlines()}
    assert f"{tmp_path}/out" in found
    assert not found & targets
    for fd in ours:
        os.close(fd)


def test_they_run_in_order_until_one_fails(tmp_path: Path) -> None:
    def hook(word: str, status: int) -> dict[str, Any]:
        return {"path": "/bin/sh", "args": ["sh", "-c", f"echo {word} >> {tmp_path}/out; exit {status}"]}

    with pytest.raises(HookError, match="hook #1"):
        execute(list(hooks.plan_poststop({"poststop": [hook("a", 0), hook("b", 1), hook("c", 0)]})), Actor())
    assert (tmp_path / "out").read_text().split() == ["a", "b"]
