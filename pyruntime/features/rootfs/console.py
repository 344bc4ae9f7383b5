"""/process/terminal: a pseudoterminal of the container's own devpts, sent to the console socket.

init makes it inside the container's /dev/pts and sends the master over the console socket. The rootfs may
hold anything under that name, so what is opened must be the multiplexer of a devpts, and the other side is
taken from the master itself (TIOCGPTPEER), not by a path (CVE-2025-52565).
"""

from __future__ import annotations

import _socket
import fcntl
import posix

from pyruntime.errors import ConfigError, StepError
from pyruntime.features.rootfs import devices, path
from pyruntime.kernel import files, mount
from pyruntime.kernel.constants import (
    DEVPTS_SUPER_MAGIC,
    TIOCGPTPEER,
    TIOCSCTTY,
    TIOCSPTLCK,
    TIOCSWINSZ,
)
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request

_PTMX = posix.makedev(5, 2)


def plan(request: Request) -> Iterator[Step]:
    """ENTER, before the pivot: the terminal, if process.terminal is set."""
    yield from _plan(request, mounted=True)


def plan_exec(request: Request) -> Iterator[Step]:
    """ENTER of `exec`: the same, but /dev/console stays init's."""
    yield from _plan(request, mounted=False)


def _plan(request: Request, *, mounted: bool) -> Iterator[Step]:
    if not request.process.get("terminal"):
        return
    size = request.process.get("consoleSize") or {}
    yield Step(
        "/process/terminal",
        make,
        height=size.get("height") or 0,
        width=size.get("width") or 0,
        uid=(request.process.get("user") or {}).get("uid") or 0,
        mounted=mounted,
    )


def check(request: Request) -> None:
    """Raise ConfigError unless a terminal and a console socket are asked for together."""
    terminal = bool(request.process.get("terminal"))
    if terminal and request.detach and not request.console_socket:
        raise ConfigError(
            "cannot allocate tty if runc will detach without setting console socket".replace("runc", "pyruntime"),
            pointer="/process/terminal",
            hint="give --console-socket, or set terminal to false",
        )
    if request.console_socket and not terminal:
        raise ConfigError(
            "cannot use console socket if pyruntime will not allocate tty",
            pointer="/process/terminal",
            hint="set terminal to true, or leave --console-socket out",
        )


def connect(socket_path: str) -> _socket.socket:
    """Connect to the console socket that the caller listens on. Raises StepError."""
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        socket.connect(socket_path)
    except OSError as error:
        socket.close()
        raise StepError(
            f"connect to console socket {socket_path}: {error.strerror}",
            hint="listen on it before calling pyruntime",
        ) from None
    return socket


def make(init: InitActor, height: int, width: int, uid: int, mounted: bool) -> None:
    """make the terminal"""
    master = _open_multiplexer(init.root_fd)
    fcntl.ioctl(master, TIOCSPTLCK, (0).to_bytes(4, "little"))
    terminal = fcntl.ioctl(master, TIOCGPTPEER, posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC)
    if height or width:
        size = height.to_bytes(2, "little") + width.to_bytes(2, "little") + bytes(4)
        fcntl.ioctl(terminal, TIOCSWINSZ, size)
    if uid:
        posix.fchown(terminal, uid, -1)
    if mounted:
        _bind_console(devices.open_dev(init), terminal)
    assert init.console is not None  # as `check` asked
    send(init.console, master)
    posix.close(master)
    for fd in (0, 1, 2):
        posix.dup2(terminal, fd)
    if terminal > 2:
        posix.close(terminal)
    if init.spawn is None:
        fcntl.ioctl(0, TIOCSCTTY, 0)
    else:
        init.spawn.terminal = True  # a terminal controls one session: the program's


def send(connection: _socket.socket, master: int) -> None:
    """Send a terminal's master over a connection, and close that."""
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, master.to_bytes(4, "little"))
    connection.sendmsg([b"/dev/ptmx"], [rights])
    connection.close()


def _open_multiplexer(root_fd: int) -> int:
    """Open the container's /dev/pts/ptmx, and make sure that it is one."""
    fd = path.resolve(root_fd, "/dev/pts/ptmx", posix.O_RDWR | posix.O_NOCTTY)
    if files.filesystem_magic(fd) != DEVPTS_SUPER_MAGIC or posix.fstat(fd).st_rdev != _PTMX:
        posix.close(fd)
        raise ConfigError(
            "/dev/pts/ptmx of the container is not a pseudoterminal multiplexer",
            hint="mount a devpts on /dev/pts in /mounts",
        )
    return fd


def _bind_console(directory: int, terminal: int) -> None:
    """Show the terminal as /dev/console; directory is /dev."""
    target = path.make_file(directory, "/console")
    fd = mount.clone_tree("", dirfd=terminal)
    try:
        mount.attach(fd, target, "/dev/console")
    finally:
        posix.close(fd)
        posix.close(target)
