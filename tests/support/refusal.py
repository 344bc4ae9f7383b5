"""What every refusal has in common: it fails, says why in one line, and leaves nothing behind."""

from __future__ import annotations

import os

from support import leaks, proc
from support.container import Container
from support.runtime import Result, Runtime


def error_lines(result: Result) -> list[str]:
    """The lines of stderr that are no warnings."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    return [line for line in lines if "warn" not in line.split("msg=")[0].lower()]


def refused(runtime: Runtime, result: Result, *words: str) -> None:
    """The command failed with a reason on stderr. Ours is one line that has all `words` in it."""
    assert result.code > 0, f"a refusal expected\n{result}"
    assert result.stderr.strip(), f"no reason on stderr\n{result}"
    if runtime.is_ours:
        lines = error_lines(result)
        assert len(lines) == 1, f"one line expected\n{result}"
        assert "Traceback" not in lines[0], result
        for word in words:
            assert word.lower() in lines[0].lower(), f"{word!r} expected in the error\n{result}"


def nothing_left(box: Container, before: set[int]) -> None:
    """No state, no process, no cgroup and no pid-file; `before` holds the processes that were there."""
    runtime = box.runtime
    assert not runtime.root.exists() or os.listdir(runtime.root) == [], "state is left"
    assert not box.pid_file.exists(), "a pid-file is left"
    path = box.config.get("linux", {}).get("cgroupsPath")
    left = [top + path for top in leaks.hierarchies() if isinstance(path, str) and os.path.isdir(top + path)]
    assert left == [], "a cgroup is left"
    gone = lambda: all(proc.process_state(pid) == "Z" for pid in set(proc.children()) - before)  # noqa: E731
    proc.wait_until(gone, "no process is left", 2)


def create_refused(box: Container, *words: str, **options) -> Result:
    """`create` of this container is refused as described above."""
    before = set(proc.children())
    result = box.create(check=None, timeout=15, **options)
    refused(box.runtime, result, *words)
    nothing_left(box, before)
    return result
