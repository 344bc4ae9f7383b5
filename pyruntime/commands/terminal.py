"""A process's terminal in the foreground: what is typed goes in, what it writes comes out, until it has ended.

The process has a pseudoterminal of the container's (features/rootfs/console.py), and we its master. So that nothing is
done twice, the caller's terminal is raw while we relay: line editing, echo and ^C are the inner terminal's
business. Only "new line becomes carriage return, new line" (ONLCR) is left to the outer one and taken from
the inner one, like runc: what the process writes comes out as written when our output is a file.
"""

from __future__ import annotations

import _socket
import fcntl
import posix
import select
import termios

from pyruntime.commands import foreground
from pyruntime.errors import StateError, StepError, strerror
from pyruntime.kernel.constants import SIGWINCH, TIOCSWINSZ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.plan.request import Request

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6  # what termios.tcgetattr gives, by place
_CHUNK = 4096  # PIPE_BUF: so much a pipe that polls as writable takes without blocking
_PENDING = 1 << 16


def wanted(request: Request) -> bool:
    """Return whether the process gets a terminal that this command has to relay."""
    return bool(request.process.get("terminal")) and not request.detach and not request.console_socket


class Relay(foreground.Source):
    """Between the caller's terminal and the process's.

    host:   the caller's terminal: standard input, output or error, or the controlling one.
    master: of the process's terminal, -1 before `connect`."""

    def __init__(self, request: Request) -> None:
        """Find the caller's terminal, and request one of its size.

        Raises StateError when there is none."""
        self.host = _find_host()
        self.master = -1
        self.saved: list[Any] | None = None
        self.pump: _Pump
        self.ours, request.console = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        rows, columns = _size(self.host)
        if rows and columns:
            # From the start, so that the process never sees another one.
            request.process["consoleSize"] = {"height": rows, "width": columns}

    def connect(self) -> None:
        """Take the master that init has sent, and make the caller's terminal raw. Raises StepError."""
        _, ancillary, _, _ = self.ours.recvmsg(64, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        self.ours.close()
        for level, kind, data in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                self.master = int.from_bytes(data[:4], "little")
        if self.master < 0:
            raise StepError("init sent no terminal")
        posix.set_blocking(self.master, False)
        self.pump = _Pump(self.master)
        inner = termios.tcgetattr(self.master)
        inner[_OFLAG] &= ~termios.ONLCR
        termios.tcsetattr(self.master, termios.TCSANOW, inner)
        if posix.isatty(0):  # else the keys of the caller's terminal are not for the process
            self.saved = termios.tcgetattr(self.host)
            termios.tcsetattr(self.host, termios.TCSANOW, _raw(termios.tcgetattr(self.host)))

    def restore(self) -> None:
        """Leave the caller's terminal as it was found. May be called at any time, and more than once."""
        if self.saved is not None:
            try:
                termios.tcsetattr(self.host, termios.TCSANOW, self.saved)
            except (OSError, termios.error):
                pass  # hung up
            self.saved = None

    def register(self, poll: select.poll) -> None:
        """What the bytes on their way wait for."""
        self.pump.register(poll)

    def serve(self, fd: int, events: int) -> None:
        """Move bytes."""
        self.pump.serve(fd, events)

    def signal(self, number: int) -> None:
        """Pass a new size on."""
        if number == SIGWINCH:
            self._resize()

    def finish(self) -> None:
        """Write out what the process has left behind, and restore the caller's terminal."""
        self.pump.drain()
        self.restore()

    def _resize(self) -> None:
        rows, columns = _size(self.host)
        try:
            fcntl.ioctl(self.master, TIOCSWINSZ, rows.to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4))
        except OSError:
            pass  # the process's terminal is closed already


class _Pump:
    """Bytes on their way: input that the process's terminal does not take yet, output that ours does not.

    No descriptor but the master is made non-blocking: the others are the caller's, and shared with it."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.input = b""
        self.output = b""
        self.input_open = self.output_open = self.master_open = True

    def register(self, poll: select.poll) -> None:
        """Say what to wait for."""
        _watch(poll, 0, select.POLLIN if self.input_open and len(self.input) < _PENDING else 0)
        _watch(poll, 1, select.POLLOUT if self.output else 0)
        events = select.POLLIN if self.master_open and len(self.output) < _PENDING else 0
        _watch(poll, self.master, events | (select.POLLOUT if self.input and self.master_open else 0))

    def serve(self, fd: int, events: int) -> None:
        """Do what a descriptor is ready for."""
        if fd == 0:
            self._take_input()
        elif fd == 1:
            self._give_output()
        elif fd == self.master:
            if events & select.POLLOUT:
                self._give_input()
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._take_output()

    def drain(self) -> None:
        """Write out what the process has left behind."""
        while self.master_open and self._take_output():
            pass
        while self.output:
            self._give_output()

    def _take_input(self) -> None:
        try:
            data = posix.read(0, _CHUNK)
        except OSError:  # EIO: hung up, or we are in the background
            data = b""
        self.input_open = bool(data)
        self.input += data

    def _give_input(self) -> None:
        try:
            self.input = self.input[posix.write(self.master, self.input) :]
        except BlockingIOError:
            pass
        except OSError:
            self.input, self.input_open = b"", False

    def _take_output(self) -> bool:
        """Return whether there was some."""
        try:
            data = posix.read(self.master, _PENDING)
        except BlockingIOError:
            return False
        except OSError:  # EIO: no process has the terminal open
            data = b""
        self.master_open = bool(data)
        if self.output_open:
            self.output += data
        return bool(data)

    def _give_output(self) -> None:
        try:
            self.output = self.output[posix.write(1, self.output[:_CHUNK]) :]
        except OSError:  # no reader: the process continues all the same
            self.output, self.output_open = b"", False


def _watch(poll: select.poll, fd: int, events: int) -> None:
    if events:
        poll.register(fd, events)
        return
    try:
        poll.unregister(fd)
    except KeyError:
        pass


def _find_host() -> int:
    for fd in (0, 1, 2):
        if posix.isatty(fd):
            return fd
    try:
        return posix.open("/dev/tty", posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC)
    except OSError as error:
        raise StateError(
            f"cannot relay a terminal: open /dev/tty: {strerror(error.errno)}",
            why="neither standard input, output nor error is a terminal, and the process has no controlling terminal",
            hint="call it from a terminal, give --console-socket, or do without a terminal",
        ) from None


def _size(fd: int) -> tuple[int, int]:
    """Return rows and columns of a terminal, zeros when it has no size."""
    try:
        size = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return 0, 0
    return int.from_bytes(size[:2], "little"), int.from_bytes(size[2:4], "little")


def _raw(attributes: list[Any]) -> list[Any]:
    """Return attributes like those of cfmakeraw(3), with OPOST: see the module's docstring."""
    attributes[_IFLAG] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    attributes[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    attributes[_CFLAG] = attributes[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    attributes[_CC][termios.VMIN], attributes[_CC][termios.VTIME] = 1, 0
    return attributes
