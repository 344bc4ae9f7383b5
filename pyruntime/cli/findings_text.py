"""Findings for a person, for programs and for CI systems: table, JSON, GitHub annotations, SARIF."""

from __future__ import annotations

from pyruntime.diagnose.finding import SEVERITIES
from pyruntime.errors import printable
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.diagnose.finding import Finding
    from pyruntime.spec.position import Positions
    from pyruntime.util.colour import Painter

FORMATS = ("table", "json", "github", "sarif")
COLOURS = {"error": "red", "warning": "yellow", "note": "blue", "ok": "green"}
# SARIF 2.1.0, "3.27.10 level property", has the same three names; GitHub calls the last one notice.
_GITHUB = {"error": "error", "warning": "warning", "note": "notice"}
_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


def shown(found: list[Finding], format: str, *, file: str, positions: Positions, paint: Painter) -> str:
    """Return the findings, the worst first.

    file: how the file is called, as a CI system knows it. positions: where the pointers are in it."""
    found = sorted(found, key=lambda one: SEVERITIES.index(one.severity))
    if format == "json":
        return fastjson.dumps([_as_json(one, positions) for one in found], indent=2) + "\n"
    if format == "sarif":
        return fastjson.dumps(_as_sarif(found, file, positions), indent=2) + "\n"
    if format == "github":
        return "".join(_as_annotation(one, file, positions) + "\n" for one in found)
    if not found:
        return paint("config.json is valid", "green") + "\n"
    return "".join(_as_lines(one, paint) for one in found)


def _as_json(one: Finding, positions: Positions) -> dict[str, object]:
    line, column = positions.find(one.pointer)
    return {**one.to_json(), "line": line, "column": column}


def _as_lines(one: Finding, paint: Painter) -> str:
    """Return one line for a pipe; for a person the reason and the hint below."""
    head = paint(one.severity.ljust(8), COLOURS[one.severity], "bold")
    if not paint.on:
        return f"{head} {printable(one.text())}\n"
    lines = [f"{head} {paint(one.pointer or '/', 'bold')}  {printable(one.message)}"]
    for label, text in (("why", one.why), ("hint", one.hint)):
        if text:
            lines.append(f"         {paint(label.ljust(4), 'dim')}  {printable(text)}")
    return "\n".join(lines) + "\n"


def _as_annotation(one: Finding, file: str, positions: Positions) -> str:
    """Return a workflow command of GitHub's runner; other CI systems read the same lines."""
    line, column = positions.find(one.pointer)
    text = one.text().replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    for sign, code in (("%", "%25"), (":", "%3A"), (",", "%2C"), ("\n", "%0A"), ("\r", "%0D")):
        file = file.replace(sign, code)
    return f"::{_GITHUB[one.severity]} file={file},line={line},col={column},title=pyruntime {one.rule}::{text}"


def _as_sarif(found: list[Finding], file: str, positions: Positions) -> dict[str, object]:
    """Static Analysis Results Interchange Format 2.1.0 (OASIS), as code hosts take it."""
    from pyruntime.version import VERSION

    results = []
    for one in found:
        line, column = positions.find(one.pointer)
        results.append(
            {
                "ruleId": one.rule,
                "level": one.severity,
                "message": {"text": one.text()},
                "locations": [
                    {
                        "physicalLocation": {
                            "artifactLocation": {"uri": _uri(file)},
                            "region": {"startLine": line, "startColumn": column},
                        },
                        "logicalLocations": [{"fullyQualifiedName": one.pointer}],
                    }
                ],
            }
        )
    rules = [{"id": rule} for rule in sorted({one.rule for one in found})]
    driver = {"name": "pyruntime validate", "version": VERSION, "rules": rules}
    return {"$schema": _SARIF, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path, errors="surrogateescape")
