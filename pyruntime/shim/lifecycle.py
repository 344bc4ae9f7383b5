"""The life of a shim's containers: Create, Start, Exec, Delete, and the ends that nobody asks for.

What takes time is done in a child (jobs.py). Events and answers come in the order that containerd relies on: a start
before its exit, init's exit as the last one.
"""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import kill as cgroup_kill
from pyruntime.commands.forked import COMMANDS
from pyruntime.errors import NotFound, PyruntimeError, StateError, from_oserror
from pyruntime.shim import bundle_path, child_work, console, memory, settings, task_start, ttrpc
from pyruntime.shim.children import Jobs, Lost
from pyruntime.shim.event_loop import Loop
from pyruntime.shim.events import Publisher, timestamp
from pyruntime.shim.processes import CREATED, RUNNING, STOPPED, Container, Process
from pyruntime.shim.standby import Spare
from pyruntime.shim.stdio import Stdio
from pyruntime.state import cgroup_identity, store
from pyruntime.util import fastjson
from pyruntime.util.ids import ContainerId, ExecId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pyruntime.shim.message_types import (
        ContainerRequest,
        CreateTaskRequest,
        ExecProcessRequest,
        Options,
        ProcessRequest,
    )
    from pyruntime.shim.ttrpc import Reply
    from pyruntime.state.store import Record
    from pyruntime.util.ids import Namespace

    _Id = TypeVar("_Id", ContainerId, ExecId)

_SIGKILL = 9
# How long a child may be at work, hooks and all, before it is killed and the request fails.
_CREATE_SECONDS = 120.0
_SECONDS = 60.0
IMAGES_SECONDS = 600.0  # all of a container's memory is written, or read
_LAST_EXITS_SECONDS = 10.0
_MOST_KILLS, _KILL_AGAIN_SECONDS = 20, 0.5  # of what init leaves behind, while the shim is out of descriptors
_SPARE_EXECS = 4  # at most, in a container, of a client that asks for Exec and not for Start


