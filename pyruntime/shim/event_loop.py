"""A single-threaded event loop for descriptors, signals and timers."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has only `signal`, which is slow to import
import posix
import select
import time

from pyruntime.kernel import signalfd
from pyruntime.kernel.constants import SIGCHLD, SIGINT, SIGTERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ, WRITE = select.POLLIN, select.POLLOUT
_PAUSE_SECONDS = 0.1
_WATCHED = frozenset((SIGINT, SIGTERM, SIGCHLD))


class Timer:
    """A timer. due: time of CLOCK_MONOTONIC in seconds; call: None once it is cancelled."""

    __slots__ = ("call", "due")

    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Cancel the timer."""
        self.call = None


class Loop:
    """The loop. A callback must not block. If it raises, `failed` gets the exception and the loop continues; its
    descriptor is then not polled for 0.1 s, since it may stay ready.

    reap: called upon SIGCHLD. failed: called with the exception of a callback."""

    def __init__(self, reap: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        self.reap = reap
        self.failed = failed
        self.stopped = False
        self._calls: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._timers: list[Timer] = []
        self._poll = select.poll()
        _signal.pthread_sigmask(_signal.SIG_SETMASK, _WATCHED)
        self._signals = signalfd.open_signals(_WATCHED)
        self.watch(self._signals, READ, self._signal)

    def watch(self, fd: int, events: int, call: Callable[[int], None]) -> None:
        """Call `call(events)` whenever a descriptor is ready. Replaces an earlier watch of it."""
        self._poll.register(fd, events)
        self._calls[fd] = events, call

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor. To be called before it is closed."""
        if self._calls.pop(fd, None) is not None:
            try:
                self._poll.unregister(fd)
            except KeyError:
                pass  # paused

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call()` once after `seconds`."""
        timer = Timer(time.monotonic() + seconds, call)
        self._timers.append(timer)
        return timer

    def stop(self) -> None:
        """Make `run` return after the callbacks that are ready."""
        self.stopped = True

    def run(self) -> None:
        """Run callbacks until `stop`."""
        while not self.stopped:
            for fd, events in self._poll.poll(self._patience()):
                watched = self._calls.get(fd)
                if watched is None:  # removed by an earlier callback of this round
                    continue
                if not self._do(lambda call=watched[1], events=events: call(events)):  # type: ignore[misc]
                    self._pause(fd)
            now = time.monotonic()
            due = [timer for timer in self._timers if timer.due <= now]
            if due:
                self._timers = [timer for timer in self._timers if timer.due > now]
            for timer in due:
                if timer.call is not None:
                    self._do(timer.call)

    def _patience(self) -> int | None:
        self._timers = [timer for timer in self._timers if timer.call is not None]
        if not self._timers:
            return None
        left = min(timer.due for timer in self._timers) - time.monotonic()
        return max(0, int(left * 1000) + 1)

    def _do(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except Exception as error:
            self.failed(error)
            return False
        return True

    def _pause(self, fd: int) -> None:
        paused = self._calls.get(fd)
        if paused is None:
            return
        self._poll.unregister(fd)

        def resume() -> None:
            if self._calls.get(fd) is paused:
                self.watch(fd, *paused)

        self.later(_PAUSE_SECONDS, resume)

    def _signal(self, events: int) -> None:
        while number := signalfd.next_signal(self._signals):
            if number != SIGCHLD:
                self.stop()
        self.reap()


def close(fd: int) -> int:
    """Close a descriptor unless it is -1. Return -1, to assign to the variable that had it."""
    if fd >= 0:
        posix.close(fd)
    return -1
