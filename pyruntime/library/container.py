"""The class Container."""

from __future__ import annotations

import os
import subprocess
import threading
from types import TracebackType
from typing import IO, Any

from pyruntime.cgroupfs import processes, stats
from pyruntime.commands import kill as kill_command
from pyruntime.commands.settings import default_root, is_rootless
from pyruntime.errors import StateError
from pyruntime.library.bundle import Bundle
from pyruntime.library.helper import Call
from pyruntime.library.process import Process, number, wait_call
from pyruntime.library.state import State
from pyruntime.library.stdio import Stream, Streams
from pyruntime.state import cgroup_identity
from pyruntime.state import store as records
from pyruntime.state.status import status_of
from pyruntime.util.ids import ContainerId


class Container:
    """A container, which may exist or not. Methods raise PyruntimeError on failure, and so does `Container(id)` for
    an invalid id.

    id:     container id.
    bundle: bundle for `create`.
    root:   directory of container state, by default /run/pyruntime or, without root, below XDG_RUNTIME_DIR.
    systemd_cgroup: create the cgroup by systemd.

    As a context manager it deletes the container at exit, in any state."""

    def __init__(
        self,
        id: str,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        *,
        root: str | os.PathLike[str] | None = None,
        systemd_cgroup: bool = False,
    ) -> None:
        self.id = ContainerId(id)
        self.bundle = bundle if bundle is None or isinstance(bundle, Bundle) else Bundle(bundle)
        self._rootless = is_rootless()
        self.root = os.path.abspath(root) if root is not None else default_root(self._rootless)
        self._systemd_cgroup = systemd_cgroup
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        self.terminal: IO[bytes] | None = None

    def __repr__(self) -> str:
        return f"Container({self.id!r}, root={self.root!r})"

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.delete(force=True)
        finally:
            self.close()

    def close(self) -> None:
        """Close this program's ends of the pipes and the terminal of `create`. The container keeps its own."""
        for file in (self.stdin, self.stdout, self.stderr, self.terminal):
            if file is not None:
                file.close()

    # Requests to the helper: `aio` sends the same.

    def request(self, op: str, fds: dict[str, int] | None = None, **arguments: Any) -> Call:
        """Send a request for an operation (commands/forked.py)."""
        request = {
            "op": op,
            "id": self.id,
            "root": self.root,
            "rootless": self._rootless,
            "systemd_cgroup": self._systemd_cgroup,
            "arguments": arguments,
        }
        return Call(request, fds or {})

    def create_request(self, streams: Streams) -> Call:
        """Send the request for `create`."""
        if self.bundle is None:
            raise StateError(f"container {self.id} has no bundle", hint="give Container one")
        return self.request("create", streams.fds, bundle=str(self.bundle.path))

    def exec_request(
        self, streams: Streams, args: list[str], *, env: dict[str, str] | None, cwd: str, user: str
    ) -> Call:
        """Send the request for `exec`."""
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        tty = "console" in streams.fds
        return self.request("exec", streams.fds, args=list(args), env=variables, cwd=cwd, user=user, tty=tty)

    def wait_request(self) -> Call:
        """Send the request for init's exit status."""
        record = records.load(self.root, self.id)
        return wait_call(record.pid, record.start)

    def adopt(self, streams: Streams) -> None:
        """Set the attributes of pipes and terminal after `create`."""
        streams.take_terminal()
        self.stdin, self.stdout, self.stderr = streams.stdin, streams.stdout, streams.stderr
        self.terminal = streams.terminal

    # The operations.

    def create(
        self, *, stdin: Stream = None, stdout: Stream = None, stderr: Stream = None, terminal: bool = False
    ) -> None:
        """Create the container. Init then waits for `start`.

        stdin, stdout, stderr: as for subprocess.Popen; pipes become the attributes of these names.
        terminal: required if config.json sets process.terminal; the attribute `terminal` gets the master."""
        streams = Streams(stdin, stdout, stderr, terminal=terminal)
        try:
            call = self.create_request(streams)
            streams.sent()
            call.answer()
            self.adopt(streams)
        except BaseException:
            streams.close()
            raise

    def start(self) -> None:
        """Start the user process. On return it runs, or has exited."""
        self.request("start").answer()

    def exec(
        self,
        args: list[str],
        *,
        env: dict[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        terminal: bool = False,
    ) -> Process:
        """Run an additional process in the container. user: "UID" or "UID:GID"."""
        streams = Streams(stdin, stdout, stderr, terminal=terminal)
        try:
            call = self.exec_request(streams, args, env=env, cwd=cwd, user=user)
            streams.sent()
            cgroup_identity = call.answer()
            streams.take_terminal()
        except BaseException:
            streams.close()
            raise
        return Process(cgroup_identity, streams)

    def run(
        self,
        args: list[str],
        *,
        input: str = "",
        check: bool = False,
        timeout: float | None = None,
        env: dict[str, str] | None = None,
        cwd: str = "",
        user: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run an additional process, wait for it, and return its exit status and output like subprocess.run.

        check: raise subprocess.CalledProcessError unless the exit status is 0. timeout: seconds, after which the
        process is killed and subprocess.TimeoutExpired is raised."""
        pipe = subprocess.PIPE
        process = self.exec(args, env=env, cwd=cwd, user=user, stdin=pipe, stdout=pipe, stderr=pipe)
        files = process.stdin, process.stdout, process.stderr
        assert files[0] is not None and files[1] is not None and files[2] is not None
        said: dict[int, bytes] = {}
        threads = [threading.Thread(target=_read_all, args=(said, at, files[at]), daemon=True) for at in (1, 2)]
        threads.append(threading.Thread(target=_write_all, args=(files[0], input.encode()), daemon=True))
        for thread in threads:
            thread.start()
        try:
            code = process.wait(timeout)
        except TimeoutError:
            process.kill("KILL")
            process.wait()
            raise subprocess.TimeoutExpired(args, timeout or 0.0) from None
        finally:
            for thread in threads:
                thread.join(1.0)  # processes it has left behind may hold the pipe open
        texts = [said.get(at, b"").decode(errors="replace") for at in (1, 2)]
        done = subprocess.CompletedProcess(list(args), code, *texts)
        if check:
            done.check_returncode()
        return done

    def kill(self, signal: int | str = "TERM", *, all: bool = False) -> None:
        """Send a signal to init; all: to every process of the container."""
        if all:
            self.request("kill", signal=number(signal), everything=True).answer()
        else:
            kill_command.kill(records.load(self.root, self.id), number(signal))

    def wait(self, timeout: float | None = None) -> int:
        """Wait for init. Return its exit status, 128 + N if signal N killed it. Raises TimeoutError.

        Raises StateError in a program that has not created the container."""
        return int(self.wait_request().answer(timeout))

    def delete(self, *, force: bool = False) -> None:
        """Delete the container. force: kill it if it runs, and succeed if it does not exist."""
        self.request("delete", force=force).answer()

    def pause(self) -> None:
        """Freeze all processes."""
        self.request("pause").answer()

    def resume(self) -> None:
        """Thaw all processes."""
        self.request("resume").answer()

    def update(self, resources: dict[str, object], process: dict[str, object] | None = None) -> None:
        """Change resource limits: members of `linux.resources`. Others stay as they are.

        process: `rlimits`, `oomScoreAdj`, `ioPriority`, `scheduler` and `execCPUAffinity` of all processes that run."""
        self.request("update", resources=resources, process=process).answer()

    def add_mounts(self, mounts: list[dict[str, object]]) -> None:
        """Mount into the running container: entries of `mounts` in config.json. If one fails, none is made."""
        self.request("add_mounts", mounts=mounts).answer()

    def remove_mounts(self, *destinations: str) -> None:
        """Unmount what `add_mounts` has mounted at these places of the container."""
        self.request("remove_mounts", destinations=list(destinations)).answer()

    # Queries need no helper.

    def state(self) -> State:
        """Return the current state. Raises NotFound if the container does not exist."""
        record = records.load(self.root, self.id)
        status = status_of(record)
        return State(
            id=record.id,
            status=status,
            pid=0 if status == "stopped" else record.pid,
            bundle=record.bundle,
            rootfs=record.rootfs,
            oci_version=record.oci_version,
            created=record.created,
            annotations=record.annotations,
        )

    def stats(self) -> dict[str, object]:
        """Return resource usage as `pyruntime events --stats` prints it: cpu, memory, pids, blkio, hugetlb, …"""
        return stats.read(records.load(self.root, self.id).cgroups)

    def processes(self) -> list[int]:
        """Return the pids of all processes, on the host."""
        return processes.of(cgroup_identity.own(records.load(self.root, self.id)))


def _read_all(said: dict[int, bytes], at: int, file: IO[bytes]) -> None:
    said[at] = b""
    with file:
        while chunk := file.read(65536):
            said[at] += chunk


def _write_all(file: IO[bytes], data: bytes) -> None:
    with file:
        try:
            while data:
                data = data[file.write(data) :]
        except BrokenPipeError:
            pass  # it does not want to know
