"""The lines of pyruntime that tests run: `make coverage`.

lines.py prepare TREE FILES LINES    write the list for counting.c, and the empty file that it marks
lines.py report TREE LINES TARGET    print the table, and write it as pages below TARGET
"""

from __future__ import annotations

import sys
from pathlib import Path

LEFT_OUT = ("pyruntime/shim/messages.py", "pyruntime/spec/shape.py", "pyruntime/spec/sections.py")  # made by tools


def places(tree: Path) -> list[tuple[str, int, int]]:
    """Return (name, where its first line is marked, number of lines) of each source file."""
    result, first = [], 0
    for path in sorted((tree / "pyruntime").rglob("*.py"), key=str):
        if (name := str(path.relative_to(tree))) not in LEFT_OUT:
            lines = len(path.read_text().splitlines())
            result.append((name, first, lines))
            first += lines
    return sorted(result)


def prepare(tree: Path, listing: Path, marks: Path) -> None:
    """Write what counting.c needs."""
    files = places(tree)
    listing.write_text("".join(f'{{"{name}", {first}, {lines}}},\n' for name, first, lines in files))
    marks.write_bytes(bytes(max(first + lines for _, first, lines in files)))
    marks.chmod(0o666)  # ordinary users run pyruntime, too


def report(tree: Path, marks: Path, target: Path) -> None:
    """Hand the lines to coverage.py, which knows which ones are statements."""
    import coverage

    marked = marks.read_bytes()
    found = {
        str(tree / name): [line for line in range(1, lines + 1) if marked[first + line - 1]]
        for name, first, lines in places(tree)
    }
    data = coverage.CoverageData(basename=str(target) + ".data")
    data.erase()
    data.add_lines(found)
    data.write()
    measured = coverage.Coverage(data_file=str(target) + ".data", config_file=False)
    measured.load()
    measured.config.exclude_list += [r"if TYPE_CHECKING:", r"raise NotImplementedError", r"^\s*\.\.\.$"]
    measured.report(morfs=list(found), ignore_errors=False, skip_covered=False, sort="Cover")
    measured.html_report(morfs=list(found), directory=str(target))


def main() -> None:
    """Carry out the command line."""
    command, *words = sys.argv[1:]
    {"prepare": prepare, "report": report}[command](*map(Path, words))


if __name__ == "__main__":
    main()
