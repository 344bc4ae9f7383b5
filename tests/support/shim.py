"""Our containerd shim without containerd: started as containerd would, and asked by a plain ttrpc client."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from pyruntime.shim import wire
from pyruntime.shim.ttrpc import frame
from support import proc
from support.runtime import DEFAULT, ENVIRONMENT

PROGRAM = Path(DEFAULT).parent / "containerd-shim-pyruntime-v1"
SERVICE = "containerd.task.v2.Task"


class Refused(Exception):
    """An error in a response: code of gRPC, words."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Client:
    """A connection to a shim."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(address.removeprefix("unix://"))
        self.socket.settimeout(30 * proc.SLOW)
        self._stream = -1

    def send(self, method: str, message: str, service: str = SERVICE, **values: Any) -> int:
        """Send a request: its stream."""
        self._stream += 2
        request = {"service": service, "method": method, "payload": wire.encode(message, values)}
        self.socket.sendall(frame(self._stream, 1, wire.encode("Request", request)))
        return self._stream

    def receive(self, answer: str) -> tuple[int, dict[str, Any]]:
        """The next response: (stream, message). Raises Refused."""
        head = self._read(10)
        data = self._read(int.from_bytes(head[:4], "big"))
        response = wire.decode("Response", data)
        if response["status"] and response["status"]["code"]:
            raise Refused(response["status"]["code"], response["status"]["message"])
        return int.from_bytes(head[4:8], "big"), wire.decode(answer, response["payload"])

    def call(self, method: str, message: str, answer: str = "Empty", **values: Any) -> dict[str, Any]:
        """Send a request and wait for its response."""
        self.send(method, message, **values)
        return self.receive(answer)[1]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self.socket.recv(size - len(data))
            if not chunk:
                raise ConnectionResetError("the shim has closed the connection")
            data += chunk
        return data

    def close(self) -> None:
        self.socket.close()


class Containerd:
    """What of containerd a shim needs: the service for events, which are kept in `events` as (topic, message)."""

    def __init__(self, folder: Path, namespace: str, program: str = str(PROGRAM)) -> None:
        self.folder = folder
        self.program = program
        self.namespace = namespace
        self.address = folder / "events.sock"
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.answering = True
        self._sockets: set[str] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.address))
        self._listener.listen()
        self._stop = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def start(self, bundle: Path, id: str) -> str:
        """Let a shim be started for a bundle: its address."""
        result = subprocess.run(
            [self.program, *self.flags(id), "start"],
            cwd=bundle,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": ENVIRONMENT["PATH"], "TTRPC_ADDRESS": str(self.address), "GOMAXPROCS": "2"},
            text=True,
            timeout=30,
        )
        assert result.returncode == 0 and result.stdout.startswith("unix://"), result.stdout
        self._sockets.add(result.stdout.removeprefix("unix://"))
        return result.stdout

    def delete(self, bundle: Path, id: str) -> dict[str, Any]:
        """Let the shim clean up after one that is gone."""
        words = [self.program, *self.flags(id), "-bundle", str(bundle), "delete"]
        result = subprocess.run(words, cwd=bundle, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
        assert result.returncode == 0, result.stderr
        return wire.decode("DeleteResponse", result.stdout)

    def flags(self, id: str) -> list[str]:
        """What containerd gives with every command."""
        return ["-namespace", self.namespace, "-address", str(self.folder), "-publish-binary", "/bin/true", "-id", id]

    def topics(self) -> list[str]:
        """The events so far, by name."""
        return [topic.removeprefix("/tasks/") for topic, _ in self.events]

    def _serve(self) -> None:
        connections: dict[int, socket.socket] = {}
        while True:
            ready, _, _ = select.select([self._stop[0], self._listener, *connections.values()], [], [])
            for one in ready:
                if one == self._stop[0]:
                    return
                if one is self._listener:
                    connection, _ = self._listener.accept()
                    connections[connection.fileno()] = connection
                elif not self._event(one):
                    del connections[one.fileno()]
                    one.close()

    def _event(self, connection: socket.socket) -> bool:
        try:
            head = connection.recv(10, socket.MSG_WAITALL)
            data = connection.recv(int.from_bytes(head[:4], "big"), socket.MSG_WAITALL)
        except OSError:
            return False
        if not head:
            return False
        if not self.answering:
            return False
        request = wire.decode("Request", data)
        assert request["metadata"] == [{"key": "containerd-namespace-ttrpc", "value": self.namespace}]
        envelope = wire.decode("ForwardRequest", request["payload"])["envelope"]
        name = envelope["event"]["type_url"].removeprefix("containerd.events.")
        self.events.append((envelope["topic"], wire.decode(name, envelope["event"]["value"])))
        try:
            connection.sendall(frame(int.from_bytes(head[4:8], "big"), 2, wire.encode("Response", {})))
        except OSError:
            return False  # the shim was killed
        return True

    def close(self) -> None:
        os.write(self._stop[1], b"x")
        self._thread.join(5)
        self._listener.close()
        for fd in self._stop:
            os.close(fd)
        for path in self._sockets:  # of shims that were killed
            Path(path).unlink(missing_ok=True)
        run = Path("/run/containerd")
        for folder in (run / "pyruntime" / self.namespace, run / "pyruntime", run / "s", run):
            try:
                folder.rmdir()
            except OSError:
                continue  # there is something of somebody else's, or it is not there


def wait_for(condition: Any, what: str, seconds: float = 10.0) -> None:
    """Wait until something is true; `seconds` are multiplied by SLOW."""
    deadline = time.monotonic() + seconds * proc.SLOW
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Task:
    """A container by the shim: its id, bundle, address, client and pid of the shim."""

    def __init__(self, containerd: Containerd, bundle: Any, id: str) -> None:
        self.containerd = containerd
        self.id = id
        self.config = bundle.config
        self.path = Path(bundle.path)
        self.output = self.path / "output"
        self.address = containerd.start(self.path, id)
        self.client = Client(self.address)
        self.shim = self.client.call("Connect", "ContainerRequest", "ConnectResponse", id=id)["shim_pid"]

    def create(self, **values: Any) -> int:
        """Create it, with its output in a file: pid of its init."""
        streams = {"stdout": f"file://{self.output}", "stderr": f"file://{self.output}"}
        request = {"id": self.id, "bundle": str(self.path), **streams, **values}
        return self.client.call("Create", "CreateTaskRequest", "PidResponse", **request)["pid"]

    def start(self, exec_id: str = "") -> int:
        request = {"id": self.id, "exec_id": exec_id}
        return self.client.call("Start", "ProcessRequest", "PidResponse", **request)["pid"]

    def exec(self, exec_id: str, *args: str) -> None:
        spec = {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
        type = "types.containerd.io/opencontainers/runtime-spec/1/Process"
        any = {"type_url": type, "value": json.dumps(spec).encode()}
        self.client.call("Exec", "ExecProcessRequest", id=self.id, exec_id=exec_id, spec=any)

    def wait(self, exec_id: str = "") -> int:
        request = {"id": self.id, "exec_id": exec_id}
        return self.client.call("Wait", "ProcessRequest", "WaitResponse", **request)["exit_status"]

    def state(self, exec_id: str = "") -> dict[str, Any]:
        return self.client.call("State", "ProcessRequest", "StateResponse", id=self.id, exec_id=exec_id)

    def kill(self, number: int = signal.SIGKILL, **values: Any) -> None:
        self.client.call("Kill", "KillRequest", id=self.id, signal=number, **values)

    def delete(self, exec_id: str = "") -> dict[str, Any]:
        return self.client.call("Delete", "ProcessRequest", "DeleteResponse", id=self.id, exec_id=exec_id)

    def end(self) -> None:
        """Whatever state it is in: away with it."""
        try:
            os.kill(self.shim, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.client.close()
        self.containerd.delete(self.path, self.id)
