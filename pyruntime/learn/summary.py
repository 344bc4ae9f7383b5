"""What was learnt as a table: what was granted, used, and proposed."""

from __future__ import annotations

import json
import posix

from pyruntime.errors import printable
from pyruntime.util import colour
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.learn.profile import Document
    from pyruntime.util.colour import Painter


def show(directory: str) -> None:
    """Print the table of a directory of results to standard error: standard output is the container's."""
    report = json.loads(read_file(f"{directory}/report.json"))
    posix.write(2, text(report, directory, colour.of(2)).encode("utf-8", "backslashreplace"))


def text(report: Document, directory: str, paint: Painter) -> str:
    """Return the table."""
    calls, capabilities, peaks = report["syscalls"], report["capabilities"], report["peaks"]
    used = capabilities["used"]
    rows = [
        ("system calls", f"{len({*calls['seen'], *calls['compat']})} used"),
        (
            "capabilities",
            f"{len(capabilities['granted'])} granted, "
            + ("use not seen" if used is None else f"used: {' '.join(used) or 'none'}"),
        ),
        ("written to", " ".join(report["paths"]["root_directories"]) or "nothing in the rootfs"),
        ("devices", " ".join(report["devices"]) or "none"),
        ("sysctls", " ".join(report["sysctls"]["read"] + report["sysctls"]["written"]) or "none"),
        ("peaks", f"memory {peaks['memory'] >> 10} KiB, {peaks['pids']} pids, {peaks['cpus']} CPUs"),
    ]
    lines = [f"{paint(name.ljust(14), 'bold')}{printable(value)}" for name, value in rows]
    lines.append("")
    for change in report["changes"]:
        lines.append(f"{paint('change', 'green')}  {change['pointer']}: {printable(change['reason'])}")
    lines += [f"{paint('advice', 'yellow')}  {printable(one)}" for one in report["advice"]]
    lines += [f"{paint('not seen', 'dim')}  {one}" for one in report["not_seen"]]
    lines.append(f"results: {directory}")
    return "\n".join(lines) + "\n"
