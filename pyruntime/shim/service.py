"""The shim as a process: from `start`, which leaves it behind, to Shutdown."""

from __future__ import annotations

import _socket
import gc
import posix
import time

from pyruntime.kernel import process
from pyruntime.kernel.constants import PR_SET_CHILD_SUBREAPER
from pyruntime.shim.event_loop import Loop
from pyruntime.shim.events import Publisher
from pyruntime.shim.task import Tasks
from pyruntime.shim.ttrpc import Server
from pyruntime.util import fastjson

# What children need, from here on in memory that they share.
from pyruntime.features.cgroups import devices as _devices  # noqa: F401  # isort: skip
from pyruntime.features.cgroups import remove as _remove  # noqa: F401  # isort: skip
from pyruntime.features import registry as _build  # noqa: F401  # isort: skip
from pyruntime.features.rootfs import cgroup_mounts as _cgroup_mounts  # noqa: F401  # isort: skip
from pyruntime.features.rootfs import console as _console  # noqa: F401  # isort: skip
from pyruntime.runtime import exec_fifo as _fifo  # noqa: F401  # isort: skip
from pyruntime.runtime import parent as _parent  # noqa: F401  # isort: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.util.ids import Namespace

_LAST_EVENTS_SECONDS = 5.0


class Service:
    """Serves the task service at a listening socket until it is told to shut down.

    path: the socket's, which is removed at the end. events: containerd's address for events, "" for none."""

    def __init__(self, listener: _socket.socket, path: str, namespace: Namespace, events: str) -> None:
        self.path = path
        self.loop = Loop(lambda: self.tasks.reap(), self._failed)
        self.publisher = Publisher(self.loop, events, namespace, warn)
        self.tasks = Tasks(self.loop, namespace, self.publisher, warn)
        self.tasks.shutdown = self.shut_down
        self.server = Server(self.loop, listener, self.tasks.handle)

    def serve(self) -> None:
        """Serve."""
        process.prctl(PR_SET_CHILD_SUBREAPER, 1)
        gc.collect()
        gc.freeze()  # children share these pages; nothing shall be written into them for the collector's sake
        gc.enable()  # the launcher has it off, and this process lives long
        self.loop.run()
        try:
            posix.unlink(self.path)
        except FileNotFoundError:
            pass

    def shut_down(self) -> None:
        """End once every answer and every event is on its way."""
        if self.publisher.empty() and self.server.flushed():
            self.loop.stop()
            return
        self.publisher.idle = self.loop.stop
        self.loop.later(_LAST_EVENTS_SECONDS, self.loop.stop)

    def _failed(self, error: Exception) -> None:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""
        warn(f"bug in pyruntime's shim: {type(error).__name__}: {error}{where}")


def warn(text: str) -> None:
    """A line for containerd's log, by way of standard error, which is the bundle's fifo `log`."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = f"time={fastjson.dumps(now)} level=warning msg={fastjson.dumps(text)}\n"
    try:
        posix.write(2, line.encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # nobody reads it, and the pipe is full
