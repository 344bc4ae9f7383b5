"""The lifecycle of containers: the requests Create, Start, Exec and Delete, and the exits of processes.

Slow operations run in a child (children.py). Events and responses keep the order that containerd relies on: the
start of a process before its exit, and the exit of init last.
"""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import kill as cgroup_kill
from pyruntime.commands.forked import COMMANDS
from pyruntime.errors import NotFound, PyruntimeError, StateError, from_oserror
from pyruntime.kernel.constants import SIGKILL
from pyruntime.shim import bundle_path, console, oom_watch, operations, runtime_options, task_start, ttrpc
from pyruntime.shim.children import ChildDied, Children
from pyruntime.shim.containers import CREATED, RUNNING, STOPPED, Container, Process
from pyruntime.shim.event_loop import Loop
from pyruntime.shim.events import Publisher, timestamp
from pyruntime.shim.prefork import Prefork
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

# Timeouts of children, hooks included: after that the child is killed and the request fails.
_CREATE_SECONDS = 120.0
_SECONDS = 60.0
IMAGES_SECONDS = 600.0  # the memory of the container is written or read
_LAST_EXITS_SECONDS = 10.0
_MOST_KILLS, _KILL_AGAIN_SECONDS = 20, 0.5  # retries to kill the processes left after init, on EMFILE
_MAX_PREFORKS = 4  # per container: a client may call Exec without Start


