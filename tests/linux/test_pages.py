"""The commands of the pages that a newcomer follows work as they stand there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.ours
# In a mount namespace where what the page makes is nobody else's.
PRIVATE = "for d in /tmp/bundle /run/pyruntime; do mkdir -p $d; mount -t tmpfs tmpfs $d; done"


def commands(page: str) -> str:
    """All blocks of the page that are marked as commands, in their order."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", (CHECKOUT / page).read_text(), re.M | re.S))


@pytest.mark.parametrize("page", ["docs/tutorial.md"])
def test_commands(page: str, machine: None) -> None:
    script = commands(page)
    assert "pyruntime" in script
    words = ["unshare", "-m", "bash", "-euc", f"{PRIVATE}\nset -x\n{script}"]
    result = subprocess.run(words, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert '"status": "created"' in result.stdout
