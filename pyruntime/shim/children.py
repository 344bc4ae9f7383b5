"""Operations in forked children of the shim, each bounded in time (commands/forked.py)."""

from __future__ import annotations

import posix

from pyruntime.commands import forked
from pyruntime.commands.settings import Settings
from pyruntime.errors import PyruntimeError, from_oserror
from pyruntime.kernel.constants import SIGKILL
from pyruntime.shim import prefork as preforks
from pyruntime.shim.event_loop import READ, Loop
from pyruntime.shim.prefork import Prefork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyruntime.util.ids import ContainerId

    # (value, None) or (None, error)
    Done = Callable[[object, PyruntimeError | None], None]

_CHUNK = 65536


class ChildDied(PyruntimeError):
    """A child died or was killed without a result: what it created still exists."""


class Children:
    """The children that run operations.

    pids:     of children not reaped yet.
    spawning: number of children that may spawn a process of a container, whose exit may be reaped before its pid
              is known."""

    def __init__(self, loop: Loop, warn: Callable[[str], None]) -> None:
        self.loop = loop
        self.warn = warn
        self.pids: set[int] = set()
        self.spawning = 0

    def run(
        self,
        name: str,
        work: Callable[..., object],
        settings: Settings,
        id: ContainerId,
        done: Done,
        *,
        seconds: float,
        stdio: tuple[int, ...] = (),
        console: int = -1,
        spawns: bool = False,
        prefork: Prefork | None = None,
        **arguments: Any,
    ) -> None:
        """Run work(settings, id, **arguments) in a child, and call done(value, error) once.

        Raises nothing: done gets the error of fork(2), too. After `seconds` the child is killed, and done gets an
        error. spawns: the operation spawns a process. prefork: a preforked child to use."""
        if prefork is not None and prefork.send(arguments.get("mounts", []), stdio, console):
            pid, reading = prefork.pid, prefork.reading
        else:
            if prefork is not None:
                prefork.cancel()
            try:
                pid, reading = self._fork(name, work, settings, id, stdio=stdio, console=console, arguments=arguments)
            except OSError as error:  # EAGAIN, EMFILE, ENOMEM
                lost = from_oserror(error, doing=f"fork a process for {name}")
                self.loop.later(0, lambda: done(None, lost))  # done is never called before this returns
                return
        self.spawning += spawns
        data = bytearray()
        late = False

        def expired() -> None:
            nonlocal late
            late = True
            if pid in self.pids:
                posix.kill(pid, SIGKILL)  # not reaped, so the pid cannot have been reused

        timer = self.loop.later(seconds, expired)

        def ready(events: int) -> None:
            chunk = posix.read(reading, _CHUNK)
            data.extend(chunk)
            # Do not wait for the child to exit: freeing its memory takes time.
            if chunk and not data.endswith(forked.END):
                return
            self.loop.forget(reading)
            posix.close(reading)
            timer.cancel()
            value, error = None, None
            try:
                if not data:
                    raise ChildDied(f"{name}: " + (f"timed out after {seconds:g} s" if late else "killed"))
                value, warnings = forked.result(bytes(data), name)
                for text in warnings:
                    self.warn(text)
            except PyruntimeError as raised:
                error = raised
            except ValueError:
                error = ChildDied(f"{name}: child died while writing its result")
            try:
                done(value, error)
            finally:
                self.spawning -= spawns

        self.loop.watch(reading, READ, ready)

    def _fork(
        self, name: str, work: Callable[..., object], settings: Settings, id: ContainerId, **options: Any
    ) -> tuple[int, int]:
        """Fork a child like forked.fork. Return its pid and the descriptor for its result."""
        reading, writing = posix.pipe2(posix.O_CLOEXEC)
        try:
            pid = forked.fork(name, work, settings, id, writing, tied=True, **options)
        except BaseException:
            posix.close(reading)
            raise
        finally:
            posix.close(writing)
        self.pids.add(pid)
        return pid, reading

    def prepare(
        self, name: str, work: Callable[..., object], made: Settings, id: ContainerId, **arguments: object
    ) -> Prefork:
        """Prefork a child for operation `name` (prefork.py). Raises OSError."""
        ours, theirs = preforks.pair()
        try:
            arguments = {"socket": theirs.fileno(), **arguments}
            pid, reading = self._fork(name, work, made, id, kept=(theirs.fileno(),), arguments=arguments)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Prefork(self.loop, pid, reading, ours)
