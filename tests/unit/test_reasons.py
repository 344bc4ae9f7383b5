"""The table of reasons: in form, complete in its tests, and three lines for a person."""

from __future__ import annotations

import errno
import os
import pty
import re
import sys
from pathlib import Path

import pytest

from pyruntime.cli import error_text
from pyruntime.diagnose import causes, hints
from pyruntime.errors import ConfigError, HookError, NotFound, PyruntimeError, StepError, UsageError
from pyruntime.util.colour import Painter

CHECKOUT = Path(__file__).resolve().parents[2]
PROVOKED = (CHECKOUT / "tests/linux/test_reasons.py").read_text()


@pytest.mark.parametrize("row", sorted({*hints.TABLE, *causes.SITUATIONS}), ids="-".join)
def test_each_row_is_provoked(row: tuple[str, str]) -> None:
    call, name = row
    assert hasattr(errno, name), name
    assert re.search(rf'"{call}", "{name}"', PROVOKED), f"tests/linux/test_reasons.py does not provoke {call} {name}"


@pytest.mark.parametrize("row", sorted(hints.TABLE), ids="-".join)
def test_each_row_is_in_the_document(row: tuple[str, str]) -> None:
    why, hint = (text.replace("max_*_", "max_\\*_") for text in hints.TABLE[row])
    assert f"| {row[0]} | {row[1]} | {why} | {hint} |" in (CHECKOUT / "docs/errors.md").read_text()


@pytest.mark.parametrize("row", sorted(causes.SITUATIONS), ids="-".join)
def test_what_is_asked_is_in_the_document(row: tuple[str, str]) -> None:
    asked = (CHECKOUT / "docs/errors.md").read_text().partition("Asked besides")[2].partition("##")[0]
    lines = [line.split("|") for line in asked.splitlines() if line.startswith("| ")]
    assert any(row[0] in line[1] and row[1] in line[2] for line in lines)


def test_a_situation_that_cannot_be_looked_at_leaves_the_usual_words() -> None:
    error = StepError("m", syscall='clone3("CLONE_NEWNOTHING")', errno="ENOSPC")
    hints.add(error)
    assert error.why == hints.TABLE["clone3", "ENOSPC"][0]
    error = StepError("m", syscall='fsconfig("uid=much")', errno="EINVAL")
    hints.add(error)
    assert error.why == hints.TABLE["fsconfig", "EINVAL"][0]


PLAIN = Painter(False)


def test_three_short_lines() -> None:
    call = 'open_tree("/srv/data", "OPEN_TREE_CLONE")'
    error = StepError(
        f"bind /srv/data on /data: {call}: no such file or directory (ENOENT)",
        pointer="/mounts/3",
        syscall=call,
        errno="ENOENT",
    )
    hints.add(error)
    assert error_text.lines("create", error, PLAIN).splitlines() == [
        "pyruntime: create failed at /mounts/3 of config.json",
        "  reason  bind /srv/data on /data: no such file or directory (ENOENT): the source of the mount is missing",
        "  hint    create it on the host, or correct the source",
    ]


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (UsageError("m"), "--help"),
        (NotFound("m"), "pyruntime list"),
        (ConfigError("m"), "pyruntime validate"),
        (StepError("m"), "--debug"),
        (HookError("m"), "--debug"),
        (StepError("m", hint="own"), "own"),
    ],
)
def test_there_is_always_a_hint(error: PyruntimeError, hint: str) -> None:
    lines = error_text.lines("start", error, PLAIN).splitlines()
    assert len(lines) == 3
    assert hint in lines[2]


def test_of_several_problems_the_first() -> None:
    from pyruntime.spec import check

    with pytest.raises(ConfigError) as caught:
        check.require({"ociVersion": "1.0.2", "process": {"args": "sh", "cwd": "here"}})
    error = caught.value
    text = error_text.lines("create", error, PLAIN)
    assert "at /process/args of config.json" in text and "/process/cwd" not in text
    assert f"and {error.others} more: pyruntime validate" in text
    assert "/process/cwd" in str(error)


def test_the_line_of_the_field(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{\n "ociVersion": "1.0.2",\n "process": {\n  "cwd": "/"\n }\n}\n')
    error = ConfigError("m", pointer="/process/cwd")
    for flags in (["--bundle", str(tmp_path)], [f"--bundle={tmp_path}"], ["-b", str(tmp_path)]):
        text = error_text.lines("create", error, PLAIN, ["--debug", "create", *flags, "box"])
        assert text.startswith("pyruntime: create failed at /process/cwd of config.json, line 4\n")
    for command, bundle in (("exec", tmp_path), ("create", tmp_path / "nosuch")):
        text = error_text.lines(command, error, PLAIN, [command, "--bundle", str(bundle), "box"])
        assert text.startswith(f"pyruntime: {command} failed at /process/cwd of config.json\n")


def test_what_moves_a_cursor_is_not_written() -> None:
    text = error_text.lines("create", ConfigError("a \x1b[2J b\nc", pointer="/x\r"), PLAIN)
    assert "\x1b" not in text and "\r" not in text and text.count("\n") == 3


def on_a_terminal(*words: str, env: dict[str, str]) -> str:
    """What a command writes to standard error, which is a terminal."""
    program = "import sys; sys.argv[0] = 'pyruntime'; from pyruntime.cli.main import main; main()"
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(CHECKOUT)
        os.execve(sys.executable, [sys.executable, "-c", program, *words], {**os.environ, **env})
    said = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:  # EIO: the other side is closed
            break
        if not chunk:
            break
        said += chunk
    os.close(master)
    os.waitpid(pid, 0)
    return said.decode()


def test_a_terminal_gets_lines_and_colour_unless_forbidden() -> None:
    words = ("--root", "/nosuch/root", "state", "box")
    painted = on_a_terminal(*words, env={"TERM": "xterm", "NO_COLOR": ""})
    assert painted.startswith("\x1b[1;31mpyruntime: state failed")
    plain = on_a_terminal(*words, env={"TERM": "xterm", "NO_COLOR": "1"})
    assert "\x1b" not in plain
    assert len(plain.splitlines()) == 3
    assert "\x1b" not in on_a_terminal(*words, env={"TERM": "dumb", "NO_COLOR": ""})


def test_an_engine_gets_one_line_in_the_log_all_the_same(tmp_path: Path) -> None:
    log = tmp_path / "log"
    shown = on_a_terminal("--root=/nosuch", f"--log={log}", "--log-format=json", "state", "box", env={"NO_COLOR": "1"})
    assert len(shown.splitlines()) == 3
    assert log.read_text().count("\n") == 1 and '"level": "error"' in log.read_text().replace('":"', '": "')
