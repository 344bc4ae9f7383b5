"""An audit as text and as JSON."""

from __future__ import annotations

from pyruntime.audit.comparison import AS_ASKED, CANNOT_SEE, DRIFTED, Comparison
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.util.colour import Painter

_COLOURS = {AS_ASKED: "green", DRIFTED: "red", CANNOT_SEE: "yellow"}


def count(comparisons: list[Comparison]) -> dict[str, int]:
    """Return verdict -> number of comparisons."""
    return {verdict: sum(one.verdict == verdict for one in comparisons) for verdict in (AS_ASKED, DRIFTED, CANNOT_SEE)}


def as_table(comparisons: list[Comparison], counts: dict[str, int], about: dict[str, object], paint: Painter) -> str:
    """Return a line a comparison: verdict, field, what, and for a drift both values. counts: of all comparisons."""
    width = min(max((len(one.pointer) for one in comparisons), default=0), 40)
    lines = []
    for one in comparisons:
        line = f"{paint(one.verdict.ljust(10), _COLOURS[one.verdict])}  {one.pointer.ljust(width)}  {one.what}"
        if one.verdict == DRIFTED:
            line += f": asked {one.asked}, found {paint(one.found, 'red')}"
        if one.note:
            line += paint(f" ({one.note})", "dim")
        lines.append(line)
    summary = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
    return "\n".join([*lines, paint(f"{about['name']}, pid {about['pid']}: {summary}", "bold")]) + "\n"


def as_json(comparisons: list[Comparison], counts: dict[str, int], about: dict[str, object]) -> str:
    """Return one object: about the container, the counts of all comparisons, those that are shown."""
    document = about | {
        "summary": {verdict.replace(" ", "_"): number for verdict, number in counts.items()},
        "findings": [one.to_json() for one in comparisons],
    }
    return fastjson.dumps(document, indent=2) + "\n"
