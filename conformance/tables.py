"""expected.toml (what pyruntime must do), baseline.toml (what runc and crun did), and the comparison."""

from __future__ import annotations

import tomllib
from pathlib import Path

from program import CLEAN, Result

HERE = Path(__file__).resolve().parent
Row = dict[str, object]
WORSE, BETTER, AS_EXPECTED = "WORSE", "better", ""


def expected(machine: str = "", spec: tuple[int, ...] = (1, 0)) -> tuple[dict[str, Row], dict[str, list[str]]]:
    """The programs and the sets of expected.toml; those of a machine that differs, by its name there.

    `spec` is the version of the specification that the suite was built with.
    KeyError for a machine that is not there."""
    table = tomllib.loads((HERE / "expected.toml").read_text())
    rows: dict[str, Row] = table["machine"][machine] if machine else table["program"]
    for since, others in table["spec"].items():
        if spec >= tuple(int(number) for number in since.split(".")):
            rows.update((test, row) for test, row in others.items() if test in rows)
    return {test: {**table["program"].get(test, {}), **row} for test, row in rows.items()}, table["sets"]


def baseline(machine: str = "") -> dict[str, dict[str, Row]]:
    """By runtime and program: verdict, ok, not_ok, skipped; as recorded on this machine, or on another."""
    found: dict[str, dict[str, Row]] = {}
    for key, rows in _recorded().items():
        runtime, _, where = key.partition("-")
        if where == machine:
            found[runtime] = rows
    return found


def _recorded() -> dict[str, dict[str, Row]]:
    path = HERE / "baseline.toml"
    return tomllib.loads(path.read_text()) if path.exists() else {}


def compare(result: Result, wanted: Row) -> str:
    """WORSE, BETTER or AS_EXPECTED.

    Nothing but a clean run is as good as an expected clean one. Where a failure is expected, more failing
    checks than expected, or none that was reached, are worse.
    """
    verdict = wanted.get("verdict", "PASS")
    if verdict in CLEAN:
        return AS_EXPECTED if result.clean else WORSE
    if result.clean:
        return AS_EXPECTED if wanted.get("racy") else BETTER
    if result.verdict != verdict:
        return WORSE if result.verdict in ("ERROR", "TIMEOUT") or verdict == "FAIL0" else AS_EXPECTED
    allowed = wanted.get("not_ok", result.not_ok)
    assert isinstance(allowed, int)
    if result.not_ok == allowed:
        return AS_EXPECTED
    return WORSE if result.not_ok > allowed else BETTER


def record(name: str, version: str, results: dict[str, Result]) -> None:
    """Write RESULTS into baseline.toml as those of NAME (RUNTIME or RUNTIME-MACHINE); what it does not name stays."""
    table = _recorded()
    programs: dict[str, Row] = {**table.get(name, {}), "version": {"text": version}}
    for test, result in results.items():
        programs[test] = {
            "verdict": result.verdict,
            "ok": result.ok,
            "not_ok": result.not_ok,
            "skipped": result.skipped,
        }
    table[name] = programs
    lines = ["# Written by `conformance/run --runtime NAME --record`: verdicts, and numbers of checks."]
    for runtime, rows in sorted(table.items()):
        lines += ["", f"[{runtime}]"]
        for test, row in rows.items():
            inside = ", ".join(f"{key} = {value!r}".replace("'", '"') for key, value in row.items())
            lines.append(f"{test} = {{ {inside} }}")
    (HERE / "baseline.toml").write_text("\n".join(lines) + "\n")


def shown(row: Row | None) -> str:
    """A baseline row as the table prints it."""
    return "-" if row is None else f"{row['verdict']} {row['ok']}/{row['not_ok']}/{row['skipped']}"
