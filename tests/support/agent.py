"""A seccomp agent: waits on a socket for a container's listener and answers for the system calls it is asked
about (seccomp_unotify(2))."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import struct
import threading
from pathlib import Path
from typing import Any

_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
_NOTIFICATION = struct.Struct("=QII iIQ 6Q")  # struct seccomp_notif with seccomp_data
_RESPONSE = struct.Struct("=QqiI")  # struct seccomp_notif_resp


class Agent:
    """Listens at `path`; `message` is what came with the listener, `asked` the numbers of the system calls.

    Every call gets the error `errno` for an answer; none of a silent agent, which only listens."""

    def __init__(self, path: Path, errno: int, silent: bool = False) -> None:
        self.errno = errno
        self.silent = silent
        self.message: dict[str, Any] = {}
        self.fds = 0
        self.asked: list[int] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._end, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        os.close(self._stop)
        self._thread.join(10)
        self._socket.close()
        os.close(self._end)

    def _serve(self) -> None:
        if self._socket not in select.select([self._socket, self._end], [], [])[0]:
            return
        connection, _ = self._socket.accept()
        data = b""
        listeners: list[int] = []
        with connection:
            while True:
                part, fds, _, _ = socket.recv_fds(connection, 65536, 8)
                listeners += fds
                if not part:
                    break
                data += part
        self.message = json.loads(data)
        self.fds = len(listeners)
        for listener in listeners:
            self._answer(listener)
            os.close(listener)

    def _answer(self, listener: int) -> None:
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        if not self.silent:
            poll.register(listener, select.POLLIN)
        # POLLHUP alone says that all are gone who could ask; to receive would wait for ever then (Linux 6.1).
        while dict(poll.poll()).get(listener, 0) & select.POLLIN:
            request = bytearray(_NOTIFICATION.size)
            try:
                fcntl.ioctl(listener, _RECEIVE, request)
                id, _, _, number, *_ = _NOTIFICATION.unpack(request)
                self.asked.append(number)
                fcntl.ioctl(listener, _SEND, _RESPONSE.pack(id, 0, -self.errno, 0))
            except FileNotFoundError:
                continue  # the process that asked is gone
