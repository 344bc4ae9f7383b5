"""Commands that need no container and no build: run from the sources, by the interpreter of the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAM = "import sys; sys.argv[0] = 'pyruntime'; from pyruntime.cli.main import main; main()"


def command(*words: str) -> list[str]:
    """The command line, to be run in CHECKOUT."""
    return [sys.executable, "-c", PROGRAM, *words]


def pyruntime(*words: str, input: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command with a text as its standard input."""
    return subprocess.run(command(*words), input=input, capture_output=True, text=True, check=False, cwd=CHECKOUT)
