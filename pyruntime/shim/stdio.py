"""What a container's process gets as standard input, output and error, and what the shim holds of it.

The client makes fifos and gives their paths. A process gets the fifos themselves: nothing is copied, a slow reader
stops nobody but the writer, and a killed shim breaks no pipe. The shim holds the other ends, so that a client that
goes away is no end of file and no SIGPIPE for the container.

Copied is where it has to be: terminals, and processes with a label of AppArmor or SELinux, whose rules may know
nothing of a fifo outside the container.
"""

from __future__ import annotations

import posix

from pyruntime.errors import PyruntimeError, from_oserror
from pyruntime.shim.copying import Copy
from pyruntime.shim.loop import READ, Loop, close

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_O_CLOEXEC = posix.O_CLOEXEC
_READY_SECONDS = 10.0
_DRAIN_SECONDS = 10.0


class Stdio:
    """The streams of one process.

    stdin, stdout, stderr: a path, file://PATH, binary://PROGRAM?NAME=VALUE, or "" for none.
    fds: what the process gets, once `open` has said that it is ready; [] with a terminal.
    master: the terminal's, -1 without."""

    def __init__(self, loop: Loop, stdin: str, stdout: str, stderr: str, terminal: bool) -> None:
        self.loop = loop
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.terminal = terminal
        self.fds: list[int] = []
        self.master = -1
        self._keepers: list[int] = []  # the reading ends of outputs
        self._input = -1  # the writing end of the input, until CloseIO
        self._copies: list[Copy] = []
        self._drained: list[Callable[[], None]] = []

    def open(
        self,
        ready: Callable[[PyruntimeError | None], None],
        *,
        indirect: bool = False,
        owner: tuple[int, int] = (0, 0),
        names: tuple[str, str] = ("", ""),
    ) -> None:
        """Open everything for a process without a terminal, then call ready, with the error if there was one.

        indirect: copy, do not pass fifos on. owner: uid and gid that the streams belong to.
        names: id and containerd namespace, for a logging program."""
        try:
            self.fds.append(self._open_input(self.stdin, indirect))
            if self.stdout.startswith("binary://"):
                self._start_logger(ready, names)
                return
            self.fds.append(self._open_output(self.stdout, indirect))
            same = self.stderr == self.stdout and self.stderr
            self.fds.append(posix.dup(self.fds[1]) if same else self._open_output(self.stderr, indirect))
            if owner != (0, 0):
                for fd in self.fds:
                    posix.fchown(fd, *owner)
        except OSError as error:
            self.close()
            ready(from_oserror(error, doing="open the streams of the process"))
            return
        ready(None)

    def passed(self) -> None:
        """The process has them: close the shim's own copies."""
        for fd in self.fds:
            posix.close(fd)
        self.fds.clear()

    def attach(self, master: int) -> None:
        """Serve a terminal whose master has come: copy both ways."""
        self.master = master
        if self.stdin:
            fifo = posix.open(self.stdin, posix.O_RDONLY | posix.O_NONBLOCK | _O_CLOEXEC)
            self._input = posix.open(self.stdin, posix.O_WRONLY | posix.O_NONBLOCK | _O_CLOEXEC)
            self._copies.append(Copy(self.loop, fifo, master, lambda: None, owned=(fifo,)))
        if self.stdout:
            sink = self._open_output(self.stdout, False)
            self._add_output(master, sink, owned=(sink,))

    def files(self) -> list[str]:
        """The paths of what the process got, unless it was copied: input, output, error; [] where one has no path."""
        uris = (self.stdin, self.stdout, self.stderr)
        if self.terminal or any(uri.startswith("binary://") for uri in uris):
            return []
        return [_path(uri) if "://" in uri else uri or "/dev/null" for uri in uris]

    def close_input(self) -> None:
        """CloseIO: the process reads an end once its client has closed, too."""
        self._input = close(self._input)

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size (ioctl_tty(2), TIOCSWINSZ)."""
        import fcntl

        from pyruntime.kernel.constants import TIOCSWINSZ

        if self.master >= 0:
            fcntl.ioctl(self.master, TIOCSWINSZ, height.to_bytes(2, "little") + width.to_bytes(2, "little") + bytes(4))

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call once what the process has written is in the client's hands, or after 10 s."""
        if not self._outputs():
            call()
            return
        self._drained.append(call)
        self.loop.later(_DRAIN_SECONDS, self._end_output)

    def close(self) -> None:
        """Close everything."""
        self.passed()
        self.close_input()
        for copy in self._copies:
            copy.close()
        self._copies.clear()
        for fd in self._keepers:
            posix.close(fd)
        self._keepers.clear()
        self.master = close(self.master)

    def _open_input(self, path: str, indirect: bool) -> int:
        if not path:
            return posix.open("/dev/null", posix.O_RDONLY | _O_CLOEXEC)
        # Reading without waiting for a writer, then a writer of our own, then one for the process that may wait.
        reading = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | _O_CLOEXEC)
        self._input = posix.open(path, posix.O_WRONLY | posix.O_NONBLOCK | _O_CLOEXEC)
        if indirect:
            source, sink = posix.pipe2(_O_CLOEXEC)
            self._copies.append(Copy(self.loop, reading, sink, lambda: None, owned=(reading, sink)))
            return source
        fd = posix.open(path, posix.O_RDONLY | _O_CLOEXEC)
        posix.close(reading)
        return fd

    def _open_output(self, uri: str, indirect: bool) -> int:
        if not uri:
            return posix.open("/dev/null", posix.O_WRONLY | _O_CLOEXEC)
        if uri.startswith("file://"):
            path = _path(uri)
            try:
                posix.mkdir(path.rpartition("/")[0] or "/", 0o755)
            except OSError:
                pass
            return posix.open(path, posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | _O_CLOEXEC, 0o644)
        path = _path(uri) if uri.startswith("fifo://") else uri
        self._keepers.append(posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | _O_CLOEXEC))
        fifo = posix.open(path, posix.O_WRONLY | _O_CLOEXEC)
        if not indirect:
            return fifo
        source, sink = posix.pipe2(_O_CLOEXEC)
        self._add_output(source, fifo, owned=(source, fifo))
        return sink

    def _add_output(self, source: int, sink: int, owned: tuple[int, ...]) -> None:
        def ended() -> None:
            self._copies.remove(copy)
            if not self._outputs():
                self._tell_drained()

        copy = Copy(self.loop, source, sink, ended, owned=owned)
        copy.output = True
        self._copies.append(copy)

    def _outputs(self) -> bool:
        return any(copy.output for copy in self._copies)

    def _end_output(self) -> None:
        for copy in [copy for copy in self._copies if copy.output]:
            copy.close()
            self._copies.remove(copy)
        self._tell_drained()

    def _tell_drained(self) -> None:
        calls, self._drained = self._drained, []
        for call in calls:
            call()

    def _start_logger(self, ready: Callable[[PyruntimeError | None], None], names: tuple[str, str]) -> None:
        """binary://: a program that reads both outputs at 3 and 4, and closes 5 once it is ready."""
        path, _, query = self.stdout.removeprefix("binary://").partition("?")
        args = [path, *(word for pair in query.split("&") if pair for word in _unquoted(pair))]
        pipes = [posix.pipe2(_O_CLOEXEC) for _ in range(3)]
        (out_read, out_write), (err_read, err_write), (ready_read, ready_write) = pipes
        given = (out_read, err_read, ready_write)
        actions: list[tuple[int, ...]] = []
        # By way of numbers that none of 3, 4, 5 is: each may be where another has to go.
        for index, fd in enumerate(given):
            actions.append((posix.POSIX_SPAWN_DUP2, fd, 100 + index))
        for index in range(3):
            actions.append((posix.POSIX_SPAWN_DUP2, 100 + index, 3 + index))
        for index in range(3):
            actions.append((posix.POSIX_SPAWN_CLOSE, 100 + index))
        environment = {b"CONTAINER_ID": names[0].encode(), b"CONTAINER_NAMESPACE": names[1].encode()}
        try:
            posix.posix_spawn(path, args, {**posix.environ, **environment}, file_actions=actions, setsigmask=())
        except OSError as error:
            for fd in (out_write, err_write, ready_read):
                posix.close(fd)
            self.close()
            ready(from_oserror(error, doing=f"start the logging program {path}"))
            return
        finally:
            for fd in given:
                posix.close(fd)
        self.fds += [out_write, err_write]

        def answered(events: int) -> None:
            self.loop.forget(ready_read)
            posix.close(ready_read)
            timer.cancel()
            ready(None)

        def late() -> None:
            self.loop.forget(ready_read)
            posix.close(ready_read)
            self.close()
            ready(PyruntimeError(f"the logging program {path} was not ready within {_READY_SECONDS:g} s"))

        timer = self.loop.later(_READY_SECONDS, late)
        self.loop.watch(ready_read, READ, answered)


def _path(uri: str) -> str:
    """The path of file:///path?…"""
    return _unquote(uri.partition("://")[2].partition("?")[0])


def _unquoted(pair: str) -> list[str]:
    name, equals, value = pair.partition("=")
    return [_unquote(name), _unquote(value)] if equals and value else [_unquote(name)]


def _unquote(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    from urllib.parse import unquote_plus

    return unquote_plus(text)
