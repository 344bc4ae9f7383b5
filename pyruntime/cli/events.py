"""events: what a container uses, now and then, and word of kills for want of memory, as lines of JSON."""

from __future__ import annotations

import select
import time

from pyruntime.cgroupfs import oom, pressure, stats
from pyruntime.cli.flags import Flag
from pyruntime.cli.main import Context, one_id, write_output
from pyruntime.errors import StateError, UsageError, strerror
from pyruntime.features.rdt import stats as rdt_stats
from pyruntime.state import store
from pyruntime.state.status import open_init, status_of
from pyruntime.util import fastjson
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.state.store import Record

USAGE = "ID"
FLAGS = (
    Flag("interval", "time between statistics: 5s, 500ms, 1m", value="TIME", default="5s"),
    Flag("stats", "print the statistics once"),
    Flag("pressure", "tell of memory pressure from this level on, too", value="|".join(pressure.LEVELS)),
)

_DAY = 86400.0  # poll(2) takes less than a month at once
_UNITS = (("ms", 0.001), ("us", 0.000001), ("s", 1.0), ("m", 60.0), ("h", 3600.0))


def run(context: Context, values: dict[str, Any], words: list[str]) -> int:
    """Print statistics; without --stats again and again, and OOM events, until the container stops."""
    interval = seconds(values["interval"])
    if interval <= 0:
        raise UsageError("duration interval must be greater than 0", hint="give --interval 5s, for example")
    if values["pressure"] not in ("", *pressure.LEVELS):
        raise UsageError(f"invalid pressure: {values['pressure']!r}", hint=f"give {', '.join(pressure.LEVELS)}")
    record = store.load(context.root, one_id(words, "events"))
    if status_of(record) == "stopped":
        raise StateError(f"container not running: {record.id} is stopped")
    if values["stats"]:
        _print(record, "stats", _stats(record))
        return 0
    squeeze = _pressure(record, values["pressure"]) if values["pressure"] else None
    _follow(record, interval, squeeze)
    return 0


def _pressure(record: Record, level: str) -> pressure.Watch:
    try:
        return pressure.Watch(record.cgroups, level)
    except OSError as error:
        raise StateError(
            f"the memory pressure of {record.id} cannot be told: {strerror(error.errno)}",
            why="it has no memory cgroup of its own, or the kernel does not count pressure (CONFIG_PSI, psi=1)",
        ) from None


def _follow(record: Record, interval: float, squeeze: pressure.Watch | None) -> None:
    pidfd = open_init(record)
    if pidfd < 0:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    watch = None
    try:
        watch = oom.Watch(record.cgroups)
        poll.register(watch.fd, watch.events)
    except OSError:
        pass  # no memory cgroup: statistics only
    if squeeze is not None:
        poll.register(squeeze.fd, squeeze.events)
    due = time.monotonic() + interval
    while True:
        ready = {fd for fd, _ in poll.poll(min(max(0.0, due - time.monotonic()), _DAY) * 1000)}
        if watch is not None and watch.fd in ready:
            for _ in watch.pending():
                _print(record, "oom", None)
            if watch.gone:
                return
        if squeeze is not None and squeeze.fd in ready and squeeze.pending():
            _print(record, "pressure", {"level": squeeze.level})
        if pidfd in ready:
            return
        if time.monotonic() >= due:
            _print(record, "stats", _stats(record))
            due = time.monotonic() + interval


def _stats(record: Record) -> dict[str, Any]:
    config: Any = fastjson.loads(read_file(record.path(store.CONFIG)))
    given = (config.get("linux") or {}).get("intelRdt")
    return {**stats.read(record.cgroups), "intel_rdt": rdt_stats.read(given, record.id)}


def _print(record: Record, kind: str, data: dict[str, Any] | None) -> None:
    event: dict[str, Any] = {"type": kind, "id": record.id}
    if data is not None:
        event["data"] = data
    write_output(fastjson.dumps(event) + "\n")


def seconds(text: str) -> float:
    """A time as Go writes it, 1m30s, in seconds. Raises UsageError."""
    rest, total = text, 0.0
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = next((u for u in _UNITS if rest[digits:].startswith(u[0])), None)
        try:
            total += float(rest[:digits]) * unit[1]  # type: ignore[index]
        except (ValueError, TypeError):
            raise UsageError(f"--interval: {text!r} is no time", hint="write it as 5s or 500ms") from None
        rest = rest[digits + len(unit[0]) :]  # type: ignore[index]
    return total
