"""Operations in forked children of the shim, each bounded in time (commands/forked.py)."""

from __future__ import annotations

import posix

from pyruntime.commands import forked
from pyruntime.commands.settings import Settings
from pyruntime.errors import PyruntimeError, from_oserror
from pyruntime.shim import standby as spares
from pyruntime.shim.event_loop import READ, Loop
from pyruntime.shim.standby import Spare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyruntime.util.ids import ContainerId

    # (value, None) or (None, error)
    Done = Callable[[object, PyruntimeError | None], None]

_SIGKILL = 9
_CHUNK = 65536


class Lost(PyruntimeError):
    """A child ended without a word, or had to be killed: what it has made is still there."""


class Jobs:
    """The children at work.

    pids: of those that are not reaped yet. birthing: how many may bring a container's process to life, whose exit
    may be reaped before its pid is known."""

    def __init__(self, loop: Loop, warn: Callable[[str], None]) -> None:
        self.loop = loop
        self.warn = warn
        self.pids: set[int] = set()
        self.birthing = 0

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
        birth: bool = False,
        spare: Spare | None = None,
        **arguments: Any,
    ) -> None:
        """Do work(settings, id, **arguments) in a child, and call done once with what came of it.

        Raises nothing: done gets the error also when there can be no child. After so many seconds the child is killed,
        and done gets an error. spare: a child that is there already."""
        if spare is not None and spare.tell(arguments.get("mounts", []), stdio, console):
            pid, reading = spare.pid, spare.reading
        else:
            if spare is not None:
                spare.dismiss()
            try:
                pid, reading = self._fork(name, work, settings, id, stdio=stdio, console=console, arguments=arguments)
            except OSError as error:  # EAGAIN, EMFILE, ENOMEM
                lost = from_oserror(error, doing=f"fork a process for {name}")
                self.loop.later(0, lambda: done(None, lost))  # not before this returns, as always
                return
        self.birthing += birth
        data = bytearray()
        late = False

        def expired() -> None:
            nonlocal late
            late = True
            if pid in self.pids:
                posix.kill(pid, _SIGKILL)  # not reaped, so still this child's pid

        timer = self.loop.later(seconds, expired)

        def ready(events: int) -> None:
            chunk = posix.read(reading, _CHUNK)
            data.extend(chunk)
            # An answer does not wait for the end of the child, which has memory to give back.
            if chunk and not data.endswith(forked.END):
                return
            self.loop.forget(reading)
            posix.close(reading)
            timer.cancel()
            value, error = None, None
            try:
                if not data:
                    raise Lost(f"{name}: " + (f"not done within {seconds:g} s, and given up" if late else "killed"))
                value, warnings = forked.result(bytes(data), name)
                for text in warnings:
                    self.warn(text)
            except PyruntimeError as raised:
                error = raised
            except ValueError:
                error = Lost(f"{name}: killed while it answered")
            try:
                done(value, error)
            finally:
                self.birthing -= birth

        self.loop.watch(reading, READ, ready)

    def _fork(
        self, name: str, work: Callable[..., object], settings: Settings, id: ContainerId, **options: Any
    ) -> tuple[int, int]:
        """Fork a child as forked.fork does: its pid, and where its answer will be read."""
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
    ) -> Spare:
        """Fork a child that may be asked to do `name` later (spare.py). Raises OSError."""
        ours, theirs = spares.pair()
        try:
            arguments = {"socket": theirs.fileno(), **arguments}
            pid, reading = self._fork(name, work, made, id, kept=(theirs.fileno(),), arguments=arguments)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Spare(self.loop, pid, reading, ours)
