"""The helper process, which runs the operations of the library.

Creating a container clones the calling process and changes its attributes. That is unsafe in a program with threads,
signal handlers and open files, whose interpreter is not protected against the container either (CVE-2019-5736). So
the first operation starts a helper by the launcher (`pyruntime serve`), which forks for each request. It is not a
child of the program, and exits with it.
"""

from __future__ import annotations

import array
import json
import os
import shutil
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from pyruntime.errors import PyruntimeError, from_json
from pyruntime.util import fastjson

_MAX_ANSWER = 256 * 1024
# A request of more goes as a file beside the packet (`request` of its descriptors): packets are limited by net.core.
MAX_PACKET = 64 * 1024

_lock = threading.Lock()
_connection: socket.socket | None = None


def executable() -> str:
    """Return the path of the launcher: of this installation or checkout, of the virtual environment, or in PATH.

    Raises PyruntimeError if none is found."""
    package = Path(__file__).resolve().parents[1]
    # PREFIX/lib/pyruntime/pyruntime and PREFIX/bin/pyruntime; a checkout's build/bin/pyruntime.
    for place in (package.parents[2] / "bin/pyruntime", package.parent / "build/bin/pyruntime"):
        if os.access(place, os.X_OK) and place.is_file():
            return str(place)
    # pip puts the command beside the interpreter of the environment.
    found = shutil.which("pyruntime", path=os.path.dirname(sys.executable)) or shutil.which("pyruntime")
    if found is None:
        raise PyruntimeError(
            "cannot find an executable pyruntime", hint="run make install, or make build in a checkout"
        )
    return found


def _connect() -> socket.socket:
    """Return the socket to the helper, and start it on first use."""
    global _connection
    with _lock:
        if _connection is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                program = executable()
                actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)]
                pid = os.posix_spawn(program, [program, "serve"], os.environ, file_actions=actions, setsigmask=())
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            try:
                os.waitpid(pid, 0)  # it leaves the helper behind at once
            except ChildProcessError:
                pass  # the program reaps all children itself
            _connection = ours
        return _connection


def _forget(connection: socket.socket) -> None:
    global _connection
    with _lock:
        if _connection is connection:
            _connection = None
            connection.close()


class Call:
    """A request to the helper, and its response."""

    def __init__(self, request: dict[str, object], fds: dict[str, int]) -> None:
        """Send a request with named descriptors. Raises PyruntimeError if the helper cannot be started."""
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        large = -1
        try:
            fds = {**fds, "reply": theirs.fileno()}
            data = json.dumps({**request, "fds": list(fds)}).encode("utf-8", "surrogateescape")
            if len(data) > MAX_PACKET:
                large = _in_memory(data)
                fds["request"] = large
                data = json.dumps({"fds": list(fds)}).encode()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds.values()))]
            for attempt in (0, 1):
                connection = _connect()
                try:
                    connection.sendmsg([data], rights)
                    break
                except (BrokenPipeError, ConnectionResetError, ConnectionRefusedError):
                    _forget(connection)  # it was killed
                    if attempt:
                        raise PyruntimeError("the helper process dies: pyruntime serve") from None
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()
            if large >= 0:
                os.close(large)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the response arrives."""
        return self.socket.fileno()

    def answer(self, timeout: float | None = None) -> Any:
        """Wait up to timeout seconds for the response. Raises the error of the operation, or TimeoutError."""
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(_MAX_ANSWER)
        except ConnectionResetError:
            data = b""
        finally:
            self.close()
        if not data:
            raise PyruntimeError("the helper process died during the operation")
        answered = fastjson.loads(data.decode("utf-8", "surrogateescape"))
        if "error" in answered:
            raise from_json(answered["error"])
        for text in answered["warnings"]:
            _warn(text)
        return answered["value"]

    def close(self) -> None:
        """Stop waiting for the response."""
        self.socket.close()


def _in_memory(data: bytes) -> int:
    """Return an anonymous file that contains data."""
    fd = os.memfd_create("request")
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _warn(text: str) -> None:
    import logging

    logging.getLogger("pyruntime").warning("%s", text)
