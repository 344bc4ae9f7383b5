"""Containers of a shim and their processes: init and those of exec."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cgroupfs.oom import Watch
    from pyruntime.commands.settings import Settings
    from pyruntime.shim.prefork import Prefork
    from pyruntime.shim.stdio import Stdio
    from pyruntime.shim.ttrpc import Reply
    from pyruntime.state.store import Record
    from pyruntime.util.ids import ContainerId

CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4


class Process:
    """A process.

    id:        exec id, "" for init.
    pid:       on the host, 0 before it is spawned.
    status:    CREATED, RUNNING or STOPPED; PAUSED is read from the freezer.
    busy:      a child operates on it: its exit is published after that.
    prefork:   a child that has planned it (prefork.py), or None.
    exit:      (exit status, time in ns after 1970) once it was reaped.
    published: whether TaskExit was sent.
    waiting:   replies to pending Wait requests."""

    def __init__(self, container: Container, id: str, stdio: Stdio, spec: dict[str, object] | None = None) -> None:
        self.container = container
        self.id = id
        self.stdio = stdio
        self.spec = spec
        self.pid = 0
        self.status = CREATED
        self.busy = False
        self.prefork: Prefork | None = None
        self.exit: tuple[int, int] | None = None
        self.published = False
        self.waiting: list[Reply] = []

    def ended(self, status: int) -> None:
        """Record the exit status, 128 + N for signal N, and the time."""
        self.exit = status, time.time_ns()

    def cancel_prefork(self) -> None:
        """Cancel the preforked child, if there is one."""
        if self.prefork is not None:
            self.prefork.cancel()
            self.prefork = None

    def name(self) -> str:
        """Return its id in events: the exec id, or the container id for init."""
        return self.id or self.container.id


class Container:
    """A container of this shim.

    execs:     exec id -> process.
    record:    its state record, None before it is created.
    mounts:    filesystem types of the mounts of its root filesystem.
    restoring: arguments of checkpoint_images.restore for Start; {} if it was created, or is restored."""

    def __init__(self, id: ContainerId, bundle: str, settings: Settings, mounts: list[str]) -> None:
        self.id = id
        self.bundle = bundle
        self.settings = settings
        self.mounts = mounts
        self.init: Process
        self.execs: dict[str, Process] = {}
        self.record: Record | None = None
        self.restoring: dict[str, object] = {}
        self.owner = 0, 0
        self.indirect = False
        self.oom_watch: Watch | None = None
        self.kills = 0  # failed attempts to kill the processes left after init

    def processes(self) -> list[Process]:
        """Return all processes, init last."""
        return [*self.execs.values(), self.init]
