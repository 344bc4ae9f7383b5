"""What all tiers share: the path to tests/support, and the marks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("support.container", "support.proc", "support.runtime")

MARKS = (
    "ours: about our own files and messages; skipped when another runtime is under test",
    "rootless: runs as an ordinary user as well as as root",
    "differs(runc=REASON, crun=REASON, sometimes=True): a runtime known to do otherwise, and why",
)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks of the root tier."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
