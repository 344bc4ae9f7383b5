"""The shim process, from `start` to Shutdown."""

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

# Imported here so that forked children share the memory.
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
    """Serve the task service on a listening socket until Shutdown.

    path: of the socket, removed at the end. events: containerd's address for events, "" for none."""

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
        gc.freeze()  # keep the garbage collector from writing to pages that children share
        gc.enable()  # disabled by the launcher; this process is long-running
        self.loop.run()
        try:
            posix.unlink(self.path)
        except FileNotFoundError:
            pass

    def shut_down(self) -> None:
        """Stop once all responses and events are sent."""
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
    """Write a line to containerd's log: standard error is the fifo `log` of the bundle."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = f"time={fastjson.dumps(now)} level=warning msg={fastjson.dumps(text)}\n"
    try:
        posix.write(2, line.encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # the fifo is full and has no reader
