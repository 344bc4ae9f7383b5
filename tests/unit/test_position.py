"""Pointers to lines: what a CI system shows beside config.json."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyruntime.spec.position import Positions

TEXT = """{
  "ociVersion": "1.0.2",
  "mounts": [
    {"destination": "/a", "options": ["ro", "rdonly"]},
    {
      "destination": "/b"
    }
  ],
  "a/b~c": {"x\\"y": 1},
  "n": [1.5e3, null, true]
}
"""


@pytest.mark.parametrize(
    ("pointer", "line", "start"),
    [
        ("", 1, "{"),
        ("/ociVersion", 2, '"ociVersion"'),
        ("/mounts/0", 4, '{"destination": "/a"'),
        ("/mounts/0/options/1", 4, '"rdonly"'),
        ("/mounts/1/destination", 6, '"destination"'),
        ('/a~1b~0c/x"y', 9, '"x'),
        ("/n/2", 10, "true"),
        ("/mounts/1/source", 5, "{"),  # what is missing is where it should be
        ("/nosuch/at/all", 1, "{"),
    ],
)
def test_places(pointer: str, line: int, start: str) -> None:
    found_line, column = Positions(TEXT).find(pointer)
    assert found_line == line
    assert TEXT.splitlines()[line - 1][column - 1 :].startswith(start)


@pytest.mark.parametrize("text", ["", "{", '{"a"', '{"a": ', "[1,", "[" * 5000, "nonsense"])
def test_what_is_no_json_has_a_first_line(text: str) -> None:
    assert Positions(text).find("/a/b")[0] == 1


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def pointers(value: object, pointer: str = "") -> list[tuple[str, object]]:
    """Every pointer of a value, with what must be found in the text at its place: a name, or the value."""
    found: list[tuple[str, object]] = []
    if isinstance(value, dict):
        for name, inner in value.items():
            place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
            found += [(place, name), *pointers(inner, place)]
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += [(f"{pointer}/{index}", inner), *pointers(inner, f"{pointer}/{index}")]
    return found


@given(values, st.sampled_from([None, 1]))
def test_every_value_is_found(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    positions = Positions(text)
    lines = text.split("\n")
    for pointer, expected in pointers(value):
        line, column = positions.find(pointer)
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        assert json.JSONDecoder().raw_decode(rest)[0] == expected
