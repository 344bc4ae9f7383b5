"""Runs the attacks of this directory against runtimes, and prints what came of them as the table of docs/security.md:

    .venv/bin/python tests/security/table.py [ours] [runc] [crun]     (root; three to five minutes each)

What a cell says is measured: `holds` when every attack of the file has failed; else how many have succeeded, or were
not refused, in the words of the mark that expects it. "caught" are attacks that a weakened pyruntime falls for.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
RUNTIMES = ("ours", "runc", "crun")
# What skips a test that no other runtime can take.
OURS_ONLY = ("about pyruntime's own files or messages", "runc is one program", "crun is one program")


@dataclass
class Cell:
    """What came of one file of attacks."""

    held: int = 0
    caught: int = 0
    fell: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        attacks = self.held + len(self.fell)
        if self.fell:
            words = f"**{len(self.fell)} of {attacks}**: {'; '.join(dict.fromkeys(self.fell))}"
        else:
            words = f"holds ({attacks})" if attacks else ""
        words += f", {self.caught} caught" if self.caught else ""
        skipped = "; ".join(dict.fromkeys(self.skipped))
        return f"{words} (not tried: {skipped})" if words and skipped else words or f"not tried: {skipped}"


def files() -> list[Path]:
    """The files of attacks, one a CVE."""
    return sorted(HERE.glob("test_cve_*.py"))


def title(path: Path) -> str:
    """The CVEs that a file is about, as its first line names them."""
    first = path.read_text().partition("\n\n")[0]
    return ", ".join(re.findall(r"CVE-\d+-\d+", first))


def judge(report: Path) -> dict[str, Cell]:
    """What a report of pytest says: file -> cell."""
    cells: dict[str, Cell] = {}
    for case in xml.parse(report).getroot().iter("testcase"):
        name = case.get("classname", "").rpartition(".")[2]
        cell = cells.setdefault(name, Cell())
        skipped, bad = case.find("skipped"), case.find("failure")
        reason = skipped.get("message", "") if skipped is not None else ""
        if bad is None:
            bad = case.find("error")
        if bad is not None:
            cell.fell.append(f"{case.get('name')} FAILED")
        elif skipped is None and "caught" in case.get("name", ""):
            cell.caught += 1
        elif skipped is None:
            cell.held += 1
        elif skipped.get("type") == "pytest.xfail":
            cell.fell.append(re.sub(r"^(runc|crun) [\d.]+:? ", "", reason))
        elif reason not in OURS_ONLY:
            cell.skipped.append(reason)
    return cells


def measure(runtime: str) -> dict[str, Cell]:
    """Attack one runtime."""
    environment = {"PYRUNTIME_TEST_THOROUGH": "5", **os.environ}
    if runtime != "ours":
        environment["PYRUNTIME_UNDER_TEST"] = runtime
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = [sys.executable, "-m", "pytest", "-q", "-rP", f"--junitxml={report}", *map(str, files())]
        done = subprocess.run(words, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        lines = done.stdout.strip().splitlines()
        races = [line.split()[0] for line in lines if re.fullmatch(r"\d+ rounds", line)]
        print(f"{lines[-1]}; rounds of the races: {' '.join(races)}", file=sys.stderr)
        return judge(report)


def main() -> int:
    wanted = sys.argv[1:] or list(RUNTIMES)
    measured = {runtime: measure(runtime) for runtime in wanted}
    versions = []
    for runtime in wanted:
        path = CHECKOUT / "build/bin/pyruntime" if runtime == "ours" else runtime
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        versions.append(" ".join(said.split()[:3]).replace(" version", ""))
    print(f"| CVE | {' | '.join(versions)} |")
    print(f"|---|{'---|' * len(wanted)}")
    for path in files():
        cells = [str(measured[runtime].get(path.stem, Cell())) for runtime in wanted]
        print(f"| [{title(path)}](../tests/security/{path.name}) | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
