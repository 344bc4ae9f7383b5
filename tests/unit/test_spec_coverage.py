"""docs/spec-coverage.md speaks of every field of the schema, and of modules and tests that are there."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs/spec-coverage.md"
# A test of these folders is looked for, in this order: what is seen in a container counts for more.
LINUX, UNIT = "tests/linux", "tests/unit"


class Row(NamedTuple):
    field: str
    modules: list[str]
    tests: list[tuple[str, str]]
    note: str


def rows() -> list[Row]:
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("| `/"):
            continue
        field, modules, tests, note = (*cells, "")[:4]
        named = [
            (file, f"test_{name}")
            for part in tests.split("; ")
            for file, _, names in [part.partition(": ")]
            for name in re.findall(r"`([^`]+)`", names)
        ]
        pairs = [(file.strip("`"), name) for file, name in named]
        found.append(Row(field.strip("`"), re.findall(r"`([^`]+)`", modules), pairs, note.strip("| ")))
    return found


def fields() -> list[str]:
    """Every member of the schema as the page writes it; an array or a map of plain values is one field."""
    schema = json.loads((CHECKOUT / "oci-spec/config.schema.json").read_text())
    found: list[str] = []

    def resolved(part: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in part:
            target: Any = schema
            for key in part["$ref"].removeprefix("#/").split("/"):
                target = target[key]
            part = {**target, **{key: value for key, value in part.items() if key != "$ref"}}
        return part

    def walk(part: dict[str, Any], path: str) -> None:
        part = resolved(part)
        for name, below in part.get("properties", {}).items():
            found.append(f"{path}/{name}")
            walk(below, f"{path}/{name}")
        if isinstance(part.get("items"), dict):
            walk(part["items"], f"{path}/[]")
        more = part.get("additionalProperties")
        if isinstance(more, dict):
            found.append(f"{path}/{{}}")
            walk(more, f"{path}/{{}}")

    walk(schema, "")
    return found


def covers(pattern: str, field: str) -> bool:
    wanted, given = pattern.split("/"), field.split("/")
    return len(wanted) == len(given) and all(a in ("*", b) for a, b in zip(wanted, given, strict=True))


@cache
def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def is_in(folder: str, file: str, name: str) -> bool:
    return f"\ndef {name}(" in text(CHECKOUT / folder / file)


def test_the_schema_is_walked() -> None:
    found = fields()
    assert len(found) > 200
    assert {"/root/path", "/linux/seccomp/syscalls/[]/args/[]/op", "/linux/sysctl/{}"} <= set(found)


def test_every_field_has_a_row() -> None:
    patterns = [row.field for row in rows()]
    assert [field for field in fields() if not any(covers(pattern, field) for pattern in patterns)] == []


def test_every_row_is_of_a_field() -> None:
    known = fields()
    assert [row.field for row in rows() if not any(covers(row.field, field) for field in known)] == []


def test_no_field_twice() -> None:
    listed = [row.field for row in rows()]
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.field)
def test_a_row(row: Row) -> None:
    """Its modules and tests exist; a field that no container was seen with has a note that says why."""
    assert row.modules
    assert [name for name in row.modules if not (CHECKOUT / "pyruntime" / name).is_file()] == []
    assert row.tests
    assert [pair for pair in row.tests if not (is_in(LINUX, *pair) or is_in(UNIT, *pair))] == []
    if not any(is_in(LINUX, *pair) for pair in row.tests):
        assert row.note
