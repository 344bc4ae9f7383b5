"""Copying from one descriptor to another, without ever waiting for either."""

from __future__ import annotations

import posix

from pyruntime.shim.event_loop import READ, WRITE, Loop, close

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 65536
_EIO = 5


class Copy:
    """Copies until the source ends, then closes both descriptors and calls `ended`.

    Nothing is read while the sink accepts nothing: the writer to the source waits then, and no other.
    source, sink: descriptors of its own, set to non-blocking here. output: what a process writes, not what it reads.
    failed: called with the first error of a sink that cannot be written to; what is read from then on is dropped, so
    that the writer gets no SIGPIPE. Without it the copy ends there."""

    def __init__(
        self,
        loop: Loop,
        source: int,
        sink: int,
        ended: Callable[[], None],
        *,
        output: bool = False,
        failed: Callable[[OSError], None] | None = None,
    ) -> None:
        self.loop = loop
        self.source = source
        self.sink = sink
        self.ended = ended
        self.output = output
        self.failed = failed
        self._warned = False
        self._data = b""
        for fd in (source, sink):
            posix.set_blocking(fd, False)
        loop.watch(source, READ, self._read)

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
        except OSError as error:
            self._data = b""
            if self.failed is None:  # EPIPE, EIO: nobody will ever read it
                self._end()
                return
            if not self._warned:  # ENOSPC, EDQUOT: there may be space again later
                self._warned = True
                self.failed(error)
        self.loop.forget(self.sink)
        self.loop.watch(self.source, READ, self._read)

    def _end(self) -> None:
        self.close()
        self.ended()
