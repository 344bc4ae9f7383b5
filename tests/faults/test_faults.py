"""A sample of what `make test-faults` tries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.ours
@pytest.mark.parametrize("more", [("--every", "130"), ("--rootless", "--every", "110")], ids=["root", "ordinary user"])
def test_a_sample_of_all_points(more):
    """Some of the thousands of points: no leak, no hang, no bad answer, and each is reached."""
    words = [sys.executable, HERE / "sweep.py", "--seconds", "40", "--verbose", *more]
    result = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "points tried" in result.stdout
