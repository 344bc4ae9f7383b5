"""events: what a container uses, and its OOM kills, as lines of JSON."""

from __future__ import annotations

from pyruntime.cgroupfs.pressure import LEVELS
from pyruntime.cli.flags import Flag
from pyruntime.cli.main import one_id, write_output
from pyruntime.commands import events
from pyruntime.errors import UsageError
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values
    from pyruntime.commands.settings import Settings

USAGE = "ID"
FLAGS = (
    Flag("interval", "time between statistics: 5s, 500ms, 1m", value="TIME", default="5s"),
    Flag("stats", "print the statistics once"),
    Flag("pressure", "report memory pressure from this level on, too", value="|".join(LEVELS)),
)

_UNITS = (("ms", 0.001), ("us", 0.000001), ("s", 1.0), ("m", 60.0), ("h", 3600.0))


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Print statistics; without --stats again and again, and OOM events, until the container stops."""
    interval = seconds(values["interval"])
    if interval <= 0:
        raise UsageError("duration interval must be greater than 0", hint="give --interval 5s, for example")
    if values["pressure"] not in ("", *LEVELS):
        raise UsageError(f"invalid pressure: {values['pressure']!r}", hint=f"give {', '.join(LEVELS)}")
    record = events.find(settings.root, one_id(words, "events"))
    found = [events.statistics(record)] if values["stats"] else events.follow(record, interval, values["pressure"])
    for event in found:
        write_output(fastjson.dumps(event) + "\n")
    return 0


def seconds(text: str) -> float:
    """Return a time as Go writes it, 1m30s, in seconds. Raises UsageError."""
    rest, total = text, 0.0
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = next((u for u in _UNITS if rest[digits:].startswith(u[0])), None)
        try:
            total += float(rest[:digits]) * unit[1]  # type: ignore[index]
        except (ValueError, TypeError):
            raise UsageError(f"--interval: {text!r} is not a time", hint="write it as 5s or 500ms") from None
        rest = rest[digits + len(unit[0]) :]  # type: ignore[index]
    return total
