"""Actors: what steps act on, as Protocols. Types only: nothing imports this module at run time.

    StepActor ─┬─ CgroupActor ─── ParentActor     runtime/parent.py, runtime/exec.py, criu/restore.py
               │       └─ also: the updater of `update` (features/cgroups/update.py)
               ├─ HookActor                       any actor that runs hooks; features/hooks.py has one of its own
               └─ InitActor ───── EntrantActor    runtime/init.py; runtime/exec.py

A step function takes the smallest of them that has what it needs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import NoReturn, Protocol

    from pyruntime.plan.request import Request
    from pyruntime.plan.step import Step
    from pyruntime.state.store import Record
    from pyruntime.util.log import Log

    class StepActor(Protocol):
        """What `plan.step.execute` needs of any actor. trace: called before each step, with --debug."""

        trace: Callable[[Step], None] | None

    class CgroupActor(StepActor, Protocol):
        """An actor whose steps write control files of its record's cgroups: the parent, or the updater of `update`."""

        record: Record

        @property
        def warn(self) -> Callable[[str], None]:
            """Log a warning."""

    class HookActor(StepActor, Protocol):
        """An actor that runs hooks. record: None in init, which leaves the record to the parent."""

        @property
        def record(self) -> Record | None:
            """The container's record."""

        def oci_state(self, status: str) -> dict[str, object]:
            """Return the state that a hook reads from its standard input (runtime-spec runtime.md, "State")."""

    class HasPid(Protocol):
        """A process by its pid."""

        pid: int

    class ParentActor(CgroupActor, Protocol):
        """The parent of init, or of the process that `exec` adds.

        pid, pidfd:       of init, or of that process; 0 and -1 before the clone.
        cgroup_tasks:     descriptors of the files by which the child enters its cgroups.
        cgroup_directory: the cgroup2 cgroup to clone into, or None."""

        pid: int
        pidfd: int
        cgroup_tasks: list[int]
        cgroup_directory: int | None
        log: Log

        @property
        def request(self) -> Request:
            """What the plan was made from."""

    class Socket(Protocol):
        """What a step may know of the sync socket."""

        def fileno(self) -> int:
            """Return the descriptor."""

    class SpawnedProcess(Protocol):
        """What steps leave to the process that executes the program (runtime/spawn.py)."""

        terminal: bool
        in_python: bool
        keep: int
        limit: tuple[int, int] | None
        filter: bytes | None
        filter_flags: int
        capabilities: tuple[int, int, int] | None

        def execute(self, program: str, args: list[str], environment: dict[str, str], channel: int, /) -> NoReturn:
            """Clone the process that executes the program, and end."""

    class InitActor(StepActor, Protocol):
        """Init, or the child that `exec` clones. The attributes are described in runtime/init.py."""

        cgroup_tasks: list[int]
        cwd_pending: bool
        dev_fd: int
        empty_fd: int
        environment: dict[str, str]
        failure: int
        fifo: int
        late: dict[str, int]
        mounted: dict[str, int]
        proc_contexts: list[int]
        proc_fd: int
        program: str
        root_fd: int
        rootfs: str
        setgroups_denied: bool

        @property
        def channel(self) -> Socket:
            """The sync socket."""

        @property
        def console(self) -> socket | None:
            """The connection to the console socket, or None."""

        @property
        def spawn(self) -> SpawnedProcess | None:
            """The process that executes the program; None when this one does."""

        def warn(self, text: str) -> None:
            """Log a warning, through the parent."""

        def ask_parent(self, wanted: dict[str, object]) -> int:
            """Have the parent open what init may not (features/rootfs/sources.py). Return a descriptor."""

        def close_descriptors(self, first: int) -> None:
            """Mark everything from `first` on close-on-exec."""

    class TargetProcess(Protocol):
        """The init of a container that a process joins (features/namespaces/target.py)."""

        pidfd: int
        root: int
        root_ids: tuple[int, int]
        setgroups_denied: bool

        def flags(self) -> int:
            """Return CLONE_NEW* of the namespaces to join."""

    class EntrantActor(InitActor, Protocol):
        """The child that `exec` clones."""

        @property
        def target(self) -> TargetProcess:
            """The init of the container."""

    class HasSteps(Protocol):
        """A plan, of a new container or of a process that joins one: phase -> steps."""

        steps: dict[str, list[Step]]

    class PlannedActor(ParentActor, Protocol):
        """A parent that carries out a whole plan."""

        @property
        def plan(self) -> HasSteps:
            """The plan."""

    class Recorder(Protocol):
        """What executes steps in place of `plan.step.execute` with --trace (trace/recorder.py).

        spool: the descriptor that init writes its times to; -1 without."""

        spool: int

        def before_clone(
            self, parent: PlannedActor, phases: tuple[str, ...], directory: str = "", target: int = 0
        ) -> None:
            """Make the spool. phases: init's, in order. target: the pid of the container that `exec` joins."""

        def in_child(self) -> int:
            """Become the recorder of init: the descriptor that init keeps until its execve."""

        def do(self, step: Step, actor: StepActor) -> None:
            """Execute a step, and note when it began and ended."""
