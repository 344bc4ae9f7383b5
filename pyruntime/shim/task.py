"""The task service: what containerd asks of a shim, request by request (proto/task.proto).

A handler answers at once or later, and never waits. What takes time is done in a child (jobs.py); what only looks
or sends a signal is done here.
"""

from __future__ import annotations

import posix

from pyruntime import container as lifecycle
from pyruntime import fastjson, state
from pyruntime.cgroups import freezer, oom, processes
from pyruntime.cgroups import kill as cgroup_kill
from pyruntime.errors import NotFound, PyruntimeError
from pyruntime.operations import OPERATIONS
from pyruntime.shim import console, settings, ttrpc, wire, work
from pyruntime.shim.events import Publisher, timestamp
from pyruntime.shim.jobs import Jobs, Lost
from pyruntime.shim.loop import READ, Loop
from pyruntime.shim.process import CREATED, PAUSED, RUNNING, STOPPED, Container, Process
from pyruntime.shim.stdio import Stdio
from pyruntime.start import fifo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyruntime.shim.ttrpc import Reply

    Request = dict[str, Any]

SERVICES = ("containerd.task.v2.Task", "containerd.task.v3.Task")

_SIGKILL = 9
# How long a child may be at work, hooks and all, before it is killed and the request fails.
_CREATE_SECONDS = 120.0
_SECONDS = 60.0
_LAST_EXITS_SECONDS = 10.0


