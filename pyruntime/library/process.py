"""The class Process."""

from __future__ import annotations

import os
from types import TracebackType
from typing import IO

from pyruntime.kernel.pidfd import send_signal
from pyruntime.library.helper import Call
from pyruntime.library.stdio import Streams
from pyruntime.util import signals
from pyruntime.util.procfs import start_time


class Process:
    """An additional process in a container, from `Container.exec`.

    pid: on the host. stdin, stdout, stderr, terminal: binary files, where they were asked for. As a context manager
    it closes these at the end."""

    def __init__(self, identity: dict[str, int], streams: Streams) -> None:
        self.pid = identity["pid"]
        self.stdin: IO[bytes] | None = streams.stdin
        self.stdout: IO[bytes] | None = streams.stdout
        self.stderr: IO[bytes] | None = streams.stderr
        self.terminal: IO[bytes] | None = streams.terminal
        self._start = identity["start"]
        self._status: int | None = None

    def __repr__(self) -> str:
        return f"<Process {self.pid}>"

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close this program's ends of pipes and terminal. The process keeps its own."""
        for file in (self.stdin, self.stdout, self.stderr, self.terminal):
            if file is not None:
                file.close()

    def wait_call(self) -> Call:
        """Return the request for its exit status."""
        return wait_call(self.pid, self._start)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process. Return its exit status, 128 + N if signal N killed it. Raises TimeoutError."""
        if self._status is None:
            self._status = self.wait_call().answer(timeout)
        return self._status

    def kill(self, signal: int | str = "TERM") -> None:
        """Send a signal. Raises ProcessLookupError if the process has exited."""
        pidfd = os.pidfd_open(self.pid)
        try:
            if start_time(self.pid) != self._start:
                raise ProcessLookupError(3, "the process has ended")
            send_signal(pidfd, number(signal))
        finally:
            os.close(pidfd)


def wait_call(pid: int, start: int) -> Call:
    """Return the request for a process's exit status."""
    request: dict[str, object] = {"op": "wait", "pid": pid, "start": start}
    return Call(request, {})


def number(signal: int | str) -> int:
    """Return the number of a signal, given by number or name. Raises UsageError."""
    return int(signal) if isinstance(signal, int) else signals.parse(signal)