class Refusal(Exception):
    """An error response. code: a gRPC status code of ttrpc.py; text: the message."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Lifecycle:
    """The containers of a shim, and the requests that create and delete them.

    by_pid:      pid -> process that has not been reaped.
    early_exits: pid -> exit status of children that were reaped before their process was known.
    prefork:     a child that has planned a container; prefork_for: the container's id, bundle and options."""

    def __init__(self, loop: Loop, namespace: Namespace, publisher: Publisher, warn: Callable[[str], None]) -> None:
        self.loop = loop
        self.namespace = namespace
        self.publisher = publisher
        self.children = Children(loop, warn)
        self.containers: dict[str, Container] = {}
        self.by_pid: dict[int, Process] = {}
        self.early_exits: dict[int, int] = {}
        self.prefork: Prefork | None = None
        self.prefork_for: tuple[str, str, Options] = "", "", {}
        self.shutdown: Callable[[], None] = loop.stop

    # Look up the container or process of a request.

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

    # Requests and exits.

    def create(self, request: CreateTaskRequest, reply: Reply) -> None:
        """Create the container, or mount the root filesystem of one to restore."""
        id, bundle = _checked(ContainerId, request["id"]), request["bundle"]
        if id in self.containers:
            raise Refusal(ttrpc.EXISTS, f"container {id}")
        _check(bundle_path.check_bundle, bundle)
        chosen = runtime_options.options(request["options"])
        made = runtime_options.settings(self.namespace, chosen)
        container = Container(id, bundle, made, [one["type"] for one in request["rootfs"]])
        container.owner = chosen["io_uid"], chosen["io_gid"]
        container.indirect = console.is_labelled(bundle)
        stdio = self._streams(request)
        init = container.init = Process(container, "", stdio)
        init.busy = True
        runtime_options.note(bundle, made, mounted=bool(container.mounts))
        taken = store.exists(made.root, id)  # do not remove a container of the same name that existed before
        self.containers[id] = container

        def failed(error: PyruntimeError) -> None:
            self.containers.pop(id, None)
            stdio.close()
            if isinstance(error, ChildDied) and not taken:
                gone = {"bundle": bundle, "types": container.mounts, "force": True}
                self.run_child("delete", operations.delete, init, lambda value, error: None, **gone)
            reply.fail(ttrpc.UNKNOWN, f"OCI runtime create failed: {error}")

        def done(value: Any, error: PyruntimeError | None) -> None:
            if error is not None:
                failed(error)
                return
            if not container.restoring and not self._made(container, value["pid"], failed):
                return
            io = {"stdin": stdio.stdin, "stdout": stdio.stdout, "stderr": stdio.stderr, "terminal": stdio.terminal}
            event = {"container_id": id, "bundle": bundle, "rootfs": request["rootfs"], "io": io, "pid": init.pid}
            self.publisher.publish("/tasks/create", "TaskCreate", {**event, "checkpoint": request["checkpoint"]})
            reply.send("PidResponse", {"pid": init.pid})
            init.busy = False
            self._publish_exits(container)

        if request["checkpoint"]:
            self._cancel_prefork()
            container.restoring = {"path": request["checkpoint"], "logs": chosen["criu_work_path"], **_flags(chosen)}
            self.run_child("create", operations.mount, init, done, mounts=request["rootfs"], bundle=bundle)
            return
        arguments = {"mounts": request["rootfs"], "bundle": bundle, **_flags(chosen)}
        self._spawn(init, "create", operations.create, failed, done, arguments, self._take_prefork(id, bundle, chosen))

    def _streams(self, request: CreateTaskRequest | ExecProcessRequest) -> Stdio:
        words = request["stdin"], request["stdout"], request["stderr"], request["terminal"]
        return Stdio(self.loop, *words, warn=self.children.warn)

    def prepare(self, id: ContainerId, bundle: str, chosen: Options) -> None:
        """Fork a child that plans the container before Create is received."""
        made = runtime_options.settings(self.namespace, chosen)
        try:
            self.prefork = self.children.prepare(
                "create", operations.create_preforked, made, id, bundle=bundle, **_flags(chosen)
            )
        except OSError:
            return  # Create tries again, and reports it
        self.prefork_for = id, bundle, chosen

    def _take_prefork(self, id: str, bundle: str, chosen: Options) -> Prefork | None:
        if self.prefork_for != (id, bundle, chosen):
            self._cancel_prefork()
        prefork, self.prefork = self.prefork, None
        return prefork

    def _cancel_prefork(self) -> None:
        if self.prefork is not None:
            self.prefork.cancel()
            self.prefork = None

    def _spawn(
        self,
        process: Process,
        name: str,
        function: Callable[..., object],
        failed: Callable[[PyruntimeError], None],
        done: Callable[[object, PyruntimeError | None], None],
        arguments: dict[str, Any],
        prefork: Prefork | None = None,
    ) -> None:
        """Open the streams of a process, and spawn it from a child: `prefork`, or a new one."""
        stdio, container = process.stdio, process.container
        seconds = {"create": _CREATE_SECONDS, "restore": IMAGES_SECONDS}.get(name, _SECONDS)
        if stdio.terminal:
            try:
                socket, theirs = console.pair()
            except OSError as error:
                if prefork is not None:
                    prefork.cancel()
                failed(from_oserror(error, doing="create a socket pair for the terminal"))
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
                self.children.run(name, function, container.settings, container.id, taken, seconds=seconds,
                                  console=theirs.fileno(), spawns=True, prefork=prefork, **arguments)  # fmt: skip
            finally:
                theirs.close()
            return

        def ready(error: PyruntimeError | None) -> None:
            if error is not None:
                if prefork is not None:
                    prefork.cancel()
                failed(error)
                return
            self.children.run(name, function, container.settings, container.id, done, seconds=seconds,
                              stdio=tuple(stdio.fds), spawns=True, prefork=prefork, **arguments)  # fmt: skip
            stdio.passed()

        names = container.id, self.namespace
        stdio.open(ready, indirect=container.indirect, owner=container.owner, names=names)

    def _undo(
        self, process: Process, pid: int, error: PyruntimeError, failed: Callable[[PyruntimeError], None]
    ) -> None:
        """Kill a process that the shim cannot serve, delete its container if it is init, then call failed."""
        process.stdio.close()  # deleting needs descriptors, and there may be none left
        if process.id:
            if self.early_exits.pop(pid, None) is None:
                posix.kill(pid, SIGKILL)  # not reaped, so the pid cannot have been reused
            failed(error)
            return
        container = process.container
        types = [] if container.restoring else container.mounts
        gone = {"bundle": container.bundle, "types": types, "force": True}

        def removed(value: object, left: PyruntimeError | None) -> None:
            if left is not None:
                self.children.warn(f"cannot delete container {container.id} after a failed create: {left}")
            failed(error)

        self.run_child("delete", operations.delete, process, removed, **gone)

    def run_child(
        self,
        name: str,
        function: Callable[..., object],
        process: Process,
        done: Callable[[object, PyruntimeError | None], None],
        **arguments: Any,
    ) -> None:
        container = process.container
        self.children.run(name, function, container.settings, container.id, done, seconds=_SECONDS, **arguments)

    def _made(self, container: Container, pid: int, failed: Callable[[PyruntimeError], None]) -> bool:
        """Load the record of a created container. Return False if that fails: it is deleted and failed called."""
        try:
            container.record = store.load(container.settings.root, container.id)
        except (OSError, PyruntimeError) as error:
            self._undo(container.init, pid, _as_error(error, "read the record of the container"), failed)
            return False
        self._spawned(container.init, pid)
        event = {"container_id": container.id}
        killed = lambda: self.publisher.publish("/tasks/oom", "TaskOOM", event)  # noqa: E731
        oom_watch.watch(self.loop, container, killed, self.children.warn)
        return True

    def _spawned(self, process: Process, pid: int) -> None:
        process.pid = pid
        if pid in self.early_exits:
            process.ended(self.early_exits.pop(pid))
        else:
            self.by_pid[pid] = process

    def start(self, request: ProcessRequest, reply: Reply) -> None:
        """Start the user process of a created container, or the process of an exec."""
        process = self.process(request)
        container = process.container
        if process.status != CREATED or process.busy:
            raise Refusal(ttrpc.PRECONDITION, f"cannot start {process.name()}: already started")
        if process.id and container.init.exit is not None:
            raise Refusal(ttrpc.PRECONDITION, f"cannot exec in a stopped container: {container.id}")
        process.busy = True

        def failed(error: PyruntimeError) -> None:
            process.busy = False
            if process.id:
                process.stdio.close()
            doing = "exec" if process.id else "restore" if container.restoring else "start"
            reply.fail(ttrpc.UNKNOWN, f"OCI runtime {doing} failed: {error}")
            self._publish_exits(container)

        def done(value: Any, error: PyruntimeError | None) -> None:
            if error is not None:
                failed(error)
                return
            if process.id:
                self._spawned(process, value["pid"])
            elif container.restoring:
                if not self._made(container, value["pid"], failed):
                    return
                container.restoring = {}
            process.status = RUNNING
            event: dict[str, object] = {"container_id": container.id, "pid": process.pid}
            if process.id:
                event["exec_id"] = process.id
                self.publisher.publish("/tasks/exec-started", "TaskExecStarted", event)
            else:
                self.publisher.publish("/tasks/start", "TaskStart", event)
            reply.send("PidResponse", {"pid": process.pid})
            process.busy = False
            self._publish_exits(container)

        if process.id:
            prefork, process.prefork = process.prefork, None
            self._spawn(process, "exec", COMMANDS["exec"], failed, done, {"process": process.spec}, prefork)
        elif container.restoring:
            from pyruntime.shim import checkpoint_images  # few containers are

            arguments = {"bundle": container.bundle, **container.restoring}
            self._spawn(process, "restore", checkpoint_images.restore, failed, done, arguments)
        elif not task_start.open_exec_fifo(self.loop, record_of(container), _SECONDS, done):
            self.run_child("start", COMMANDS["start"], process, done)

    def exec(self, request: ExecProcessRequest, reply: Reply) -> None:
        """Register the process of an exec, which Start runs."""
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
        """Fork a child that plans the process of an exec before Start is received."""
        container = process.container
        if sum(one.prefork is not None for one in container.execs.values()) >= _MAX_PREFORKS:
            return
        try:
            made, spec = container.settings, process.spec
            process.prefork = self.children.prepare("exec", operations.exec_preforked, made, container.id, process=spec)
        except OSError:
            return  # Start tries again, and reports it

    def delete(self, request: ProcessRequest, reply: Reply) -> None:
        """Delete a stopped process, and with init the container."""
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
            for one in process.waiting:  # Wait for a process that was never started
                one.fail(ttrpc.NOT_FOUND, f"{process.name()} is deleted")
            process.waiting.clear()
            if process.id:
                process.cancel_prefork()
                container.execs.pop(process.id, None)
            else:
                self.containers.pop(container.id, None)
                oom_watch.unwatch(self.loop, container)
                event = {"container_id": container.id, **gone}
                self.publisher.publish("/tasks/delete", "TaskDelete", event)
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
        self.run_child("delete", operations.delete, process, done, **arguments)

    def reap(self) -> None:
        """Reap all children that have exited, and publish the exits of processes."""
        touched = {}
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid in self.children.pids:
                self.children.pids.remove(pid)
                continue
            code = posix.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code
            process = self.by_pid.pop(pid, None)
            if process is not None:
                process.ended(code)
                touched[process.container.id] = process.container
            elif self.children.spawning:
                self.early_exits[pid] = code
        if not self.children.spawning:
            self.early_exits.clear()
        for container in touched.values():
            self._publish_exits(container)

    def _publish_exits(self, container: Container) -> None:
        """Publish pending exits: each after its start, and that of init after all others."""
        for process in container.execs.values():
            if process.exit and not process.published and not process.busy:
                self._publish_exit(process)
        init = container.init
        if init.exit is None or init.published or init.busy:
            return
        for process in container.execs.values():
            process.cancel_prefork()  # it holds the container's namespaces
        record = container.record
        if record is not None and not record.private_pid:
            # Without a pid namespace of its own, the other processes outlive init.
            try:
                cgroup_kill.signal_all(cgroup_identity.own(record), SIGKILL)
            except OSError as error:  # EMFILE
                if container.kills < _MOST_KILLS:
                    container.kills += 1
                    self.loop.later(_KILL_AGAIN_SECONDS, lambda: self._publish_exits(container))
                    return
                self.children.warn(f"cannot kill the remaining processes of container {container.id}: {error}")
        left = [
            process for process in container.execs.values() if process.busy or (process.pid and not process.published)
        ]
        if not left:
            self._publish_exit(init)
            return
        self.loop.later(_LAST_EXITS_SECONDS, lambda: None if init.published else self._publish_exit(init))

    def _publish_exit(self, process: Process) -> None:
        assert process.exit is not None
        process.published = True
        process.status = STOPPED
        status, at = process.exit
        ended = {"exit_status": status, "exited_at": timestamp(at)}
        event = {"container_id": process.container.id, "id": process.name(), "pid": process.pid, **ended}
        self.publisher.publish("/tasks/exit", "TaskExit", event)
        waiting, process.waiting = process.waiting, []
        for reply in waiting:
            reply.send("WaitResponse", ended)


def _as_error(error: OSError | PyruntimeError, doing: str) -> PyruntimeError:
    return error if isinstance(error, PyruntimeError) else from_oserror(error, doing=doing)


def record_of(container: Container) -> Record:
    """Return the state record of a container. Raises Refusal before it is restored."""
    if container.record is None:
        raise Refusal(ttrpc.PRECONDITION, f"container {container.id} is not restored yet")
    return container.record


def _check(check: Callable[..., None], *words: str) -> None:
    """Run a check, and raise Refusal with its error."""
    try:
        check(*words)
    except PyruntimeError as error:
        raise Refusal(ttrpc.INVALID, str(error)) from None


def _checked(kind: type[_Id], text: str) -> _Id:
    """Return an id of a request as its checked type. Raises Refusal."""
    try:
        return kind(text)
    except StateError as error:
        raise Refusal(ttrpc.INVALID, str(error)) from None


def _flags(chosen: Options) -> dict[str, object]:
    """Return the options that are flags of `create`."""
    return {"pivot": not chosen["no_pivot_root"], "new_keyring": not chosen["no_new_keyring"]}
