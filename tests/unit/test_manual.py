"""The manual page: groff finds nothing wrong with it, and every flag is in it."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from pyruntime.cli import completions, main, manual


def formatted(*options: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed (tools/packages.sh test)")
    command = ["groff", "-man", "-Tutf8", "-rLL=500n", *options]
    return subprocess.run(command, input=manual.page(), capture_output=True, text=True, timeout=60)


def test_groff_has_no_complaint() -> None:
    result = formatted("-ww", "-z")
    assert (result.returncode, result.stderr) == (0, "")


def test_what_is_shown() -> None:
    text = re.sub(r".\x08|\x1b\[[\d;]*m", "", formatted("-P-c").stdout)
    for flag in main.GLOBAL:
        assert f"--{flag.name}" in text
    for command in completions.commands():
        title = f"pyruntime {command.name} {command.usage}".rstrip()
        section = text.partition(f"{title}\n")[2].partition("\n   pyruntime ")[0]
        for flag in command.flags[:-1]:  # but --help
            assert re.search(re.escape(f"--{flag.name} {flag.value}".rstrip()) + r"\s", section), (title, flag.name)
    assert "\\" not in text


def test_what_is_said_of_commands_is_of_commands() -> None:
    assert set(manual._MORE) <= set(main.COMMANDS)
