"""Which files of a filesystem are opened, whoever does it and in whatever mount namespace (fanotify(7))."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

_CLOEXEC, _NONBLOCK, _UNLIMITED_QUEUE = 0x1, 0x2, 0x10
_MARK_ADD, _MARK_FILESYSTEM = 0x1, 0x100
_OPEN, _OPEN_EXEC, _ONDIR = 0x20, 0x1000, 0x40000000
_EVENT = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata


class Opened:
    """What has been opened below a directory that is a filesystem of its own: paths in it."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        flags = _CLOEXEC | _NONBLOCK | _UNLIMITED_QUEUE
        self._fd = _check(_libc.fanotify_init(flags, os.O_RDONLY | os.O_CLOEXEC), "fanotify_init")
        mask = ctypes.c_uint64(_OPEN | _OPEN_EXEC | _ONDIR)
        what = _MARK_ADD | _MARK_FILESYSTEM
        _check(_libc.fanotify_mark(self._fd, what, mask, -100, os.fsencode(self.root)), "fanotify_mark")

    def take(self) -> set[str]:
        """The paths that have been opened since the last call."""
        found = set()
        while True:
            try:
                data = os.read(self._fd, 65536)
            except BlockingIOError:
                return found
            while data:
                length, _, _, _, _, fd, _ = _EVENT.unpack_from(data)
                data = data[length:]
                if fd >= 0:
                    path = os.readlink(f"/proc/self/fd/{fd}")
                    os.close(fd)
                    found.add("/" + path.removeprefix(self.root).strip("/"))

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def opened_below(root: Path) -> Iterator[Opened]:
    """Watch meanwhile."""
    watch = Opened(root)
    try:
        yield watch
    finally:
        watch.close()


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
