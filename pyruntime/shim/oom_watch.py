"""Watch the OOM kills of running containers (cgroupfs/oom.py)."""

from __future__ import annotations

from pyruntime.cgroupfs import oom
from pyruntime.shim.event_loop import READ, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime.shim.containers import Container


def watch(loop: Loop, container: Container, killed: Callable[[], None], warn: Callable[[str], None]) -> None:
    """Call `killed` for each OOM kill in a container, until `unwatch` or until its cgroup is removed."""
    assert container.record is not None
    try:
        made = oom.Watch(container.record.cgroups)
    except FileNotFoundError:
        return  # no memory cgroup
    except OSError as error:
        warn(f"cannot watch OOM kills of container {container.id}: {error}")
        return

    def ready(events: int) -> None:
        for _ in made.pending():
            killed()
        if made.gone:
            unwatch(loop, container)

    container.oom_watch = made
    loop.watch(made.fd, made.events if made.v2 else READ, ready)


def unwatch(loop: Loop, container: Container) -> None:
    """Stop watching."""
    if container.oom_watch is not None:
        loop.forget(container.oom_watch.fd)
        container.oom_watch.close()
        container.oom_watch = None
