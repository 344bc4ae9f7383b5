"""The processes that a shim serves: a container's first one, and those of exec."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cgroupfs.oom import Watch
    from pyruntime.commands.settings import Settings
    from pyruntime.shim.standby import Spare
    from pyruntime.shim.stdio import Stdio
    from pyruntime.shim.ttrpc import Reply
    from pyruntime.state.store import Record
    from pyruntime.util.ids import ContainerId

CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4


class Process:
    """One process.

    id:       of the exec, "" for the container's first.
    pid:      on the host, 0 before it lives.
    status:   CREATED, RUNNING or STOPPED; whether it is paused is asked of the kernel.
    busy:     a child is at work on it: its exit must wait until that is told.
    spare:    a child that has planned it already (spare.py), if there is one.
    exit:     (exit status, time in ns) once it was reaped; told: whether the world knows of it.
    waiting:  who asked for its end."""

    def __init__(self, container: Container, id: str, stdio: Stdio, spec: dict[str, object] | None = None) -> None:
        self.container = container
        self.id = id
        self.stdio = stdio
        self.spec = spec
        self.pid = 0
        self.status = CREATED
        self.busy = False
        self.spare: Spare | None = None
        self.exit: tuple[int, int] | None = None
        self.told = False
        self.waiting: list[Reply] = []

    def ended(self, status: int) -> None:
        """It was reaped with a status of wait(2), as an exit status: 128 + N for signal N."""
        self.exit = status, time.time_ns()

    def drop_spare(self) -> None:
        """Nobody will start it, or not soon."""
        if self.spare is not None:
            self.spare.dismiss()
            self.spare = None

    def name(self) -> str:
        """How events call it."""
        return self.id or self.container.id


class Container:
    """A container of this shim.

    init: its first process. execs: exec id -> process. record: the runtime's, once it is created.
    mounts: the types of what the shim has mounted for its root filesystem. restoring: what Start will restore it from
    (arguments of images.restore), {} when it is created otherwise, or once that is done."""

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
        self.kills = 0  # of what init has left behind, that have failed

    def processes(self) -> list[Process]:
        """All of them, init last."""
        return [*self.execs.values(), self.init]