class Refusal(Exception):
    """A request that cannot be served: code of ttrpc.py, words."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Tasks:
    """The containers of a shim, and the requests for them.

    orphans: pid -> exit status of children that were reaped before it was known whose they are."""

    def __init__(self, loop: Loop, namespace: str, publisher: Publisher, warn: Callable[[str], None]) -> None:
        self.loop = loop
        self.namespace = namespace
        self.publisher = publisher
        self.jobs = Jobs(loop, warn)
        self.containers: dict[str, Container] = {}
        self.living: dict[int, Process] = {}
        self.orphans: dict[int, int] = {}
        self.shutdown: Callable[[], None] = loop.stop

    def handle(self, service: str, method: str, payload: bytes, reply: Reply) -> None:
        """Serve one request."""
        known = _METHODS.get(method) if service in SERVICES else None
        if known is None:
            reply.fail(ttrpc.UNIMPLEMENTED, f"{service}: no method {method}")
            return
        message, handler = known
        try:
            handler(self, wire.decode(message, payload), reply)
        except Refusal as refusal:
            reply.fail(refusal.code, str(refusal))
        except PyruntimeError as error:
            reply.fail(ttrpc.NOT_FOUND if isinstance(error, NotFound) else ttrpc.UNKNOWN, str(error))
        except OSError as error:
            reply.fail(ttrpc.UNKNOWN, f"{method}: {error}")

    # Whom a request is about.

    def _container(self, request: Request) -> Container:
        found = self.containers.get(request["id"])
        if found is None:
            raise Refusal(ttrpc.NOT_FOUND, f"container {request['id']} not found in this shim")
        if found.record is None:
            raise Refusal(ttrpc.PRECONDITION, f"container {request['id']} is being created")
        return found

    def _process(self, request: Request) -> Process:
        container = self._container(request)
        if not request["exec_id"]:
            return container.init
        found = container.execs.get(request["exec_id"])
        if found is None:
            raise Refusal(ttrpc.NOT_FOUND, f"exec {request['exec_id']} of container {container.id} not found")
        return found

    # The life of processes.

    def create(self, request: Request, reply: Reply) -> None:
        """Create: the container, up to the gate."""
        id, bundle = request["id"], request["bundle"]
        if id in self.containers:
            raise Refusal(ttrpc.EXISTS, f"container {id} is there already")
        if request["checkpoint"]:
            raise Refusal(ttrpc.UNIMPLEMENTED, "restoring from a checkpoint is not served")
        chosen = settings.options(request["options"])
        made = settings.settings(self.namespace, chosen)
        container = Container(id, bundle, made, bool(request["rootfs"]))
        container.owner = chosen["io_uid"], chosen["io_gid"]
        container.indirect = console.is_labelled(bundle)
        stdio = Stdio(self.loop, request["stdin"], request["stdout"], request["stderr"], request["terminal"])
        init = container.init = Process(container, "", stdio)
        init.busy = True
        settings.note(bundle, made, mounted=container.mounted)
        taken = state.exists(made.root, id)  # somebody else's of the same name is not ours to remove
        self.containers[id] = container

        def failed(error: PyruntimeError) -> None:
            self.containers.pop(id, None)
            stdio.close()
            if isinstance(error, Lost) and not taken:
                gone = {"bundle": bundle, "mounted": container.mounted, "force": True}
                self._run("delete", work.delete, init, lambda value, error: None, **gone)
            reply.fail(ttrpc.UNKNOWN, f"OCI runtime create failed: {error}")

        def done(value: Any, error: PyruntimeError | None) -> None:
            if error is not None:
                failed(error)
                return
            container.record = state.load(made.root, id)
            self._born(init, value["pid"])
            self._watch_memory(container)
            io = {"stdin": stdio.stdin, "stdout": stdio.stdout, "stderr": stdio.stderr, "terminal": stdio.terminal}
            told = {"container_id": id, "bundle": bundle, "rootfs": request["rootfs"], "io": io, "pid": init.pid}
            self.publisher.publish("/tasks/create", "TaskCreate", told)
            reply.send("PidResponse", {"pid": init.pid})
            init.busy = False
            self._settle(container)

        arguments = {
            "mounts": request["rootfs"],
            "bundle": bundle,
            "no-pivot": chosen["no_pivot_root"],
            "no-new-keyring": chosen["no_new_keyring"],
        }
        self._bear(init, "create", work.create, failed, done, arguments)

    def _bear(
        self,
        process: Process,
        name: str,
        function: Callable[..., Any],
        failed: Callable[[PyruntimeError], None],
        done: Callable[[Any, PyruntimeError | None], None],
        arguments: dict[str, Any],
    ) -> None:
        """Open a process's streams, and let a child bring it to life."""
        stdio, container = process.stdio, process.container
        seconds = _CREATE_SECONDS if name == "create" else _SECONDS
        if stdio.terminal:
            socket, theirs = console.pair()

            def taken(value: Any, error: PyruntimeError | None) -> None:
                try:
                    if error is None:
                        stdio.attach(console.receive(socket))
                finally:
                    socket.close()
                    done(value, error)

            try:
                self.jobs.run(name, function, container.settings, container.id, taken, seconds=seconds,
                              console=theirs.fileno(), birth=True, **arguments)  # fmt: skip
            finally:
                theirs.close()
            return

        def ready(error: PyruntimeError | None) -> None:
            if error is not None:
                failed(error)
                return
            self.jobs.run(name, function, container.settings, container.id, done, seconds=seconds,
                          stdio=tuple(stdio.fds), birth=True, **arguments)  # fmt: skip
            stdio.passed()

        names = container.id, self.namespace
        stdio.open(ready, indirect=container.indirect, owner=container.owner, names=names)

    def _run(
        self,
        name: str,
        function: Callable[..., Any],
        process: Process,
        done: Callable[[Any, PyruntimeError | None], None],
        **arguments: Any,
    ) -> None:
        container = process.container
        self.jobs.run(name, function, container.settings, container.id, done, seconds=_SECONDS, **arguments)

    def _born(self, process: Process, pid: int) -> None:
        process.pid = pid
        if pid in self.orphans:
            process.ended(self.orphans.pop(pid))
        else:
            self.living[pid] = process

    def start(self, request: Request, reply: Reply) -> None:
        """Start: the user's process of a created container, or an exec's process."""
        process = self._process(request)
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
            reply.fail(ttrpc.UNKNOWN, f"OCI runtime {'exec' if process.id else 'start'} failed: {error}")
            self._settle(container)

        def done(value: Any, error: PyruntimeError | None) -> None:
            if error is not None:
                failed(error)
                return
            if process.id:
                self._born(process, value["pid"])
            process.status = RUNNING
            told: dict[str, Any] = {"container_id": container.id, "pid": process.pid}
            if process.id:
                told["exec_id"] = process.id
                self.publisher.publish("/tasks/exec-started", "TaskExecStarted", told)
            else:
                self.publisher.publish("/tasks/start", "TaskStart", told)
            reply.send("PidResponse", {"pid": process.pid})
            process.busy = False
            self._settle(container)

        if process.id:
            self._bear(process, "exec", OPERATIONS["exec"], failed, done, {"process": process.spec})
        elif not self._open_gate(container, done):
            self._run("start", OPERATIONS["start"], process, done)

    def _open_gate(self, container: Container, done: Callable[[Any, PyruntimeError | None], None]) -> bool:
        """Start a container from here; False when it takes a child: hooks to run, or not in a state for it."""
        record = container.record
        assert record is not None
        if record.hooks:
            return False
        try:
            lock = state.lock(record.directory, record.id, timeout=0)
        except PyruntimeError:
            return False
        if state.status(record) != "created":
            posix.close(lock)
            return False
        fd = fifo.knock(record)

        def ended(error: PyruntimeError | None) -> None:
            timer.cancel()
            self.loop.forget(fd)
            posix.close(fd)
            posix.close(lock)
            done(None, error)

        def passed(events: int) -> None:
            try:
                fifo.conclude(record)
            except PyruntimeError as error:
                ended(error)
            else:
                ended(None)

        timer = self.loop.later(_SECONDS, lambda: ended(PyruntimeError(f"init stands still for {_SECONDS:g} s")))
        self.loop.watch(fd, 0, passed)  # POLLERR is always told
        return True

    def exec(self, request: Request, reply: Reply) -> None:
        """Exec: note a process that Start will run."""
        container = self._container(request)
        id = request["exec_id"]
        if id in container.execs:
            raise Refusal(ttrpc.EXISTS, f"exec {id} is there already")
        if container.init.exit is not None:
            raise Refusal(ttrpc.PRECONDITION, f"cannot exec in a stopped container: {container.id}")
        spec: Any = fastjson.loads(request["spec"]["value"].decode("utf-8", "surrogateescape"))
        spec["terminal"] = request["terminal"]
        stdio = Stdio(self.loop, request["stdin"], request["stdout"], request["stderr"], request["terminal"])
        container.execs[id] = Process(container, id, stdio, spec)
        self.publisher.publish("/tasks/exec-added", "TaskExecAdded", {"container_id": container.id, "exec_id": id})
        reply.send("Empty", {})

    def delete(self, request: Request, reply: Reply) -> None:
        """Delete: a process that has ended, and with init the container."""
        process = self._process(request)
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
            if process.id:
                container.execs.pop(process.id, None)
            else:
                self.containers.pop(container.id, None)
                self._unwatch_memory(container)
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
        arguments = {"bundle": container.bundle, "mounted": container.mounted, "force": process.status == CREATED}
        self._run("delete", work.delete, process, done, **arguments)

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
        record = container.record
        if record is not None and not record.private_pid:
            # What init leaves behind does not die with it.
            cgroup_kill.signal_all(record.cgroups, _SIGKILL)
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

    # What looks.

    def state(self, request: Request, reply: Reply) -> None:
        """State: of a process."""
        process = self._process(request)
        status, at = process.exit if process.exit and process.told else (0, 0)
        reply.send(
            "StateResponse",
            {
                "id": process.container.id,
                "bundle": process.container.bundle,
                "pid": process.pid,
                "status": self._status(process),
                "stdin": process.stdio.stdin,
                "stdout": process.stdio.stdout,
                "stderr": process.stdio.stderr,
                "terminal": process.stdio.terminal,
                "exit_status": status,
                "exited_at": timestamp(at),
                "exec_id": process.id,
            },
        )

    def _status(self, process: Process) -> int:
        record = process.container.record
        if process.status == RUNNING and record is not None and freezer.is_frozen(record.cgroups):
            return PAUSED
        return process.status

    def wait(self, request: Request, reply: Reply) -> None:
        """Wait: the exit status, once there is one."""
        process = self._process(request)
        if process.exit and process.told:
            status, at = process.exit
            reply.send("WaitResponse", {"exit_status": status, "exited_at": timestamp(at)})
        else:
            process.waiting.append(reply)

    def pids(self, request: Request, reply: Reply) -> None:
        """Pids: of all processes in the container's cgroups."""
        container = self._container(request)
        assert container.record is not None
        execs = {process.pid: process.id for process in container.execs.values()}
        found = []
        for pid in processes.of(container.record.cgroups):
            info: dict[str, Any] = {"pid": pid}
            if pid in execs:
                details = {"exec_id": execs[pid]}
                info["info"] = wire.any_of("containerd.runc.v1.ProcessDetails", "ProcessDetails", details)
            found.append(info)
        reply.send("PidsResponse", {"processes": found})

    def stats(self, request: Request, reply: Reply) -> None:
        """Stats: what the container uses."""
        from pyruntime.shim import metrics

        container = self._container(request)
        assert container.record is not None
        reply.send("StatsResponse", {"stats": metrics.read(container.record.cgroups)})

    def connect(self, request: Request, reply: Reply) -> None:
        """Connect: pids of the shim and of the container's init."""
        container = self.containers.get(request["id"])
        pid = container.init.pid if container is not None else 0
        reply.send("ConnectResponse", {"shim_pid": posix.getpid(), "task_pid": pid})

    # What changes.

    def kill(self, request: Request, reply: Reply) -> None:
        """Kill: a signal for a process, or for all of a container."""
        process, signal = self._process(request), request["signal"]
        record = process.container.record
        assert record is not None
        if request["all"] and not process.id:
            try:
                lifecycle.kill(record, signal)
            except PyruntimeError:
                pass  # what outlives init in a shared pid namespace is meant as well
            cgroup_kill.signal_all(record.cgroups, signal, but=record.pid)
        elif process.exit is not None:
            raise Refusal(ttrpc.NOT_FOUND, "process already finished")
        elif process.id:
            if not process.pid:
                raise Refusal(ttrpc.PRECONDITION, f"exec {process.id} was not started")
            posix.kill(process.pid, signal)  # not reaped, so it is still its pid
            if signal == _SIGKILL:
                cgroup_kill.thaw_for_death(record.cgroups)
        else:
            try:
                lifecycle.kill(record, signal)
            except PyruntimeError as error:
                raise Refusal(ttrpc.NOT_FOUND, f"process already finished: {error}") from None
        reply.send("Empty", {})

    def pause(self, request: Request, reply: Reply) -> None:
        """Pause: freeze the container."""
        self._change("pause", "/tasks/paused", "TaskPaused", request, reply)

    def resume(self, request: Request, reply: Reply) -> None:
        """Resume: let it go on."""
        self._change("resume", "/tasks/resumed", "TaskResumed", request, reply)

    def update(self, request: Request, reply: Reply) -> None:
        """Update: its limits."""
        given = request["resources"]
        resources: Any = fastjson.loads(given["value"].decode()) if given else {}
        self._change("update", "", "", request, reply, resources=resources)

    def _change(self, name: str, topic: str, event: str, request: Request, reply: Reply, **arguments: Any) -> None:
        container = self._container(request)

        def done(value: Any, error: PyruntimeError | None) -> None:
            if error is not None:
                reply.fail(ttrpc.UNKNOWN, f"OCI runtime {name} failed: {error}")
                return
            if topic:
                self.publisher.publish(topic, event, {"container_id": container.id})
            reply.send("Empty", {})

        self._run(name, OPERATIONS[name], container.init, done, **arguments)

    def checkpoint(self, request: Request, reply: Reply) -> None:
        """Checkpoint: not served."""
        raise Refusal(ttrpc.UNIMPLEMENTED, "checkpoint is not served by this shim")

    def resize(self, request: Request, reply: Reply) -> None:
        """ResizePty: of a process's terminal."""
        self._process(request).stdio.resize(request["width"], request["height"])
        reply.send("Empty", {})

    def close_io(self, request: Request, reply: Reply) -> None:
        """CloseIO: the end of standard input."""
        if request["stdin"]:
            self._process(request).stdio.close_input()
        reply.send("Empty", {})

    def shut_down(self, request: Request, reply: Reply) -> None:
        """Shutdown: end the shim, unless it has containers left."""
        reply.send("Empty", {})
        if not self.containers or request["now"]:
            self.shutdown()

    # Kills for want of memory.

    def _watch_memory(self, container: Container) -> None:
        assert container.record is not None
        try:
            watch = oom.Watch(container.record.cgroups)
        except OSError:
            return  # no memory cgroup

        def ready(events: int) -> None:
            if watch.v2:
                posix.pread(watch.file, 4096, 0)  # or it stays ready
            for _ in watch.pending():
                self.publisher.publish("/tasks/oom", "TaskOOM", {"container_id": container.id})
            if watch.gone:
                self._unwatch_memory(container)

        container.oom_watch = watch
        self.loop.watch(watch.fd, watch.events if watch.v2 else READ, ready)

    def _unwatch_memory(self, container: Container) -> None:
        if container.oom_watch is not None:
            self.loop.forget(container.oom_watch.fd)
            container.oom_watch.close()
            container.oom_watch = None


_METHODS: dict[str, tuple[str, Callable[[Tasks, Request, Reply], None]]] = {
    "State": ("ProcessRequest", Tasks.state),
    "Create": ("CreateTaskRequest", Tasks.create),
    "Start": ("ProcessRequest", Tasks.start),
    "Delete": ("ProcessRequest", Tasks.delete),
    "Pids": ("ContainerRequest", Tasks.pids),
    "Pause": ("ContainerRequest", Tasks.pause),
    "Resume": ("ContainerRequest", Tasks.resume),
    "Checkpoint": ("CheckpointTaskRequest", Tasks.checkpoint),
    "Kill": ("KillRequest", Tasks.kill),
    "Exec": ("ExecProcessRequest", Tasks.exec),
    "ResizePty": ("ResizePtyRequest", Tasks.resize),
    "CloseIO": ("CloseIORequest", Tasks.close_io),
    "Update": ("UpdateTaskRequest", Tasks.update),
    "Wait": ("ProcessRequest", Tasks.wait),
    "Stats": ("ContainerRequest", Tasks.stats),
    "Connect": ("ContainerRequest", Tasks.connect),
    "Shutdown": ("ShutdownRequest", Tasks.shut_down),
}
