"""What a container's process gets as standard input, output and error, and what the shim holds of it.

The client makes fifos and gives their paths. A process gets the fifos themselves: nothing is copied, a slow reader
stops nobody but the writer, and a killed shim breaks no pipe. The shim holds the other ends, so that a client that
goes away is no end of file and no SIGPIPE for the container.

Copied through a pipe is what has to be: terminals; the streams of a process with a label of AppArmor or SELinux, whose
rules may know nothing of a fifo outside the container; and every stream that leads to something other than a fifo. A
process that held a log file of the host by a descriptor could truncate it, change its mode, and execute it.
"""

from __future__ import annotations

import fcntl
import posix
import time

from pyruntime.errors import PyruntimeError, from_oserror
from pyruntime.shim.copying import Copy
from pyruntime.shim.event_loop import READ, Loop, close

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_O_CLOEXEC = posix.O_CLOEXEC
_READY_SECONDS = 10.0
_DRAIN_SECONDS = 10.0
_READ_SECONDS, _LOOK_SECONDS = 0.3, 0.002
_S_IFMT, _S_IFIFO, _S_IFDIR = 0o170000, 0o010000, 0o040000
_EISDIR = 21
_NULL = "/dev/null"
_DOING = "open the streams of the process"


class Stdio:
    """The streams of one process.

    stdin, stdout, stderr: a path, file://PATH, binary://PROGRAM?NAME=VALUE, or "" for none.
    fds: what the process gets, once `open` has said that it is ready; [] with a terminal.
    links: how a checkpoint names these (criu/images.py): a path of the host, `pipe:[INODE]`, or /dev/null,
           the container's own (features/process/null_device.py).
    master: the terminal's, -1 without.
    warn: called with what a client should know, in words."""

    def __init__(
        self,
        loop: Loop,
        stdin: str,
        stdout: str,
        stderr: str,
        terminal: bool,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.loop = loop
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.terminal = terminal
        self.warn = warn
        self.fds: list[int] = []
        self.links: list[str] = []
        self.master = -1
        self._owner = 0, 0
        self._indirect = False
        self._pending: set[int] = set()  # descriptors that are in no list yet
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

        indirect: copy, do not pass fifos on. owner: uid and gid that fifos and pipes of the process belong to.
        names: id and containerd namespace, for a logging program."""
        self._indirect, self._owner = indirect, owner
        self.links.clear()
        logger = self.stdout.startswith("binary://")
        waits = -1
        try:
            self._give(*self._open_input(self.stdin))
            if logger:
                waits = self._start_logger(names)
            else:
                self._give(*self._open_output(self.stdout))
                if self.stderr and self.stderr == self.stdout:
                    self._give(self._note(posix.dup(self.fds[1])), self.links[1])
                else:
                    self._give(*self._open_output(self.stderr))
        except (OSError, PyruntimeError) as error:
            self.close()
            ready(error if isinstance(error, PyruntimeError) else from_oserror(error, doing=_DOING))
            return
        if logger:
            self._await_logger(waits, ready)
        else:
            ready(None)

    def passed(self) -> None:
        """The process has them: close the shim's own copies."""
        for fd in self.fds:
            posix.close(fd)
        self.fds.clear()

    def attach(self, master: int) -> None:
        """Serve a terminal whose master has come: copy both ways. Raises OSError."""
        self.master = master
        if self.stdin:
            source = self._open_source(self.stdin)
            self._add_copy(source, self._note(posix.dup(master)))
        if self.stdout:
            sink, path = self._open_sink(self.stdout)
            self._add_copy(self._note(posix.dup(master)), sink, output=True, path=path)

    def close_input(self) -> None:
        """CloseIO: the process reads an end once its client has closed, too."""
        self._input = close(self._input)

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size (ioctl_tty(2), TIOCSWINSZ)."""
        from pyruntime.kernel.constants import TIOCSWINSZ

        if self.master >= 0:
            fcntl.ioctl(self.master, TIOCSWINSZ, height.to_bytes(2, "little") + width.to_bytes(2, "little") + bytes(4))

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call once what the process has written is in the client's hands: after 10 s at the latest where it is copied,
        and after 0.3 s for a fifo. A client that is just about to open that would find nothing in it."""
        if self._outputs():
            self._drained.append(call)
            self.loop.later(_DRAIN_SECONDS, self._end_output)
            return
        for fd in self._keepers:
            if _unread(fd):
                try:  # a writer, without which open(2) of the client would wait
                    self._note(posix.open(f"/proc/self/fd/{fd}", posix.O_WRONLY | posix.O_NONBLOCK | _O_CLOEXEC))
                except OSError:
                    pass  # EMFILE: then only a client that has it open already
        self._await_reader(call, time.monotonic() + _READ_SECONDS)

    def _await_reader(self, call: Callable[[], None], deadline: float) -> None:
        if time.monotonic() < deadline and any(_unread(fd) for fd in self._keepers):
            self.loop.later(_LOOK_SECONDS, lambda: self._await_reader(call, deadline))
        else:
            call()

    def close(self) -> None:
        """Close everything."""
        self.passed()
        self.close_input()
        for copy in self._copies:
            copy.close()
        self._copies.clear()
        for fd in (*self._keepers, *self._pending):
            posix.close(fd)
        self._keepers.clear()
        self._pending.clear()
        self.master = close(self.master)

    def _note(self, fd: int) -> int:
        """Close this descriptor with the rest, should what is done with it fail half-way."""
        self._pending.add(fd)
        return fd

    def _give(self, fd: int, link: str) -> None:
        """Let the process have a descriptor as its next stream.

        A fifo or pipe becomes the owner's, so that /dev/stdout can be opened again; a device of the host does not."""
        if self._owner != (0, 0) and _is_fifo(fd):
            posix.fchown(fd, *self._owner)
        self._pending.discard(fd)
        self.fds.append(fd)
        self.links.append(link)

    def _pipe(self) -> tuple[int, int, str]:
        """A pipe: (reading end, writing end, name)."""
        reading, writing = posix.pipe2(_O_CLOEXEC)
        return self._note(reading), self._note(writing), f"pipe:[{posix.fstat(reading).st_ino}]"

    def _open_source(self, path: str) -> int:
        """The client's end of the input, opened without waiting for a writer. A fifo gets one of ours, which CloseIO
        closes."""
        reading = self._note(posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | _O_CLOEXEC))
        kind = posix.fstat(reading).st_mode & _S_IFMT
        if kind == _S_IFDIR:
            raise IsADirectoryError(_EISDIR, "", path)
        if kind == _S_IFIFO:
            self._input = posix.open(path, posix.O_WRONLY | posix.O_NONBLOCK | _O_CLOEXEC)
        return reading

    def _open_input(self, path: str) -> tuple[int, str]:
        if not path:
            return self._note(posix.open(_NULL, posix.O_RDONLY | _O_CLOEXEC)), _NULL
        reading = self._open_source(path)
        if not self._indirect and _is_fifo(reading):
            posix.set_blocking(reading, True)
            return reading, path
        source, sink, link = self._pipe()
        self._add_copy(reading, sink)
        return source, link

    def _open_sink(self, uri: str) -> tuple[int, str]:
        """The client's end of an output: (descriptor, path)."""
        path = _path(uri) if "://" in uri else uri
        if uri.startswith("file://"):
            try:
                posix.mkdir(path.rpartition("/")[0] or "/", 0o755)
            except OSError:
                pass
            flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_NONBLOCK | _O_CLOEXEC
            return self._note(posix.open(path, flags, 0o644)), path
        keeper = self._note(posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | _O_CLOEXEC))
        sink = self._note(posix.open(path, posix.O_WRONLY | posix.O_NONBLOCK | _O_CLOEXEC))
        self._pending.discard(keeper)
        if _is_fifo(keeper):
            self._keepers.append(keeper)
        else:
            posix.close(keeper)
        return sink, path

    def _open_output(self, uri: str) -> tuple[int, str]:
        if not uri:
            return self._note(posix.open(_NULL, posix.O_WRONLY | _O_CLOEXEC)), _NULL
        sink, path = self._open_sink(uri)
        if not self._indirect and _is_fifo(sink) and not uri.startswith("file://"):
            posix.set_blocking(sink, True)
            return sink, path
        source, writing, link = self._pipe()
        self._add_copy(source, sink, output=True, path=path)
        return writing, link

    def _add_copy(self, source: int, sink: int, *, output: bool = False, path: str = "") -> None:
        """Copy from one descriptor to the other, which are closed with the copy. path: an output's, for messages."""

        def ended() -> None:
            self._copies.remove(copy)
            if output and not self._outputs():
                self._tell_drained()

        def failed(error: OSError) -> None:
            self.warn(f"output of the process is lost: {from_oserror(error, doing=f'write to {path}')}")

        copy = Copy(self.loop, source, sink, ended, output=output, failed=failed if path else None)
        self._pending -= {source, sink}
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

    def _start_logger(self, names: tuple[str, str]) -> int:
        """binary://: a program that reads both outputs at 3 and 4, and closes 5 once it is ready: where to see that."""
        path, _, query = self.stdout.removeprefix("binary://").partition("?")
        args = [path, *(word for pair in query.split("&") if pair for word in _unquoted(pair))]
        out, err, done = self._pipe(), self._pipe(), self._pipe()
        # By numbers above 5: each of 3, 4, 5 may be in use, and be where another one has to go.
        given = [self._note(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 6)) for fd in (out[0], err[0], done[1])]
        actions = [(posix.POSIX_SPAWN_DUP2, fd, 3 + index) for index, fd in enumerate(given)]
        environment = {b"CONTAINER_ID": names[0].encode(), b"CONTAINER_NAMESPACE": names[1].encode()}
        try:
            posix.posix_spawn(path, args, {**posix.environ, **environment}, file_actions=actions, setsigmask=())
        except OSError as error:
            raise from_oserror(error, doing=f"start the logging program {path}") from None
        for fd in (*given, out[0], err[0], done[1]):
            self._pending.discard(fd)
            posix.close(fd)
        self._give(out[1], out[2])
        self._give(err[1], err[2])
        self._pending.discard(done[0])
        return done[0]

    def _await_logger(self, fd: int, ready: Callable[[PyruntimeError | None], None]) -> None:
        """Call ready once the logging program has closed the other end of a pipe, or has not within 10 s."""

        def answered(events: int) -> None:
            self.loop.forget(fd)
            posix.close(fd)
            timer.cancel()
            ready(None)

        def late() -> None:
            self.loop.forget(fd)
            posix.close(fd)
            self.close()
            program = self.stdout.removeprefix("binary://").partition("?")[0]
            ready(PyruntimeError(f"the logging program {program} was not ready within {_READY_SECONDS:g} s"))

        timer = self.loop.later(_READY_SECONDS, late)
        self.loop.watch(fd, READ, answered)


def _unread(fd: int) -> int:
    """How many bytes a fifo holds."""
    from pyruntime.kernel.constants import FIONREAD

    return int.from_bytes(fcntl.ioctl(fd, FIONREAD, bytes(4)), "little")


def _is_fifo(fd: int) -> bool:
    return posix.fstat(fd).st_mode & _S_IFMT == _S_IFIFO


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
