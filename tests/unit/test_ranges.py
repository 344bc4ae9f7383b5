"""Lists of CPUs and memory nodes (cpuset(7), "List format")."""

from __future__ import annotations

import pytest

from pyruntime.util import ranges


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-2,7", [0, 1, 2, 7]), ("7,0-2,1\n", [0, 1, 2, 7]), (" 3 , 5 ", [3, 5]), ("", []), ("\n", []), ("8191", [8191])],
)
def test_a_list(text: str, numbers: list[int]) -> None:
    assert ranges.parse(text) == numbers


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a", "'a' is not a number or a range"),
        ("1-", "'1-' is not a number or a range"),
        ("1,,2", "'' is not a number or a range"),
        ("-1", "'-1' is not a number or a range"),
        ("\u0663", "is not a number or a range"),
        ("3-1", "'3-1' is not a range from 0 to 8191"),
        ("0-8192", "'0-8192' is not a range from 0 to 8191"),
        ("0-" + "9" * 5000, "is not a range from 0 to 8191"),
    ],
)
def test_what_is_not_a_list(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ranges.parse(text)
