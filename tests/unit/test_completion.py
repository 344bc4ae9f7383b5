"""The completion scripts, in the shells themselves: what is offered for the beginning of a line."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pyruntime.cli import completions, main
from pyruntime.cli.flags import Flag

# Line up to the cursor -> words that are offered, and words that are not.
LINES = [
    ("pyruntime cr", {"create"}, {"start"}),
    ("pyruntime --root /x st", {"start", "state"}, {"/x", "create"}),
    ("pyruntime --log-format ", {"text", "json"}, {"create"}),
    ("pyruntime --debug --lo", {"--log", "--log-format"}, {"--bundle"}),
    ("pyruntime create --no-", {"--no-pivot", "--no-new-keyring"}, {"--bundle"}),
    ("pyruntime list -f ", {"table", "json"}, {"text"}),
    ("pyruntime list --format j", {"json"}, {"table"}),
    ("pyruntime validate --format ", {"table", "json", "github"}, {"text"}),
    ("pyruntime kill --all box K", {"KILL"}, {"TERM", "box"}),
    ("pyruntime exec --cap CAP_NET_A", {"CAP_NET_ADMIN"}, {"CAP_KILL"}),
    ("pyruntime completion ", {"bash", "zsh", "fish"}, {"box"}),
    ("pyruntime state ", {"one", "two"}, {"create"}),
    ("pyruntime exec --user 5 ", {"one", "two"}, {"create"}),
    ("pyruntime create --bundle sub", {"subdirectory"}, {"subfile"}),
    ("pyruntime create --pid-file sub", {"subdirectory", "subfile"}, {"one"}),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a pyruntime in PATH that has two containers, and the scripts."""
    (tmp_path / "subdirectory").mkdir()
    (tmp_path / "subfile").touch()
    program = tmp_path / "bin/pyruntime"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1 $2" = "list --quiet" ] && printf "one\\ntwo\\n"\n')
    program.chmod(0o755)
    for name, make in completions.SHELLS.items():
        (tmp_path / f"completion.{name}").write_text(make())
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8"}


def need(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed (tools/packages.sh test)")


def offered(folder: Path, *command: str) -> set[str]:
    result = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return {line.partition("\t")[0].rstrip("/") for line in result.stdout.splitlines()}


@pytest.mark.parametrize(("line", "wanted", "unwanted"), LINES)
def test_bash(folder: Path, line: str, wanted: set[str], unwanted: set[str]) -> None:
    need("bash")
    words = line.split(" ")
    script = 'source completion.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pyruntime; '
    found = offered(folder, "bash", "--norc", "-c", script + 'printf "%s\\n" "${COMPREPLY[@]}"', "bash", *words)
    assert found >= wanted
    assert not found & unwanted


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["list", "--format", "="], {"table", "json"}),
        (["list", "--format", "=", "t"], {"table"}),
        (["--log-format", "=", "json", "cre"], {"create"}),
    ],
)
def test_bash_takes_an_equals_sign_for_a_word(folder: Path, words: list[str], wanted: set[str]) -> None:
    need("bash")
    script = 'source completion.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pyruntime; '
    script += 'printf "%s\\n" "${COMPREPLY[@]}"'
    assert offered(folder, "bash", "--norc", "-c", script, "bash", "pyruntime", *words) == wanted


@pytest.mark.parametrize(("line", "wanted", "unwanted"), LINES)
def test_fish(folder: Path, line: str, wanted: set[str], unwanted: set[str]) -> None:
    need("fish")
    found = offered(folder, "fish", "--no-config", "-c", f'source completion.fish; complete -C "{line}"')
    assert found >= wanted
    assert not found & unwanted


@pytest.mark.parametrize(("line", "wanted", "unwanted"), LINES)
def test_zsh(folder: Path, line: str, wanted: set[str], unwanted: set[str]) -> None:
    """zsh completes at a terminal only: every word that it would add is written to a file."""
    need("zsh")
    (folder / ".zshrc").write_text(
        "autoload -Uz compinit; compinit -D -u; source completion.zsh; setopt NO_BEEP\n"
        "compadd() {\n"
        '    local -a found; builtin compadd -O found "$@"; print -rl -- $found >>words; builtin compadd "$@"\n'
        "}\nPS1='ready>'; LISTMAX=9999; zshexit() { echo good''bye }\n"
    )
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(shutil.which("zsh") or "", ["zsh", "-d", "-i"], environment(folder))
    try:
        await_text(fd, "ready>")
        os.write(fd, line.encode() + b"\t\x15exit\r")
        await_text(fd, "goodbye")
    finally:
        os.close(fd)
        os.waitpid(pid, 0)
    words = folder / "words"
    found = {word.rstrip("/") for word in words.read_text().split("\n")} if words.exists() else set()
    assert found >= wanted
    assert not found & unwanted


def await_text(fd: int, text: str) -> None:
    """Read from a terminal until something is written."""
    seen, deadline = "", time.monotonic() + 30
    while text not in seen:
        assert select.select([fd], [], [], deadline - time.monotonic())[0], f"no {text!r} in {seen!r}"
        seen += os.read(fd, 4096).decode(errors="replace")


@pytest.mark.parametrize("shell", completions.SHELLS)
def test_every_command_and_flag_is_there(shell: str) -> None:
    text = completions.SHELLS[shell]()
    for command in completions.commands():
        assert command.name in text
        for flag in command.flags:
            assert f"--{flag.name}" in text or f"-l {flag.name} " in text, (command.name, flag.name)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("DIR", "DIR"), ("SOCKET", "FILE"), ("[CTRL:]PATH", ""), ("N", ""), ("a|b", "a|b"), ("BUNDLE|-", "DIR")],
)
def test_what_is_offered_follows_from_the_name(value: str, kind: str) -> None:
    assert completions.kind(value) == kind


def test_flags_with_a_choice_have_a_default_among_them() -> None:
    flags: list[Flag] = [*main.GLOBAL, *(flag for command in completions.commands() for flag in command.flags)]
    for flag in flags:
        if "|" in flag.value and flag.default:
            assert flag.default in flag.value.split("|"), flag.name
