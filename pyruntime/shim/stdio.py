"""Standard input, output and error of a container's process.

The client creates fifos and passes their paths. The process gets the fifos themselves: no data is copied, a slow
reader blocks only the writer, and no pipe breaks if the shim is killed. The shim holds the other ends open, so
that the container gets neither end of file nor SIGPIPE when the client disconnects.

Streams are copied where this is impossible: terminals; processes with an AppArmor profile or SELinux label, which may
deny access to a fifo outside the container; and streams to anything but a fifo. With a descriptor of a log file of
the host a process could truncate the file, change its mode, and execute it.
"""

from __future__ import annotations

import fcntl
import posix
import time

from pyruntime.errors import PyruntimeError, from_oserror
from pyruntime.kernel.constants import EISDIR, S_IFDIR, S_IFIFO, S_IFMT
from pyruntime.shim.copying import Copy
from pyruntime.shim.event_loop import READ, Loop, close

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_O_CLOEXEC = posix.O_CLOEXEC
_READY_SECONDS = 10.0
_DRAIN_SECONDS = 10.0
_READ_SECONDS, _LOOK_SECONDS = 0.3, 0.002
_NULL = "/dev/null"
_DOING = "open the streams of the process"


class Stdio:
    """The streams of a process.

    stdin, stdout, stderr: a path, file://PATH, binary://PROGRAM?NAME=VALUE, or "" for none.
    fds: descriptors for the process, valid once `open` has called ready; [] with a terminal.
    links: their names in a checkpoint (criu/images.py): a path of the host, `pipe:[INODE]`, or the container's
           /dev/null (features/process/null_device.py).
    master: descriptor of the terminal master, -1 without a terminal.
    warn: called with the text of a warning."""

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
        self._pending: set[int] = set()  # descriptors that no other list owns yet
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
        """Open the streams of a process without a terminal, then call ready with an error or None.

        indirect: copy instead of passing fifos. owner: uid and gid of the fifos and pipes.
        names: container id and containerd namespace, for a logging program."""
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
        """Close the shim's copies of the descriptors that the process got."""
        for fd in self.fds:
            posix.close(fd)
        self.fds.clear()

    def attach(self, master: int) -> None:
        """Copy between a terminal master and the client's fifos. Raises OSError."""
        self.master = master
        if self.stdin:
            source = self._open_source(self.stdin)
            self._add_copy(source, self._note(posix.dup(master)))
        if self.stdout:
            sink, path = self._open_sink(self.stdout)
            self._add_copy(self._note(posix.dup(master)), sink, output=True, path=path)

    def close_input(self) -> None:
        """Close the shim's end of the input: the process reads end of file once the client has closed its own."""
        self._input = close(self._input)

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size (ioctl_tty(2), TIOCSWINSZ)."""
        from pyruntime.kernel.constants import TIOCSWINSZ

        if self.master >= 0:
            fcntl.ioctl(self.master, TIOCSWINSZ, height.to_bytes(2, "little") + width.to_bytes(2, "little") + bytes(4))

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call back when the client has read the output: at the latest after 10 s if it is copied, 0.3 s for a fifo.

        A fifo that is closed earlier loses its data if the client has not opened it yet."""
        if self._outputs():
            self._drained.append(call)
            self.loop.later(_DRAIN_SECONDS, self._end_output)
            return
        for fd in self._keepers:
            if _unread(fd):
                try:  # a writer, without which open(2) of the client blocks
                    self._note(posix.open(f"/proc/self/fd/{fd}", posix.O_WRONLY | posix.O_NONBLOCK | _O_CLOEXEC))
                except OSError:
                    pass  # EMFILE: serve only a client that has opened it
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
        """Register a descriptor to be closed with the others on an error."""
        self._pending.add(fd)
        return fd

    def _give(self, fd: int, link: str) -> None:
        """Append a descriptor to those of the process.

        fchown(2) a fifo or pipe to the owner, so that /dev/stdout can be reopened; never a device of the host."""
        if self._owner != (0, 0) and _is_fifo(fd):
            posix.fchown(fd, *self._owner)
        self._pending.discard(fd)
        self.fds.append(fd)
        self.links.append(link)

    def _pipe(self) -> tuple[int, int, str]:
        """Create a pipe. Return (read end, write end, name)."""
        reading, writing = posix.pipe2(_O_CLOEXEC)
        return self._note(reading), self._note(writing), f"pipe:[{posix.fstat(reading).st_ino}]"

    def _open_source(self, path: str) -> int:
        """Open the input without waiting for a writer. For a fifo also open a writer, which CloseIO closes."""
        reading = self._note(posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | _O_CLOEXEC))
        kind = posix.fstat(reading).st_mode & S_IFMT
        if kind == S_IFDIR:
            raise IsADirectoryError(EISDIR, "", path)
        if kind == S_IFIFO:
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
        """Open an output. Return (descriptor, path)."""
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
        """Start a copy, which owns and closes both descriptors. path: of an output, for messages."""

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
        """Start a logging program (binary://), which reads both outputs from 3 and 4 and closes 5 when ready.

        Return the descriptor that gets end of file then."""
        path, _, query = self.stdout.removeprefix("binary://").partition("?")
        args = [path, *(word for pair in query.split("&") if pair for word in _unquoted(pair))]
        out, err, done = self._pipe(), self._pipe(), self._pipe()
        # Duplicate to numbers above 5 first: 3, 4 and 5 may be in use by each other.
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
        """Call ready once the logging program has closed the other end of a pipe, with an error after 10 s."""

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
    """Return the number of bytes in a fifo."""
    from pyruntime.kernel.constants import FIONREAD

    return int.from_bytes(fcntl.ioctl(fd, FIONREAD, bytes(4)), "little")


def _is_fifo(fd: int) -> bool:
    return posix.fstat(fd).st_mode & S_IFMT == S_IFIFO


def _path(uri: str) -> str:
    """Return the path of a URI such as file:///path?…"""
    return _unquote(uri.partition("://")[2].partition("?")[0])


def _unquoted(pair: str) -> list[str]:
    name, equals, value = pair.partition("=")
    return [_unquote(name), _unquote(value)] if equals and value else [_unquote(name)]


def _unquote(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    from urllib.parse import unquote_plus

    return unquote_plus(text)
