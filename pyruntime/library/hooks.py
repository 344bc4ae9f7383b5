"""Functions of the calling program as hooks.

config.json can only name programs (runtime-spec config.md, "POSIX-platform Hooks"). So the hook is the program
`pyruntime callhook SOCKET NUMBER`, which passes the container's state to a thread of this program by a socket that
only its user can access, and fails if the function does.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Callable

from pyruntime.errors import UsageError
from pyruntime.library.helper import executable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.spec import sections

Hook = Callable[[dict[str, object]], object]

# Hooks of the runtime namespace: others would have to connect to this program from within the container.
KINDS = ("prestart", "createRuntime", "poststart", "poststop")

_lock = threading.Lock()
_listener: Listener | None = None


def entry(kind: str, function: Hook, timeout: int | None = None) -> sections.Hook:
    """Return an entry of `hooks` that calls a function. timeout: seconds. Raises UsageError."""
    if kind not in KINDS:
        raise UsageError(f"a function cannot be a {kind} hook", hint=f"use one of {', '.join(KINDS)}")
    global _listener
    with _lock:
        if _listener is None or _listener.owner != os.getpid():
            _listener = Listener()
        number = _listener.add(function)
    program = executable()
    hook: sections.Hook = {"path": program, "args": ["pyruntime", "callhook", _listener.path, str(number)]}
    if timeout is not None:
        hook["timeout"] = timeout
    return hook


class Listener:
    """A socket with a thread that accepts connections. path: of the socket; owner: pid of the process."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.functions: dict[int, Hook] = {}
        self.numbers = itertools.count(1)
        directory = tempfile.mkdtemp(prefix="pyruntime-hooks-")
        self.path = f"{directory}/socket"
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen()
        atexit.register(self.close, directory)
        threading.Thread(target=self._serve, name="pyruntime-hooks", daemon=True).start()

    def add(self, function: Hook) -> int:
        """Register a function. Return its number."""
        number = next(self.numbers)
        self.functions[number] = function
        return number

    def close(self, directory: str) -> None:
        """Remove the socket, unless this is a fork of its owner."""
        if os.getpid() == self.owner:
            shutil.rmtree(directory, ignore_errors=True)

    def _serve(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        """Serve a request {"number", "state"}: call the function, and send {"error"}."""
        with connection:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            if struct.unpack("3i", credentials)[1] not in (0, os.geteuid()):
                return
            error = None
            try:
                with connection.makefile("rb") as file:
                    request = json.loads(file.read())
                self.functions[request["number"]](request["state"])
            except BaseException as raised:  # report any exception of the function, and keep the thread running
                error = f"{type(raised).__name__}: {raised}"
            with contextlib.suppress(OSError):  # its time-out has ended the hook
                connection.sendall(json.dumps({"error": error}).encode())
