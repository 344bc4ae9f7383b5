"""docs/cgroups.md names a test of every member of linux.resources on each layout, and each of those is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs/cgroups.md").read_text()
FILES = {
    "P": "tests/unit/test_cgroup_plan.py",
    "L": "tests/linux/test_cgroup_limits.py",
    "N": "tests/linux/test_never_ignored_limits.py",
    "V": "tests/linux/test_cgroup_limits_v2.py",
}
# Besides P, of which layout a file's tests are.
LAYOUTS = {"v1": "PLN", "v2": "PV"}


def rows() -> list[list[str]]:
    """The cells of the table, a list a row."""
    table = PAGE.partition("| `linux.resources` |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


def members() -> set[str]:
    """Every member of linux.resources in the schema, those of an object by their own names."""
    definitions = json.loads((CHECKOUT / "oci-spec/config.schema.json").read_text())["$defs"]
    found = set()
    for name, schema in definitions["resources"]["properties"].items():
        inner = definitions[schema["$ref"].rpartition("/")[2]].get("properties", {}) if "$ref" in schema else {}
        found |= {f"{name}.{one}" for one in inner} or {name}
    return found


def named(cell: str) -> list[tuple[str, str]]:
    """(letter of the file, name of the function) for each test that a cell names."""
    found, letter = [], ""
    for one, name in re.findall(r"\b([PLNV]) (?=`)|`(test_\w+)`", cell):
        letter = one or letter
        if name:
            found.append((letter, name))
    return found


def test_every_member_is_in_the_table() -> None:
    assert {name for row in rows() for name in re.findall(r"`([\w.]+)`", row[0])} == members()


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_layout_has_a_test_that_is_there(row: list[str]) -> None:
    for layout, cell in (("v1", row[2]), ("v2", row[4])):
        found = named(cell)
        assert any(letter != "P" for letter, _ in found), f"no test on {layout} itself"
        for letter, name in found:
            assert letter in LAYOUTS[layout], (letter, name)
            assert re.search(rf"^def {name}\(", (CHECKOUT / FILES[letter]).read_text(), re.M), f"{name} is not there"


@pytest.mark.parametrize("letter", FILES)
def test_the_letters_are_explained(letter: str) -> None:
    assert re.search(rf"\b{letter}( is a test of)?\s+`{FILES[letter]}`", PAGE)
