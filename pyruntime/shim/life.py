"""The life of a shim's containers: Create, Start, Exec, Delete, and the ends that nobody asks for.

What takes time is done in a child (jobs.py). Events and answers come in the order that containerd relies on: a start
before its exit, init's exit as the last one.
"""

from __future__ import annotations

import posix

from pyruntime import fastjson, state
from pyruntime.cgroups import identity, oom
from pyruntime.cgroups import kill as cgroup_kill
from pyruntime.errors import NotFound, PyruntimeError, StateError
from pyruntime.ids import ContainerId, ExecId
from pyruntime.operations import OPERATIONS
from pyruntime.shim import console, names, settings, ttrpc, work
from pyruntime.shim.events import Publisher, timestamp
from pyruntime.shim.jobs import Jobs, Lost
from pyruntime.shim.loop import READ, Loop
from pyruntime.shim.process import CREATED, RUNNING, STOPPED, Container, Process
from pyruntime.shim.spare import Spare
from pyruntime.shim.stdio import Stdio
from pyruntime.start import fifo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pyruntime.ids import Namespace
    from pyruntime.shim.ttrpc import Reply

    Request = dict[str, Any]
    _Id = TypeVar("_Id", ContainerId, ExecId)

_SIGKILL = 9
# How long a child may be at work, hooks and all, before it is killed and the request fails.
_CREATE_SECONDS = 120.0
_SECONDS = 60.0
IMAGES_SECONDS = 600.0  # all of a container's memory is written, or read
_LAST_EXITS_SECONDS = 10.0
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
        self.spare_for: tuple[str, str, dict[str, Any]] = "", "", {}
        self.shutdown: Callable[[], None] = loop.stop

    # Whom a request is about.

    def container(self, request: Request) -> Container:
        found = self.containers.get(request["id"])
        if found is None:
            raise Refusal(ttrpc.NOT_FOUND, f"container {request['id']} in this shim")
        if found.record is None and not found.restoring:
            raise Refusal(ttrpc.PRECONDITION, f"container {request['id']} is being created")
        return found

    def process(self, request: Request) -> Process:
        container = self.container(request)
        if not request["exec_id"]:
            return container.init
        found = container.execs.get(request["exec_id"])
        if found is None:
            raise Refusal(ttrpc.NOT_FOUND, f"exec {request['exec_id']} of container {container.id}")
        return found

    # The life of processes.

    def create(self, request: Request, reply: Reply) -> None:
        """Create: the container, up to the gate; of one that is to be restored, the root filesystem."""
        id, bundle = _checked(ContainerId, request["id"]), request["bundle"]
        if id in self.containers:
            raise Refusal(ttrpc.EXISTS, f"container {id}")
        _check(names.check_bundle, bundle)
        chosen = settings.options(request["options"])
        made = settings.settings(self.namespace, chosen)
        container = Container(id, bundle, made, [one["type"] for one in request["rootfs"]])
        container.owner = chosen["io_uid"], chosen["io_gid"]
        container.indirect = console.is_labelled(bundle)
        stdio = self._streams(request)
        init = container.init = Process(container, "", stdio)
        init.busy = True
        settings.note(bundle, made, mounted=bool(container.mounts))
        taken = state.exists(made.root, id)  # somebody else's of the same name is not ours to remove
        self.containers[id] = container

        def failed(error: PyruntimeError) -> None:
            self.containers.pop(id, None)
            stdio.close()
            if isinstance(error, Lost) and not taken:
                gone = {"bundle": bundle, "types": container.mounts, "force": True}
                self.run_child("delete", work.delete, init, lambda value, error: None, **gone)
            reply.fail(ttrpc.UNKNOWN, f"OCI runtime create failed: {error}")

        def done(value: Any, error: PyruntimeError | None) -> None:
            if error is not None:
                failed(error)
                return
            if not container.restoring:
                self._made(container, value["pid"])
            io = {"stdin": stdio.stdin, "stdout": stdio.stdout, "stderr": stdio.stderr, "terminal": stdio.terminal}
            told = {"container_id": id, "bundle": bundle, "rootfs": request["rootfs"], "io": io, "pid": init.pid}
            self.publisher.publish("/tasks/create", "TaskCreate", {**told, "checkpoint": request["checkpoint"]})
            reply.send("PidResponse", {"pid": init.pid})
            init.busy = False
            self._settle(container)

        if request["checkpoint"]:
            self._drop_spare()
            container.restoring = {"path": request["checkpoint"], "logs": chosen["criu_work_path"], **_flags(chosen)}
            self.run_child("create", work.mount, init, done, mounts=request["rootfs"], bundle=bundle)
            return
        arguments = {"mounts": request["rootfs"], "bundle": bundle, **_flags(chosen)}
        self._bear(init, "create", work.create, failed, done, arguments, self._take_spare(id, bundle, chosen))

    def _streams(self, request: Request) -> Stdio:
        words = request["stdin"], request["stdout"], request["stderr"], request["terminal"]
        return Stdio(self.loop, *words, warn=self.jobs.warn)

    def prepare(self, id: ContainerId, bundle: str, chosen: dict[str, Any]) -> None:
        """Let a child plan the container that will be asked for next."""
        made = settings.settings(self.namespace, chosen)
        self.spare = self.jobs.prepare("create", work.create_when_told, made, id, bundle=bundle, **_flags(chosen))
        self.spare_for = id, bundle, chosen

    def _take_spare(self, id: str, bundle: str, chosen: dict[str, Any]) -> Spare | None:
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
        function: Callable[..., Any],
        failed: Callable[[PyruntimeError], None],
        done: Callable[[Any, PyruntimeError | None], None],
        arguments: dict[str, Any],
        spare: Spare | None = None,
    ) -> None:
        """Open a process's streams, and let a child bring it to life, the spare one if there is one."""
        stdio, container = process.stdio, process.container
        seconds = {"create": _CREATE_SECONDS, "restore": IMAGES_SECONDS}.get(name, _SECONDS)
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
                              console=theirs.fileno(), birth=True, spare=spare, **arguments)  # fmt: skip
            finally:
                theirs.close()
            return

        def ready(error: PyruntimeError | None) -> None:
            if error is not None:
                failed(error)
                return
            self.jobs.run(name, function, container.settings, container.id, done, seconds=seconds,
                          stdio=tuple(stdio.fds), birth=True, spare=spare, **arguments)  # fmt: skip
            stdio.passed()

        identity = container.id, self.namespace
        stdio.open(ready, indirect=container.indirect, owner=container.owner, names=identity)

    def run_child(
        self,
        name: str,
        function: Callable[..., Any],
        process: Process,
        done: Callable[[Any, PyruntimeError | None], None],
        **arguments: Any,
    ) -> None:
        container = process.container
        self.jobs.run(name, function, container.settings, container.id, done, seconds=_SECONDS, **arguments)

    def _made(self, container: Container, pid: int) -> None:
        """A container is there, and its init."""
        container.record = state.load(container.settings.root, container.id)
        self._born(container.init, pid)
        self._watch_memory(container)

    def _born(self, process: Process, pid: int) -> None:
        process.pid = pid
        if pid in self.orphans:
            process.ended(self.orphans.pop(pid))
        else:
            self.living[pid] = process

    def start(self, request: Request, reply: Reply) -> None:
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
                container.restoring = {}
                self._made(container, value["pid"])
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
            spare, process.spare = process.spare, None
            self._bear(process, "exec", OPERATIONS["exec"], failed, done, {"process": process.spec}, spare)
        elif container.restoring:
            from pyruntime.shim import images  # few containers are

            arguments = {"bundle": container.bundle, **container.restoring}
            self._bear(process, "restore", images.restore, failed, done, arguments)
        elif not self._open_gate(container, done):
            self.run_child("start", OPERATIONS["start"], process, done)

    def _open_gate(self, container: Container, done: Callable[[Any, PyruntimeError | None], None]) -> bool:
        """Start a container from here; False when it takes a child: hooks to run, or not in a state for it."""
        record = container.record
        assert record is not None
        if "poststart" in record.hooks:
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
        container = self.container(request)
        id = _checked(ExecId, request["exec_id"])
        if id in container.execs:
            raise Refusal(ttrpc.EXISTS, f"exec {id}")
        if container.init.exit is not None:
            raise Refusal(ttrpc.PRECONDITION, f"cannot exec in a stopped container: {container.id}")
        spec: Any = fastjson.loads(request["spec"]["value"].decode("utf-8", "surrogateescape"))
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
            process.spare = self.jobs.prepare("exec", work.run_when_told, made, container.id, process=spec)
        except OSError:
            return  # Start tries again, and tells

    def delete(self, request: Request, reply: Reply) -> None:
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
        arguments = {"bundle": container.bundle, "types": container.mounts, "force": process.status == CREATED}
        self.run_child("delete", work.delete, process, done, **arguments)

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
            cgroup_kill.signal_all(identity.own(record), _SIGKILL)
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

    # Kills for want of memory.

    def _watch_memory(self, container: Container) -> None:
        assert container.record is not None
        try:
            watch = oom.Watch(container.record.cgroups)
        except OSError:
            return  # no memory cgroup

        def ready(events: int) -> None:
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


def _flags(chosen: dict[str, Any]) -> dict[str, Any]:
    """What of the options are flags of `create`."""
    return {"no-pivot": chosen["no_pivot_root"], "no-new-keyring": chosen["no_new_keyring"]}
