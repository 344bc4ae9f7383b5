"""docs/security.md names every file of attacks, and each of those shows that its attack would be seen to succeed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs/security.md").read_text()
FILES = sorted((CHECKOUT / "tests/security").glob("test_cve_*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_page_has_a_row_for_each_file(path: Path) -> None:
    row = next(line for line in PAGE.splitlines() if f"(../tests/security/{path.name})" in line)
    cves = set(re.findall(r"CVE-\d+-\d+", path.read_text().partition("\n\n")[0]))
    assert cves
    assert cves <= set(re.findall(r"CVE-\d+-\d+", row))
    ours = row.split(" | ")[1]
    assert re.fullmatch(r"holds \(\d+\), \d+ caught", ours), "what was measured of ours"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_attack_is_tried_on_a_weakened_build(path: Path) -> None:
    text = path.read_text()
    assert re.search(r"def test_\w*caught", text)
    assert "weakened" in text or "UNSEALED" in text


def test_the_page_has_no_row_without_a_file() -> None:
    named = set(re.findall(r"tests/security/(test_cve_\w+\.py)", PAGE))
    assert named == {path.name for path in FILES}
