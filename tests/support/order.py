"""Random order, so that a test that depends on those before it fails sooner or later, and can be repeated.

The directories stay in their order; the modules of each directory are shuffled, and the tests of each module. pytest
then groups those that share a parameter. The last lines of a run name the seed: `--order SEED` repeats that order, and
`--order file` is the order of the files. PYRUNTIME_TEST_ORDER is the default of `--order`; CI sets a seed.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

# Directories that keep the order of their files, and why.
KEPT = {"tests/engines": "one session of slow daemons, which was never run in another order"}


def add_option(parser: pytest.Parser) -> None:
    """Declare --order."""
    parser.addoption(
        "--order",
        metavar="SEED",
        default=os.environ.get("PYRUNTIME_TEST_ORDER", ""),
        help="of the tests: a seed, or `file` (a random seed)",
    )


def shuffle(items: list[pytest.Item], seed: int, top: Path) -> list[pytest.Item]:
    """The items in the order of the seed."""
    chosen = random.Random(seed)
    directories: dict[Path, dict[Path, list[pytest.Item]]] = {}
    for item in items:
        directories.setdefault(item.path.parent, {}).setdefault(item.path, []).append(item)
    result = []
    for directory, files in directories.items():
        modules = list(files.values())
        if not any(directory.is_relative_to(top / kept) for kept in KEPT):
            chosen.shuffle(modules)
            for tests in modules:
                chosen.shuffle(tests)
        result += [item for tests in modules for item in tests]
    return result


class Order:
    """The plugin."""

    def __init__(self, wanted: str) -> None:
        if wanted not in ("", "file") and not (wanted.isascii() and wanted.isdecimal()):
            raise pytest.UsageError(f"--order: {wanted!r} is neither a seed nor `file`")
        self.seed = None if wanted == "file" else int(wanted or random.SystemRandom().randrange(10**6))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Shuffle what was collected."""
        if self.seed is not None:
            items[:] = shuffle(items, self.seed, config.rootpath)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the seed."""
        how = "that of the files" if self.seed is None else f"random; --order {self.seed} repeats it"
        terminalreporter.write_line(f"order of the tests: {how}")
