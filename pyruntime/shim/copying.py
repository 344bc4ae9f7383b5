"""Copying from one descriptor to another, without ever waiting for either."""

from __future__ import annotations

import posix

from pyruntime.shim.loop import READ, WRITE, Loop, close

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 65536
_EIO = 5


class Copy:
    """Copies until the source ends, then closes what it owns and calls `ended`.

    Nothing is read while the sink takes nothing: who writes to the source then waits, and nobody else does.
    source, sink: descriptors, set to non-blocking here. A master of a terminal is source of one copy and sink of
    another; closing is up to the owner then (owned)."""

    def __init__(
        self, loop: Loop, source: int, sink: int, ended: Callable[[], None], owned: tuple[int, ...] = ()
    ) -> None:
        self.loop = loop
        # Descriptors of its own: poll(2) has one entry for each, and two copies may have the master.
        self.source = posix.dup(source)
        self.sink = posix.dup(sink)
        self.ended = ended
        self.output = False
        self._data = b""
        for fd in (self.source, self.sink):
            posix.set_blocking(fd, False)
        for fd in owned:
            posix.close(fd)
        loop.watch(self.source, READ, self._read)

    def close(self) -> None:
        """Stop; what was read and not written is lost."""
        for fd in (self.source, self.sink):
            self.loop.forget(fd)
        self.source = close(self.source)
        self.sink = close(self.sink)

    def _read(self, events: int) -> None:
        try:
            self._data = posix.read(self.source, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != _EIO:  # a terminal's other side is closed
                self._end()
                raise
            self._data = b""
        if not self._data:
            self._end()
            return
        self._write(WRITE)

    def _write(self, events: int) -> None:
        try:
            while self._data:
                self._data = self._data[posix.write(self.sink, self._data) :]
        except BlockingIOError:
            self.loop.forget(self.source)
            self.loop.watch(self.sink, WRITE, self._write)
            return
        except OSError:
            self._end()  # EPIPE, EIO: nobody will ever read it
            return
        self.loop.forget(self.sink)
        self.loop.watch(self.source, READ, self._read)

    def _end(self) -> None:
        self.close()
        self.ended()
