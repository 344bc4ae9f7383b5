"""The library: the examples of docs/library.md, and what a program is that uses it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import leaks, proc

import pyruntime

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENT = CHECKOUT / "docs/library.md"
pytestmark = pytest.mark.ours


@pytest.fixture
def bundle(scratch: Path, base: Path, tmp_path: Path, machine: None) -> Iterator[pyruntime.Bundle]:
    """A bundle that sleeps, with its cgroup below one of this test's."""
    made = pyruntime.Bundle.make(tmp_path / "bundle", base, ["/bin/sleep", "1000"])
    made.config["linux"]["cgroupsPath"] = f"/{leaks.PREFIX}-library"
    made.save()
    yield made


def run_program(text: str, **values: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the library in an interpreter of its own, with variables set."""
    head = f"import sys; sys.path[:0] = {[str(CHECKOUT), *sys.path]!r}\n"
    head += "".join(f"{name} = {value!r}\n" for name, value in values.items())
    return subprocess.run([sys.executable, "-I", "-c", head + text], capture_output=True, text=True, timeout=60)


def test_the_examples_of_the_document(tmp_path: Path, machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, with nothing but what stands on the page."""
    examples = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(examples) >= 6
    cgroup = f'\nbundle.config["linux"]["cgroupsPath"] = "/{leaks.PREFIX}-library"\nbundle.save()\n'
    text = examples[0] + examples[1] + cgroup + "\n".join(examples[2:])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    result = run_program(text)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "1 process\n"
    (directory,) = tmp_path.iterdir()
    assert leaks.state_records(directory / "state") == []


def test_to_import_it_costs_little() -> None:
    """`import pyruntime` loads nothing else; every name of it can be had."""
    text = "import sys\nimport pyruntime\nprint(sorted(name for name in sys.modules if 'pyruntime.' in name))\n"
    text += "for name in pyruntime.__all__: getattr(pyruntime, name)\n"
    result = run_program(text)
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr
    with pytest.raises(AttributeError):
        pyruntime.Nothing  # noqa: B018


def test_threads_share_one_helper(bundle: pyruntime.Bundle, tmp_path: Path) -> None:
    """Eight threads with a process each in one container; a wait of one hinders no other."""
    with pyruntime.Container(f"{leaks.PREFIX}-threads", bundle, root=tmp_path / "root") as box:
        box.create()
        box.start()
        waiter = threading.Thread(target=box.wait)
        waiter.start()
        codes: dict[int, int] = {}

        def one(number: int) -> None:
            codes[number] = box.run(["sh", "-c", f"exit {number}"]).returncode

        threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert codes == {number: number for number in range(8)}
        box.kill("KILL")
        waiter.join(10)
        assert not waiter.is_alive()


def test_the_program_keeps_what_is_its_own(bundle: pyruntime.Bundle, tmp_path: Path) -> None:
    """Signal handlers, children, descriptors, the dumpable flag and the collector are as before."""
    own = subprocess.Popen(["sleep", "0.3"])
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        with pyruntime.Container(f"{leaks.PREFIX}-own", bundle, root=tmp_path / "root") as box:
            box.create()
            descriptors = set(os.listdir("/proc/self/fd"))
            box.start()
            os.kill(os.getpid(), signal.SIGUSR1)
            box.run(["true"], check=True)
            assert set(os.listdir("/proc/self/fd")) <= descriptors
            assert box.state().pid not in proc.children()
            inside = json.loads(box.run(["sh", "-c", "echo [$(ls /proc/1/fd | tr '\\n' ',')9999]"]).stdout)
            assert inside == [0, 1, 2, 9999]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert own.wait() == 0
    assert seen == [signal.SIGUSR1]


def test_a_helper_that_was_killed_is_replaced(bundle: pyruntime.Bundle, tmp_path: Path) -> None:
    with pyruntime.Container(f"{leaks.PREFIX}-helper", bundle, root=tmp_path / "root") as box:
        box.create()
        pids = _serving()
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        box.start()
        assert box.state().status == "running"
        with pytest.raises(pyruntime.StateError, match="only the program that created"):
            box.wait()


def test_the_helper_ends_with_its_program(bundle: pyruntime.Bundle, tmp_path: Path) -> None:
    """A program that is killed leaves its container, and no helper."""
    before = set(_serving())
    text = "import os, pyruntime\nbox = pyruntime.Container(name, bundle, root=root)\n"
    text += "box.create(stdin=-3, stdout=-3, stderr=-3)\n"
    text += "os.kill(os.getpid(), 9)\n"
    name = f"{leaks.PREFIX}-killed"
    result = run_program(text, name=name, bundle=str(bundle.path), root=str(tmp_path / "root"))
    assert result.returncode == -9, result.stderr
    with pyruntime.Container(name, root=tmp_path / "root") as box:
        assert box.state().status == "created"
    deadline = time.monotonic() + 5
    while set(_serving()) - before - _own_helper() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert set(_serving()) - before - _own_helper() == set()


def _serving() -> list[int]:
    """The pids of helpers that are this process's: all of this test session."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = proc.read(name, "cmdline").split("\0")
                if "serve" in words[-2:] and proc.parent(int(name)) == os.getpid():
                    found.append(int(name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def _own_helper() -> set[int]:
    """The helper of this test session: whichever is the newest."""
    return set(sorted(_serving())[-1:])


def test_a_hook_whose_program_has_ended(bundle: pyruntime.Bundle, tmp_path: Path) -> None:
    text = """
import pyruntime
bundle = pyruntime.Bundle(path)
bundle.add_hook("prestart", print)
bundle.save()
print(bundle.config["hooks"]["prestart"][0]["args"][2])
"""
    result = run_program(text, path=str(bundle.path))
    assert result.returncode == 0, result.stderr
    assert not os.path.exists(os.path.dirname(result.stdout.strip()))
    with pytest.raises(pyruntime.HookError, match="the program whose function this hook is has ended"):
        pyruntime.Container("library-hook", pyruntime.Bundle(bundle.path), root=tmp_path / "root").create()
    assert leaks.state_records(tmp_path / "root") == []


def test_a_function_is_no_hook_of_the_container(bundle: pyruntime.Bundle) -> None:
    for kind in "createContainer", "startContainer", "prestop":
        with pytest.raises(pyruntime.UsageError, match=kind):
            bundle.add_hook(kind, print)


def test_a_hook_that_is_a_function_and_takes_too_long(bundle: pyruntime.Bundle, tmp_path: Path) -> None:
    bundle.add_hook("createRuntime", lambda state: time.sleep(30), timeout=1)
    bundle.save()
    with pytest.raises(pyruntime.HookError, match="createRuntime hook #0"):
        pyruntime.Container("library-slow", bundle, root=tmp_path / "root").create()
