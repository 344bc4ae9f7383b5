"""Only tests of one list are tried again, and within their bound."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import races

TESTS = Path(__file__).parents[1]
PROGRAM = """
import itertools, pytest
tries = itertools.count(1)

@pytest.fixture
def folder(tmp_path):
    yield tmp_path

def test_it(folder):
    assert next(tries) == {wins_at}
"""


@pytest.mark.parametrize("start", races.RACES)
def test_the_list_names_tests_that_are_there(start: str) -> None:
    file, _, name = start.partition("::")
    assert re.search(rf"^def {name}\(", (TESTS.parent / file).read_text(), re.M)


@pytest.mark.parametrize(
    ("listed", "wins_at", "passed", "retries"),
    [(True, 1, True, 0), (True, 3, True, 2), (True, 4, False, 2), (False, 2, False, 0)],
)
def test_a_failure(listed: bool, wins_at: int, passed: bool, retries: int, tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(PROGRAM.format(wins_at=wins_at))
    listing = {"test_one.py::test_it": ("why", 2)} if listed else {}
    (tmp_path / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nfrom support import races\nraces.RACES = {listing!r}\n"
        "def pytest_configure(config):\n    config.pluginmanager.register(races.Retries())\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command.append(str(tmp_path))
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == (0 if passed else 1), result.stdout + result.stderr
    assert f"(tests/support/races.py): {retries}\n" in result.stdout
    assert ("1 passed" if passed else "1 failed") in result.stdout
