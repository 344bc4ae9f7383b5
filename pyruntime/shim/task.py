"""The task service of the shim (proto/task.proto).

A handler replies immediately or later, and never blocks. Slow operations run in a child (children.py); queries and
signals are handled here.
"""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import freezer, processes
from pyruntime.cgroupfs import kill as cgroup_kill
from pyruntime.commands import kill as kill_command
from pyruntime.commands.forked import COMMANDS
from pyruntime.errors import NotFound, PyruntimeError, Unknown
from pyruntime.kernel.constants import SIGKILL
from pyruntime.shim import runtime_options, ttrpc, wire
from pyruntime.shim.containers import PAUSED, RUNNING, Process
from pyruntime.shim.events import timestamp
from pyruntime.shim.lifecycle import IMAGES_SECONDS, Lifecycle, Refusal, record_of
from pyruntime.state import cgroup_identity
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyruntime.shim.message_types import (
        CheckpointTaskRequest,
        CloseIORequest,
        ContainerRequest,
        KillRequest,
        ProcessRequest,
        ResizePtyRequest,
        ShutdownRequest,
        UpdateTaskRequest,
    )
    from pyruntime.shim.ttrpc import Reply


SERVICES = ("containerd.task.v2.Task", "containerd.task.v3.Task")


class Tasks(Lifecycle):
    """The task service."""

    def handle(self, service: str, method: str, payload: bytes, reply: Reply) -> None:
        """Call the handler of a request."""
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

    # Queries.

    def state(self, request: ProcessRequest, reply: Reply) -> None:
        """State: status, streams and exit status of a process."""
        process = self.process(request)
        status, at = process.exit if process.exit and process.published else (0, 0)
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

    def wait(self, request: ProcessRequest, reply: Reply) -> None:
        """Wait: reply with the exit status once the process has exited."""
        process = self.process(request)
        if process.exit and process.published:
            status, at = process.exit
            reply.send("WaitResponse", {"exit_status": status, "exited_at": timestamp(at)})
        else:
            process.waiting.append(reply)

    def pids(self, request: ContainerRequest, reply: Reply) -> None:
        """Pids: pids of all processes in the container's cgroups."""
        container = self.container(request)
        record = record_of(container)
        execs = {process.pid: process.id for process in container.execs.values()}
        found = []
        for pid in processes.of(cgroup_identity.own(record)):
            info: dict[str, object] = {"pid": pid}
            if pid in execs:
                details = {"exec_id": execs[pid]}
                info["info"] = wire.any_of("containerd.runc.v1.ProcessDetails", "ProcessDetails", details)
            found.append(info)
        reply.send("PidsResponse", {"processes": found})

    def stats(self, request: ContainerRequest, reply: Reply) -> None:
        """Stats: resource usage of the container."""
        from pyruntime.shim import metrics

        record = record_of(self.container(request))
        reply.send("StatsResponse", {"stats": metrics.read(record.cgroups)})

    def connect(self, request: ContainerRequest, reply: Reply) -> None:
        """Connect: pids of the shim and of init."""
        container = self.containers.get(request["id"])
        pid = container.init.pid if container is not None else 0
        reply.send("ConnectResponse", {"shim_pid": posix.getpid(), "task_pid": pid})

    # Changes.

    def kill(self, request: KillRequest, reply: Reply) -> None:
        """Kill: send a signal to a process, or to all processes of a container."""
        process, signal = self.process(request), request["signal"]
        record = record_of(process.container)
        if request["all"] and not process.id:
            try:
                kill_command.kill(record, signal, everything=True)
            except Unknown:
                raise
            except PyruntimeError:
                pass  # no process remains
        elif process.exit is not None:
            raise Refusal(ttrpc.NOT_FOUND, "process already finished")
        elif process.id:
            if not process.pid:
                raise Refusal(ttrpc.PRECONDITION, f"exec {process.id} was not started")
            posix.kill(process.pid, signal)  # not reaped, so the pid cannot have been reused
            if signal == SIGKILL:
                cgroup_kill.thaw_for_death(record.cgroups)
        else:
            try:
                kill_command.kill(record, signal)
            except Unknown:
                raise
            except PyruntimeError as error:
                raise Refusal(ttrpc.NOT_FOUND, f"process already finished: {error}") from None
        reply.send("Empty", {})

    def pause(self, request: ContainerRequest, reply: Reply) -> None:
        """Pause: freeze the container."""
        self._change("pause", "/tasks/paused", "TaskPaused", request, reply)

    def resume(self, request: ContainerRequest, reply: Reply) -> None:
        """Resume: thaw the container."""
        self._change("resume", "/tasks/resumed", "TaskResumed", request, reply)

    def update(self, request: UpdateTaskRequest, reply: Reply) -> None:
        """Update: change resource limits."""
        given = request["resources"]
        resources = fastjson.loads(given["value"].decode()) if given else {}
        self._change("update", "", "", request, reply, resources=resources)

    def _change(
        self, name: str, topic: str, event: str, request: ContainerRequest, reply: Reply, **arguments: object
    ) -> None:
        container = self.container(request)

        def done(value: object, error: PyruntimeError | None) -> None:
            if error is not None:
                reply.fail(ttrpc.UNKNOWN, f"OCI runtime {name} failed: {error}")
                return
            if topic:
                self.publisher.publish(topic, event, {"container_id": container.id})
            reply.send("Empty", {})

        self.run_child(name, COMMANDS[name], container.init, done, **arguments)

    def checkpoint(self, request: CheckpointTaskRequest, reply: Reply) -> None:
        """Checkpoint: write images of the processes, from which Create can restore the container."""
        from pyruntime.shim import checkpoint_images  # few containers are

        container = self.container(request)
        chosen = runtime_options.checkpoint_options(request["options"])
        path = request["path"] or chosen["image_path"]
        if not path:
            raise Refusal(ttrpc.INVALID, "checkpoint: missing image path")

        def done(value: object, error: PyruntimeError | None) -> None:
            if error is not None:
                reply.fail(ttrpc.UNKNOWN, f"OCI runtime checkpoint failed: {error}")
                return
            event = {"container_id": container.id, "checkpoint": path}
            self.publisher.publish("/tasks/checkpointed", "TaskCheckpointed", event)
            reply.send("Empty", {})

        self.children.run(
            "checkpoint",
            checkpoint_images.checkpoint,
            container.settings,
            container.id,
            done,
            seconds=IMAGES_SECONDS,
            path=path,
            bundle=container.bundle,
            chosen=chosen,
            files=container.init.stdio.links,
        )

    def resize(self, request: ResizePtyRequest, reply: Reply) -> None:
        """ResizePty: set the size of a terminal."""
        self.process(request).stdio.resize(request["width"], request["height"])
        reply.send("Empty", {})

    def close_io(self, request: CloseIORequest, reply: Reply) -> None:
        """CloseIO: close standard input."""
        if request["stdin"]:
            self.process(request).stdio.close_input()
        reply.send("Empty", {})

    def shut_down(self, request: ShutdownRequest, reply: Reply) -> None:
        """Shutdown: exit, unless containers remain."""
        reply.send("Empty", {})
        # A container without a bundle was removed by the command `delete`.
        left = [one for one in self.containers.values() if posix.access(one.bundle, posix.F_OK)]
        if not left or request["now"]:
            self.shutdown()


_METHODS: dict[str, tuple[str, Callable[[Tasks, Any, Reply], None]]] = {
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
