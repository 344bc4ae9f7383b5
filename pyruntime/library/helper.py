"""The process that does for a program what the program should not do itself.

To make a container is to clone, and to change for a moment what the cloning process is. A program with threads,
signal handlers, open files and a garbage collector is no place for that, and its interpreter is not sealed against
the container (CVE-2019-5736). So the first operation starts a helper, `pyruntime serve` by the launcher, which
keeps an interpreter warm and forks for each request. It is not the program's child, and ends with the program.
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
    """The launcher: that of the installation or checkout that this package is part of, or the environment's, or PATH's.

    Raises PyruntimeError when there is none."""
    package = Path(__file__).resolve().parents[1]
    # PREFIX/lib/pyruntime/pyruntime and PREFIX/bin/pyruntime; a checkout's build/bin/pyruntime.
    for place in (package.parents[2] / "bin/pyruntime", package.parent / "build/bin/pyruntime"):
        if os.access(place, os.X_OK) and place.is_file():
            return str(place)
    # pip puts the command beside the interpreter of the environment.
    found = shutil.which("pyruntime", path=os.path.dirname(sys.executable)) or shutil.which("pyruntime")
    if found is None:
        raise PyruntimeError("there is no executable pyruntime", hint="run make install, or make build in a checkout")
    return found


def _connect() -> socket.socket:
    """The socket to the helper, which is started if there is none."""
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
                pass  # the program reaps everybody by itself
            _connection = ours
        return _connection


def _forget(connection: socket.socket) -> None:
    global _connection
    with _lock:
        if _connection is connection:
            _connection = None
            connection.close()


class Call:
    """One request to the helper, and the wait for its answer."""

    def __init__(self, request: dict[str, object], fds: dict[str, int]) -> None:
        """Send a request with named descriptors beside it. Raises PyruntimeError when no helper can be had."""
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
        """The descriptor that is readable once the answer is there."""
        return self.socket.fileno()

    def answer(self, timeout: float | None = None) -> Any:
        """Wait up to timeout seconds for the answer. Raises the operation's error, TimeoutError."""
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
        """Give up waiting."""
        self.socket.close()


def _in_memory(data: bytes) -> int:
    """A file without a name that holds data."""
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
