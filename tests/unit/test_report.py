"""Findings on a terminal and in CI systems: layout and escaping."""

from __future__ import annotations

import json

from pyruntime.cli import findings_text
from pyruntime.diagnose.finding import Finding
from pyruntime.spec.position import Positions
from pyruntime.util.colour import Painter

TEXT = '{\n "mounts": [\n  {"destination": "/a"}\n ]\n}\n'
FOUND = [
    Finding("note", "", "could not look", rule="one"),
    Finding("error", "/mounts/0", "100% wrong\nline, two", why="because", hint="change: it", rule="two"),
]


def shown(format: str, *, on: bool = False, file: str = "config.json") -> str:
    return findings_text.shown(FOUND, format, file=file, positions=Positions(TEXT), paint=Painter(on))


def test_the_worst_comes_first_a_line_each() -> None:
    assert shown("table").splitlines() == [
        "error    /mounts/0: 100% wrong line, two: because; change: it",
        "note     could not look",
    ]


def test_a_person_gets_reason_and_hint_below() -> None:
    lines = shown("table", on=True).splitlines()
    assert "\x1b[31;1merror   \x1b[0m" in lines[0] and "/mounts/0" in lines[0] and "because" not in lines[0]
    assert "because" in lines[1] and "change: it" in lines[2]
    assert "/" in lines[3] and "could not look" in lines[3]


def test_annotations_are_escaped() -> None:
    """A comma or a colon in a property, and a line break anywhere, would end it."""
    lines = shown("github", file="a,b:c/config.json").splitlines()
    assert lines == [
        "::error file=a%2Cb%3Ac/config.json,line=3,col=3,title=pyruntime two::"
        "/mounts/0: 100%25 wrong%0Aline, two: because; change: it",
        "::notice file=a%2Cb%3Ac/config.json,line=1,col=1,title=pyruntime one::could not look",
    ]


def test_sarif_has_lines_rules_and_an_escaped_path() -> None:
    (run,) = json.loads(shown("sarif", file="a b/config.json"))["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["one", "two"]
    first = run["results"][0]
    assert (first["ruleId"], first["level"]) == ("two", "error")
    (place,) = first["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "a%20b/config.json"
    assert place["physicalLocation"]["region"] == {"startLine": 3, "startColumn": 3}
    assert place["logicalLocations"] == [{"fullyQualifiedName": "/mounts/0"}]


def test_nothing_found_is_valid_in_every_form() -> None:
    def empty(format: str) -> str:
        return findings_text.shown([], format, file="config.json", positions=Positions(TEXT), paint=Painter(False))

    assert empty("table") == "config.json is valid\n"
    assert empty("github") == ""
    assert json.loads(empty("json")) == []
    assert json.loads(empty("sarif"))["runs"][0]["results"] == []
