"""What each engine could do with each candidate: collected from the tests, kept as JSON, shown as a table.

    python tests/engines/table.py [docs/engines.md]

prints the table of the last runs, or writes it into a file between its two marks.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
# Those of another release's engines are beside them (tools/engines/fetch).
FOLDER = Path(os.environ.get("ENGINES_FROM") or CHECKOUT / "build/engines")
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
CANDIDATES = ("pyruntime", "runc")


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
        for name, engines in self._by_candidate.items():
            FOLDER.mkdir(parents=True, exist_ok=True)
            for engine, results in engines.items():
                (FOLDER / f"{engine}.{name}.json").write_text(json.dumps(results, indent=1))


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
    engines = sorted({path.name.split(".")[0] for path in FOLDER.glob("*.json")})
    for engine in engines:
        results = {name: _load(engine, name) for name in CANDIDATES}
        heading = next(one["heading"] for one in results.values() if one)
        columns = {name: one.get("rows", {}) for name, one in results.items()}
        lines += [f"### {heading}", "", "| what | " + " | ".join(CANDIDATES) + " |", "|---|---|---|"]
        for row in dict.fromkeys(row for rows in columns.values() for row in rows):
            cells = " | ".join(columns[name].get(row, "–") for name in CANDIDATES)
            lines.append(f"| {row} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def _load(engine: str, name: str) -> dict[str, Any]:
    path = FOLDER / f"{engine}.{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def main() -> None:
    if len(sys.argv) < 2:
        print(text())
        return
    document = Path(sys.argv[1])
    before, _, rest = document.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n\n{text()}\n{END}{after}")


if __name__ == "__main__":
    main()
