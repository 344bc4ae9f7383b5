"""What each engine could do with each candidate: collected from the tests, kept as JSON, shown as a table.

    python tests/engines/table.py [docs/engines.md]

prints the tables of the last runs, or writes them into a file between their marks: those of the machine's engines in
full, those of other releases (tools/engines/fetch) as numbers, with what does not work.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "build/engines"
MARKS = "<!-- {}: begin -->", "<!-- {}: end -->"
CANDIDATES = ("pyruntime", "runc")
PACKAGES = {"containerd": "containerd", "docker": "docker.io"}


class Results:
    """Outcomes by candidate and by engine; a test's row is the first line of its docstring."""

    def __init__(self) -> None:
        self._by_candidate: dict[str, dict[str, dict[str, Any]]] = {}

    def add(self, item: Any, params: dict[str, Any], report: Any) -> None:
        """Take one phase of a test; the worst of a row counts."""
        engine = item.path.stem.removeprefix("test_")
        title = (item.function.__doc__ or item.originalname).strip().splitlines()[0].rstrip(".")
        others = ", ".join(str(value) for name, value in params.items() if name != "candidate")
        row = f"{title} ({others})" if others else title
        heading = item.module.__doc__.strip().splitlines()[0].rstrip(".")
        empty = {"heading": heading, "rows": {}}
        rows = self._by_candidate.setdefault(params["candidate"], {}).setdefault(engine, empty)["rows"]
        if report.when == "call" or report.outcome != "passed":
            outcome = _outcome(report)
            if not rows.get(row, "").startswith("FAILS"):
                rows[row] = outcome

    def save(self) -> None:
        """Write one file for each candidate and engine; those of tests that were not run stay."""
        folder = Path(os.environ.get("ENGINES_FROM") or FOLDER)
        for name, engines in self._by_candidate.items():
            folder.mkdir(parents=True, exist_ok=True)
            for engine, results in engines.items():
                (folder / f"{engine}.{name}.json").write_text(json.dumps(results, indent=1))


def _outcome(report: Any) -> str:
    measured = dict(report.user_properties).get("measured", "")
    if report.outcome == "passed":
        return measured or "works"
    if report.outcome == "skipped":
        reason = getattr(report, "wasxfail", "") or report.longrepr[2].removeprefix("Skipped: ")
        return f"no: {reason.removeprefix('reason: ')}"
    return f"FAILS: {measured}" if measured else "FAILS"


def text() -> str:
    """The table of all engines in Markdown."""
    lines = []
    for engine in _engines(FOLDER):
        results = {name: _load(FOLDER, engine, name) for name in CANDIDATES}
        heading = next(one["heading"] for one in results.values() if one)
        columns = {name: one.get("rows", {}) for name, one in results.items()}
        lines += [f"### {heading}", "", "| what | " + " | ".join(CANDIDATES) + " |", "|---|---|---|"]
        for row in dict.fromkeys(row for rows in columns.values() for row in rows):
            cells = " | ".join(columns[name].get(row, "–") for name in CANDIDATES)
            lines.append(f"| {row} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def text_of_releases() -> str:
    """For each other release how many rows of each table work, and those that do not, in Markdown."""
    lines = []
    for folder in sorted((path.parent for path in FOLDER.glob("*/versions")), key=_versions):
        lines += [f"### {_versions(folder)}", "", "| what | " + " | ".join(CANDIDATES) + " |", "|---|---|---|"]
        exceptions = []
        for engine in _engines(folder):
            results = {name: _load(folder, engine, name) for name in CANDIDATES}
            heading = next(one["heading"] for one in results.values() if one)
            cells = []
            for name in CANDIDATES:
                rows = results[name].get("rows", {})
                bad = {row: outcome for row, outcome in rows.items() if outcome.startswith(("no: ", "FAILS"))}
                cells.append(f"{len(rows) - len(bad)} of {len(rows)}" if rows else "–")
                exceptions += [f"* {name}, {heading}: {row}: {outcome}" for row, outcome in bad.items()]
            lines.append(f"| {heading} | {' | '.join(cells)} |")
        lines += ["", *exceptions, ""]
    return "\n".join(lines)


def _versions(folder: Path) -> str:
    """containerd's and docker's versions, as upstream numbers them."""
    packages = dict(line.split() for line in (folder / "versions").read_text().splitlines())
    return ", ".join(f"{name} {re.match(r'[0-9.]+', packages[package])[0]}" for name, package in PACKAGES.items())


def _engines(folder: Path) -> list[str]:
    return sorted({path.name.split(".")[0] for path in folder.glob("*.json")})


def _load(folder: Path, engine: str, name: str) -> dict[str, Any]:
    path = folder / f"{engine}.{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def main() -> None:
    tables = {"results": text(), "releases": text_of_releases()}
    if len(sys.argv) < 2:
        print(*tables.values(), sep="\n")
        return
    document = Path(sys.argv[1])
    page = document.read_text()
    for name, table in tables.items():
        begin, end = (mark.format(name) for mark in MARKS)
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        if table:
            page = f"{before}{begin}\n\n{table}\n{end}{after}"
    document.write_text(page)


if __name__ == "__main__":
    main()
