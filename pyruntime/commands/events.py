"""events: what a container uses, again and again, and its OOM kills."""

from __future__ import annotations

import select
import time

from pyruntime.cgroupfs import oom, pressure, stats
from pyruntime.errors import StateError, strerror
from pyruntime.features.rdt import stats as rdt_stats
from pyruntime.state import store
from pyruntime.state.status import open_init, status_of
from pyruntime.util import fastjson
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.spec.sections import Config
    from pyruntime.state.store import Record
    from pyruntime.util.ids import ContainerId

_DAY = 86400.0  # poll(2) takes less than a month at once


def find(root: str, id: ContainerId) -> Record:
    """Return the record of a container that has not stopped. Raises StateError."""
    record = store.load(root, id)
    if status_of(record) == "stopped":
        raise StateError(f"container not running: {record.id} is stopped")
    return record


def statistics(record: Record) -> dict[str, object]:
    """Return an event of type "stats": what the container uses now."""
    config: Config = fastjson.loads(read_file(record.path(store.CONFIG)))
    given = (config.get("linux") or {}).get("intelRdt")
    return _event(record, "stats", {**stats.read(record.cgroups), "intel_rdt": rdt_stats.read(given, record.id)})


def follow(record: Record, interval: float, level: str = "") -> Iterator[dict[str, object]]:
    """Yield statistics every `interval` seconds, and an event for each OOM kill, until the container stops.

    level: of memory pressure (pressure.LEVELS), from which on there is an event for it, too."""
    squeeze = _pressure(record, level) if level else None
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
                yield _event(record, "oom")
            if watch.gone:
                return
        if squeeze is not None and squeeze.fd in ready and squeeze.pending():
            yield _event(record, "pressure", {"level": squeeze.level})
        if pidfd in ready:
            return
        if time.monotonic() >= due:
            yield statistics(record)
            due = time.monotonic() + interval


def _pressure(record: Record, level: str) -> pressure.Watch:
    try:
        return pressure.Watch(record.cgroups, level)
    except OSError as error:
        raise StateError(
            f"cannot read the memory pressure of {record.id}: {strerror(error.errno)}",
            why="it has no memory cgroup of its own, or the kernel does not count pressure (CONFIG_PSI, psi=1)",
        ) from None


def _event(record: Record, kind: str, data: dict[str, object] | None = None) -> dict[str, object]:
    event: dict[str, object] = {"type": kind, "id": record.id}
    if data is not None:
        event["data"] = data
    return event