class Refusal(Exception):
    """A request that cannot be served: code of ttrpc.py, which says of what kind it is, and words."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Lives:
    """The containers of a shim, and the requests that begin and end them.

    orphans: pid -> exit status of children that were reaped before it was known whose they are.
    spare: a child that has planned a container already; spare_for: that one's id, bundle and options."""

    def __init__(self, loop: Loop, namespace: Namespace, publisher: Publisher, warn: Callable[[str], None]) -> None:
        self.loop = loop
        self.namespace = namespace
        self.publisher = publisher
        self.jobs = Jobs(loop, warn)
        self.containers: dict[str, Container] = {}
        self.living: dict[int, Process] = {}
        self.orphans: dict[int, int] = {}
        self.spare: Spare | None = None
        self.spare_for: tuple[str, str, Options] = "", "", {}
        self.shutdown: Callable[[], None] = loop.stop

    # Whom a request is about.

    def container(self, request: ContainerRequest) -> Container:
        found = self.containers.get(request["id"])
        if found is None:
            raise Refusal(ttrpc.NOT_FOUND, f"container {request['id']} in this shim")
        if found.record is None and not found.restoring:
            raise Refusal(ttrpc.PRECONDITION, f"container {request['id']} is being created")
        return found

    def process(self, request: ProcessRequest) -> Process:
        container = self.container(request)
        if not request["exec_id"]:
            return container.init
        found = container.execs.get(request["exec_id"])
        if found is None:
            raise Refusal(ttrpc.NOT_FOUND, f"exec {request['exec_id']} of container {container.id}")
        return found

    # The life of processes.

    def create(self, request: CreateTaskRequest, reply: Reply) -> None:
        """Create: the container, up to the gate; of one that is to be restored, the root filesystem."""
        id, bundle = _checked(ContainerId, request["id"]), request["bundle"]
        if id in self.containers:
            raise Refusal(ttrpc.EXISTS, f"container {id}")
        _check(bundle_path.check_bundle, bundle)
        chosen = settings.options(request["options"])
        made = settings.settings(self.namespace, chosen)
        container = Container(id, bundle, made, [one["type"] for one in request["rootfs"]])
        container.owner = chosen["io_uid"], chosen["io_gid"]
        container.indirect = console.is_labelled(bundle)
        stdio = self._streams(request)
        init = container.init = Process(container, "", stdio)
        init.busy = True
        settings.note(bundle, made, mounted=bool(container.mounts))
        taken = store.exists(made.root, id)  # somebody else's of the same name is not ours to remove
        self.containers[id] = container

        def failed(error: PyruntimeError) -> None:
            self.containers.pop(id, None)
            stdio.close()
            if isinstance(error, Lost) and not taken:
                gone = {"bundle": bundle, "types": container.mounts, "force": True}
                self.run_child("delete", child_work.delete, init, lambda value, error: None, **gone)
            reply.fail(ttrpc.UNKNOWN, f"OCI runtime create failed: {error}")

        def done(value: Any, error: PyruntimeError | None) -> None:
            if error is not None:
                failed(error)
                return
            if not container.restoring and not self._made(container, value["pid"], failed):
                return
            io = {"stdin": stdio.stdin, "stdout": stdio.stdout, "stderr": stdio.stderr, "terminal": stdio.terminal}
            told = {"container_id": id, "bundle": bundle, "rootfs": request["rootfs"], "io": io, "pid": init.pid}
            self.publisher.publish("/tasks/create", "TaskCreate", {**told, "checkpoint": request["checkpoint"]})
            reply.send("PidResponse", {"pid": init.pid})
            init.busy = False
            self._settle(container)

        if request["checkpoint"]:
            self._drop_spare()
            container.restoring = {"path": request["checkpoint"], "logs": chosen["criu_work_path"], **_flags(chosen)}
            self.run_child("create", child_work.mount, init, done, mounts=request["rootfs"], bundle=bundle)
            return
        arguments = {"mounts": request["rootfs"], "bundle": bundle, **_flags(chosen)}
        self._bear(init, "create", child_work.create, failed, done, arguments, self._take_spare(id, bundle, chosen))

    def _streams(self, request: CreateTaskRequest | ExecProcessRequest) -> Stdio:
        words = request["stdin"], request["stdout"], request["stderr"], request["terminal"]
        return Stdio(self.loop, *words, warn=self.jobs.warn)

    def prepare(self, id: ContainerId, bundle: str, chosen: Options) -> None:
        """Let a child plan the container that will be asked for next."""
        made = settings.settings(self.namespace, chosen)
        try:
            self.spare = self.jobs.prepare(
                "create", child_work.create_when_told, made, id, bundle=bundle, **_flags(chosen)
            )
        except OSError:
            return  # Create tries again, and reports it
        self.spare_for = id, bundle, chosen

    def _take_spare(self, id: str, bundle: str, chosen: Options) -> Spare | None:
        if self.spare_for != (id, bundle, chosen):
            self._drop_spare()
        spare, self.spare = self.spare, None
        return spare

    def _drop_spare(self) -> None:
        if self.spare is not None:
            self.spare.dismiss()
            self.spare = None

    def _bear(
        self,
        process: Process,
        name: str,
        function: Callable[..., object],
        failed: Callable[[PyruntimeError], None],
        done: Callable[[object, PyruntimeError | None], None],
        arguments: dict[str, Any],
        spare: Spare | None = None,
    ) -> None:
        """Open a process's streams, and let a child bring it to life, the spare one if there is one."""
        stdio, container = process.stdio, process.container
        seconds = {"create": _CREATE_SECONDS, "restore": IMAGES_SECONDS}.get(name, _SECONDS)
        if stdio.terminal:
            try:
                socket, theirs = console.pair()
            except OSError as error:
                if spare is not None:
                    spare.dismiss()
                failed(from_oserror(error, doing="make a pair of sockets for the terminal"))
                return

            def taken(value: Any, error: PyruntimeError | None) -> None:
                lost: PyruntimeError | None = None
                try:
                    if error is None:
                        stdio.attach(console.receive(socket))
                except (OSError, PyruntimeError) as raised:
                    lost = _as_error(raised, "serve the terminal of the process")
                socket.close()
                if lost is None:
                    done(value, error)
                else:
                    self._undo(process, value["pid"], lost, failed)

            try:
                self.jobs.run(name, function, container.settings, container.id, taken, seconds=seconds,
                              console=theirs.fileno(), birth=True, spare=spare, **arguments)  # fmt: skip
            finally:
                theirs.close()
            return

        def ready(error: PyruntimeError | None) -> None:
            if error is not None:
                if spare is not None:
                    spare.dismiss()
                failed(error)
                return
            self.jobs.run(name, function, container.settings, container.id, done, seconds=seconds,
                          stdio=tuple(stdio.fds), birth=True, spare=spare, **arguments)  # fmt: skip
            stdio.passed()

        who = container.id, self.namespace
        stdio.open(ready, indirect=container.indirect, owner=container.owner, names=who)

    def _undo(
        self, process: Process, pid: int, error: PyruntimeError, failed: Callable[[PyruntimeError], None]
    ) -> None:
        """A child has made a process, and the shim cannot keep it: away with it, then call failed with the error."""
        process.stdio.close()  # its descriptors may be the ones that are missing
        if process.id:
            if self.orphans.pop(pid, None) is None:
                posix.kill(pid, _SIGKILL)  # not reaped, so it is still its pid
            failed(error)
            return
        container = process.container
        types = [] if container.restoring else container.mounts
        gone = {"bundle": container.bundle, "types": types, "force": True}

        def removed(value: object, left: PyruntimeError | None) -> None:
            if left is not None:
                self.jobs.warn(f"container {container.id} could not be created, nor removed: {left}")
            failed(error)

        self.run_child("delete", child_work.delete, process, removed, **gone)

    def run_child(
        self,
        name: str,
        function: Callable[..., object],
        process: Process,
        done: Callable[[object, PyruntimeError | None], None],
        **arguments: Any,
    ) -> None:
        container = process.container
        self.jobs.run(name, function, container.settings, container.id, done, seconds=_SECONDS, **arguments)

    def _made(self, container: Container, pid: int, failed: Callable[[PyruntimeError], None]) -> bool:
        """A container exists, and its init. False if its record cannot be read: it is removed, and failed called."""
        try:
            container.record = store.load(container.settings.root, container.id)
        except (OSError, PyruntimeError) as error:
            self._undo(container.init, pid, _as_error(error, "read the record of the container"), failed)
            return False
        self._born(container.init, pid)
        told = {"container_id": container.id}
        killed = lambda: self.publisher.publish("/tasks/oom", "TaskOOM", told)  # noqa: E731
        memory.watch(self.loop, container, killed, self.jobs.warn)
        return True

    def _born(self, process: Process, pid: int) -> None:
        process.pid = pid
        if pid in self.orphans:
            process.ended(self.orphans.pop(pid))
        else:
            self.living[pid] = process

    def start(self, request: ProcessRequest, reply: Reply) -> None:
        """Start: the user's process of a created container, or an exec's process."""
        process = self.process(request)
        container = process.container
        if process.status != CREATED or process.busy:
            raise Refusal(ttrpc.PRECONDITION, f"cannot start {process.name()}: it was started before")
        if process.id and container.init.exit is not None:
            raise Refusal(ttrpc.PRECONDITION, f"cannot exec in a stopped container: {container.id}")
        process.busy = True

        def failed(error: PyruntimeError) -> None:
            process.busy = False
            if process.id:
                process.stdio.close()
            doing = "exec" if process.id else "restore" if container.restoring else "start"
            reply.fail(ttrpc.UNKNOWN, f"OCI runtime {doing} failed: {error}")
            self._settle(container)

        def done(value: Any, error: PyruntimeError | None) -> None:
            if error is not None:
                failed(error)
                return
            if process.id:
                self._born(process, value["pid"])
            elif container.restoring:
                if not self._made(container, value["pid"], failed):
                    return
                container.restoring = {}
            process.status = RUNNING
            told: dict[str, object] = {"container_id": container.id, "pid": process.pid}
            if process.id:
                told["exec_id"] = process.id
                self.publisher.publish("/tasks/exec-started", "TaskExecStarted", told)
            else:
                self.publisher.publish("/tasks/start", "TaskStart", told)
            reply.send("PidResponse", {"pid": process.pid})
            process.busy = False
            self._settle(container)

        if process.id:
            spare, process.spare = process.spare, None
            self._bear(process, "exec", COMMANDS["exec"], failed, done, {"process": process.spec}, spare)
        elif container.restoring:
            from pyruntime.shim import checkpoint_images  # few containers are

            arguments = {"bundle": container.bundle, **container.restoring}
            self._bear(process, "restore", checkpoint_images.restore, failed, done, arguments)
        elif not task_start.open_gate(self.loop, record_of(container), _SECONDS, done):
            self.run_child("start", COMMANDS["start"], process, done)

    def exec(self, request: ExecProcessRequest, reply: Reply) -> None:
        """Exec: note a process that Start will run."""
        container = self.container(request)
        id = _checked(ExecId, request["exec_id"])
        if id in container.execs:
            raise Refusal(ttrpc.EXISTS, f"exec {id}")
        if container.init.exit is not None:
            raise Refusal(ttrpc.PRECONDITION, f"cannot exec in a stopped container: {container.id}")
        given = request["spec"]
        spec = fastjson.loads(given["value"].decode("utf-8", "surrogateescape")) if given is not None else None
        if not isinstance(spec, dict):
            raise Refusal(ttrpc.INVALID, f"exec {id}: spec is not a process object")
        spec["terminal"] = request["terminal"]
        stdio = self._streams(request)
        process = container.execs[id] = Process(container, id, stdio, spec)
        self.publisher.publish("/tasks/exec-added", "TaskExecAdded", {"container_id": container.id, "exec_id": id})
        reply.send("Empty", {})
        self._plan_ahead(process)

    def _plan_ahead(self, process: Process) -> None:
        """Let a child plan an exec's process, before Start asks for it."""
        container = process.container
        if sum(one.spare is not None for one in container.execs.values()) >= _SPARE_EXECS:
            return
        try:
            made, spec = container.settings, process.spec
            process.spare = self.jobs.prepare("exec", child_work.run_when_told, made, container.id, process=spec)
        except OSError:
            return  # Start tries again, and tells

    def delete(self, request: ProcessRequest, reply: Reply) -> None:
        """Delete: a process that has ended, and with init the container."""
        process = self.process(request)
        container = process.container
        if process.busy:
            raise Refusal(ttrpc.PRECONDITION, f"{process.name()} is busy")
        if process.status == RUNNING:
            raise Refusal(ttrpc.PRECONDITION, f"cannot delete a running process: {process.name()}")
        process.busy = True

        def answer() -> None:
            process.stdio.close()
            status, at = process.exit or (0, 0)
            gone = {"pid": process.pid, "exit_status": status, "exited_at": timestamp(at)}
            for one in process.waiting:  # for the end of a process that was never started
                one.fail(ttrpc.NOT_FOUND, f"{process.name()} is deleted")
            process.waiting.clear()
            if process.id:
                process.drop_spare()
                container.execs.pop(process.id, None)
            else:
                self.containers.pop(container.id, None)
                memory.unwatch(self.loop, container)
                told = {"container_id": container.id, **gone}
                self.publisher.publish("/tasks/delete", "TaskDelete", told)
            reply.send("DeleteResponse", gone)

        def done(value: Any, error: PyruntimeError | None) -> None:
            process.busy = False
            if error is not None and not isinstance(error, NotFound):
                reply.fail(ttrpc.UNKNOWN, f"OCI runtime delete failed: {error}")
                return
            process.stdio.when_drained(answer)

        if process.id:
            process.stdio.when_drained(answer)
            return
        arguments = {"bundle": container.bundle, "types": container.mounts, "force": process.status == CREATED}
        self.run_child("delete", child_work.delete, process, done, **arguments)

    def reap(self) -> None:
        """Children have ended: take their exit statuses, and tell of those that are known."""
        touched = {}
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid in self.jobs.pids:
                self.jobs.pids.remove(pid)
                continue
            code = posix.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code
            process = self.living.pop(pid, None)
            if process is not None:
                process.ended(code)
                touched[process.container.id] = process.container
            elif self.jobs.birthing:
                self.orphans[pid] = code
        if not self.jobs.birthing:
            self.orphans.clear()
        for container in touched.values():
            self._settle(container)

    def _settle(self, container: Container) -> None:
        """Tell of the ends that may be told: after their start, and init's after all others."""
        for process in container.execs.values():
            if process.exit and not process.told and not process.busy:
                self._tell_exit(process)
        init = container.init
        if init.exit is None or init.told or init.busy:
            return
        for process in container.execs.values():
            process.drop_spare()  # it holds the container's namespaces
        record = container.record
        if record is not None and not record.private_pid:
            # What init leaves behind does not die with it.
            try:
                cgroup_kill.signal_all(cgroup_identity.own(record), _SIGKILL)
            except OSError as error:  # EMFILE
                if container.kills < _MOST_KILLS:
                    container.kills += 1
                    self.loop.later(_KILL_AGAIN_SECONDS, lambda: self._settle(container))
                    return
                self.jobs.warn(f"processes of container {container.id} may have outlived it: {error}")
        left = [process for process in container.execs.values() if process.busy or (process.pid and not process.told)]
        if not left:
            self._tell_exit(init)
            return
        self.loop.later(_LAST_EXITS_SECONDS, lambda: None if init.told else self._tell_exit(init))

    def _tell_exit(self, process: Process) -> None:
        assert process.exit is not None
        process.told = True
        process.status = STOPPED
        status, at = process.exit
        told = {"exit_status": status, "exited_at": timestamp(at)}
        event = {"container_id": process.container.id, "id": process.name(), "pid": process.pid, **told}
        self.publisher.publish("/tasks/exit", "TaskExit", event)
        waiting, process.waiting = process.waiting, []
        for reply in waiting:
            reply.send("WaitResponse", told)


def _as_error(error: OSError | PyruntimeError, doing: str) -> PyruntimeError:
    return error if isinstance(error, PyruntimeError) else from_oserror(error, doing=doing)


def record_of(container: Container) -> Record:
    """The runtime's record of a container. Raises Refusal before it is restored."""
    if container.record is None:
        raise Refusal(ttrpc.PRECONDITION, f"container {container.id} is not restored yet")
    return container.record


def _check(check: Callable[..., None], *words: str) -> None:
    """Refuse a request for words that do not pass a check (names.py)."""
    try:
        check(*words)
    except PyruntimeError as error:
        raise Refusal(ttrpc.INVALID, str(error)) from None


def _checked(kind: type[_Id], text: str) -> _Id:
    """A name of a request, checked. Raises Refusal."""
    try:
        return kind(text)
    except StateError as error:
        raise Refusal(ttrpc.INVALID, str(error)) from None


def _flags(chosen: Options) -> dict[str, object]:
    """What of the options are flags of `create`."""
    return {"pivot": not chosen["no_pivot_root"], "new_keyring": not chosen["no_new_keyring"]}
