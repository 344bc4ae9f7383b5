"""Fixtures of the fault tier: those of the root tier."""

from __future__ import annotations

from pathlib import Path

import pytest
from linux.conftest import base, bundle, container, executable, machine, mark_items, runtime, scratch

__all__ = ["base", "bundle", "container", "executable", "machine", "runtime", "scratch"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark this tier's tests as those of the root tier are."""
    mark_items(items, HERE)
