"""Copy from one descriptor to another without blocking."""

from __future__ import annotations

import posix

from pyruntime.kernel.constants import EIO
from pyruntime.shim.event_loop import READ, WRITE, Loop, close

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 65536


class Copy:
    """Copy until end of file, then close both descriptors and call `ended`.

    The source is not read while the sink is full, so only its own writer blocks.
    source, sink: descriptors, owned and set to O_NONBLOCK here. output: an output of a process, not its input.
    failed: called with the first write error; further input is then discarded, so that the writer gets no SIGPIPE.
    Without it the copy ends at the error."""

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
        """Stop and discard data that is not yet written."""
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
            if error.errno != EIO:  # the slave of the terminal is closed
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
            if self.failed is None:  # EPIPE, EIO: permanent, no reader
                self._end()
                return
            if not self._warned:  # ENOSPC, EDQUOT: temporary
                self._warned = True
                self.failed(error)
        self.loop.forget(self.sink)
        self.loop.watch(self.source, READ, self._read)

    def _end(self) -> None:
        self.close()
        self.ended()
