"""The directory of results: written, read, and several merged into one."""

from __future__ import annotations

import json
import posix

from pyruntime.errors import UsageError
from pyruntime.learn import report_page, written
from pyruntime.learn.proposal import Proposal
from pyruntime.util.fileio import read_file, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.learn.profile import Document

VERSION = 1


def make_directory(path: str) -> None:
    """Make the output directory, which must not exist. Raises UsageError."""
    try:
        posix.mkdir(path, 0o755)
    except FileExistsError:
        raise UsageError(f"--output {path}: it exists", hint="name a directory that does not exist") from None


def write(directory: str, config: Document, report: Document) -> None:
    """Write the proposal of a report for a config."""
    before = json.loads(json.dumps(config))
    proposal = Proposal(config, report)
    report["changes"] = proposal.changes
    report["advice"] = proposal.advice
    report["not_seen"] = list(dict.fromkeys([*proposal.notes, *report["not_seen"]]))
    found = proposal.config["linux"]["seccomp"]
    for name, value in (
        ("given.json", before),
        ("config.json", proposal.config),
        ("seccomp.json", found),
        ("docker-seccomp.json", proposal.docker),
        ("report.json", report),
    ):
        write_atomically(directory, name, json.dumps(value, indent=2) + "\n", 0o644)
    write_atomically(directory, "report.html", report_page.page(report, before, proposal.config), 0o644)


def read(directory: str) -> tuple[Document, Document]:
    """Return (the config that was run, the report) of a directory of results. Raises UsageError."""
    try:
        given = json.loads(read_file(f"{directory}/given.json"))
        report = json.loads(read_file(f"{directory}/report.json"))
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UsageError(
            f"{directory}: not a directory of results: {error}", hint="name a directory that learn has written"
        ) from None
    if not isinstance(report, dict) or report.get("version") != VERSION:
        raise UsageError(f"{directory}/report.json: unknown version", hint="learn again with this version")
    return given, report


def merge(directories: list[str], output: str) -> None:
    """Write what several runs of one config needed together. Raises UsageError."""
    pairs = [read(one) for one in directories]
    config, merged = pairs[0]
    for (other, _), directory in zip(pairs, directories, strict=True):
        if other != config:
            raise UsageError(
                f"{directory}: learnt from another config than {directories[0]}",
                hint="merge runs of one config.json",
            )
    for _, report in pairs[1:]:
        _add(merged, report)
    make_directory(output)
    write(output, config, merged)


def _add(merged: Document, report: Document) -> None:
    runs = merged.pop("runs", None) or [merged.pop("run")]
    merged["runs"] = [*runs, *(report.get("runs") or [report["run"]])]
    for section in ("syscalls", "sysctls"):
        for key in merged[section]:
            merged[section][key] = _union(merged[section][key], report[section][key])
    mine, other = merged["capabilities"], report["capabilities"]
    both = mine["used"] is not None and other["used"] is not None
    mine["used"] = _union(mine["used"], other["used"]) if both else None
    mine["other"] = _union(mine["other"], other["other"])
    mine["lacked"] = _union(mine["lacked"], other["lacked"])
    merged["devices"] = _union(merged["devices"], report["devices"])
    places, others = merged["paths"], report["paths"]
    for key in ("written", "root_changed"):
        places[key] = _union(places[key], others[key])
    places["root_directories"] = written.top([*places["root_directories"], *others["root_directories"]])
    places["root_seen"] = places["root_seen"] and others["root_seen"]
    for key in ("memory", "pids", "cpus"):
        merged["peaks"][key] = max(merged["peaks"][key], report["peaks"][key])
    merged["not_seen"] = list(dict.fromkeys([*merged["not_seen"], *report["not_seen"]]))


def _union(one: list[str], other: list[str]) -> list[str]:
    return sorted({*one, *other})
