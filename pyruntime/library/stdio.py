"""Standard input, output and error of a process, like those of subprocess."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import IO, Any

# A descriptor, an object with fileno(), subprocess.PIPE, subprocess.DEVNULL, or None to inherit.
Stream = int | IO[Any] | None


class Streams:
    """Descriptors for a process, and this program's ends of pipes and terminal.

    stdin, stdout, stderr: binary files for subprocess.PIPE, else None.
    terminal: binary file of the terminal master, set by `take_terminal`."""

    def __init__(self, stdin: Stream, stdout: Stream, stderr: Stream, *, terminal: bool) -> None:
        self.fds: dict[str, int] = {}
        self._ours: list[int] = []
        self._console: socket.socket | None = None
        self.terminal: IO[bytes] | None = None
        self.stdin = self.stdout = self.stderr = None
        if terminal:
            stdin = stdout = stderr = subprocess.DEVNULL
            self._console, theirs = socket.socketpair()
            self.fds["console"] = self._keep(theirs.detach())
        try:
            self.stdin = self._set("stdin", stdin, 0)
            self.stdout = self._set("stdout", stdout, 1)
            if stderr == subprocess.STDOUT:
                self.fds["stderr"] = self.fds["stdout"]
            else:
                self.stderr = self._set("stderr", stderr, 2)
        except BaseException:
            self.close()
            raise

    def _keep(self, fd: int) -> int:
        self._ours.append(fd)
        return fd

    def _set(self, name: str, stream: Stream, own: int) -> IO[bytes] | None:
        if stream == subprocess.PIPE:
            reading, writing = os.pipe()
            here, there = (writing, reading) if name == "stdin" else (reading, writing)
            self.fds[name] = self._keep(there)
            return open(here, "wb" if name == "stdin" else "rb", buffering=0)
        if stream == subprocess.DEVNULL:
            self.fds[name] = self._keep(os.open(os.devnull, os.O_RDWR))
        elif stream is None:
            self.fds[name] = own
        else:
            self.fds[name] = stream if isinstance(stream, int) else stream.fileno()
        return None

    def sent(self) -> None:
        """Close the descriptors that the process has inherited."""
        for fd in self._ours:
            os.close(fd)
        self._ours.clear()

    def take_terminal(self) -> None:
        """Receive the terminal master, which init has sent."""
        if self._console is not None:
            _, fds, _, _ = socket.recv_fds(self._console, 64, 1)
            os.set_inheritable(fds[0], False)
            self.terminal = open(fds[0], "r+b", buffering=0)
            self._console.close()
            self._console = None

    def close(self) -> None:
        """Close everything."""
        self.sent()
        for one in (self.stdin, self.stdout, self.stderr, self.terminal, self._console):
            if one is not None:
                one.close()
