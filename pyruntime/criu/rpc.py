"""Run `criu swrk`, and send it requests over a socket."""

from __future__ import annotations

import _socket
import posix

from pyruntime.criu import messages
from pyruntime.criu.messages import Response
from pyruntime.errors import PyruntimeError, StepError, strerror
from pyruntime.kernel import mount, process
from pyruntime.kernel.constants import CLONE_NEWNS, MS_BIND, MS_REC, MS_SLAVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # Called for each notification: its name, a pid, and a descriptor that came along, or -1.
    Notified = Callable[[str, int, int], None]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOG_LINES = 3
_OLDEST = (3, 14)  # the first that knows the freezer and the root of cgroup v2


class Service:
    """A running criu. Everything that is inheritable of this process is criu's too.

    root: a directory that is shown at mount_point, in mounts of criu's own; "" for neither.
    directories: descriptor -> path of what criu mounts in, and so must have open in its own mounts.
    pid: criu's."""

    def __init__(self, root: str = "", mount_point: str = "", directories: dict[int, str] | None = None) -> None:
        program = find()
        self.socket: _socket.socket | None = None
        ours, theirs = _pair()
        self.pid = posix.fork()
        if self.pid == 0:
            try:
                if root:
                    _bind(root, mount_point)
                    for fd, path in (directories or {}).items():
                        posix.dup2(posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC), fd)
                # criu opens descriptors of directories in the process that made the socket: so it is criu itself, in
                # whose mounts they are.
                ours, own = _pair()
                theirs.sendmsg([b"0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, ours.fileno().to_bytes(4, "little"))])
                number = own.fileno()
                posix.set_inheritable(number, True)
                environment = {**posix.environ}
                environment.setdefault(b"PATH", _PATH.encode())
                posix.execve(program, [program, "swrk", str(number)], environment)
            except OSError as error:
                posix.write(2, f"cannot run {program}: {error}\n".encode())
            finally:
                posix._exit(127)
        theirs.close()
        _, ancillary, _, _ = ours.recvmsg(1, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        if not ancillary:
            raise StepError(f"criu could not be started: {self.end()}")
        self.socket = _socket.socket(fileno=int.from_bytes(ancillary[0][2][:4], "little"))
        ours.close()

    def ask(self, type: int, options: dict[str, object] | None = None, notified: Notified | None = None) -> Response:
        """Send a request, and handle notifications until the response arrives. Raises StepError if criu exits."""
        assert self.socket is not None
        self.socket.send(messages.request(type, options))
        while True:
            data, ancillary, _, _ = self.socket.recvmsg(1 << 16, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
            if not data:
                raise StepError(f"criu has ended without an answer: {self.end()}")
            response = Response(data)
            if response.type != messages.NOTIFY:
                return response
            if not response.success:
                raise StepError(f"criu's notification {response.script} has failed")
            fds = [
                int.from_bytes(packed[at : at + 4], "little")
                for level, kind, packed in ancillary
                if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS
                for at in range(0, len(packed), 4)
            ]
            try:
                if notified is not None:
                    notified(response.script, response.pid, fds[0] if fds else -1)
            finally:
                for fd in fds:
                    posix.close(fd)
            self.socket.send(messages.notified())

    def end(self) -> str:
        """Close the socket, wait for criu, and return a description of its exit status."""
        if self.socket is not None:
            self.socket.close()
        if not self.pid:
            return "before"
        _, status = posix.waitpid(self.pid, 0)
        self.pid = 0
        code = posix.waitstatus_to_exitcode(status)
        return f"killed by signal {-code}" if code < 0 else f"exit status {code}"


def _pair() -> tuple[_socket.socket, _socket.socket]:
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def _bind(root: str, mount_point: str) -> None:
    """In criu: a mount namespace of its own, in which the root filesystem is a mount point. Nothing of it is seen
    outside, and it is gone with criu."""
    process.unshare(CLONE_NEWNS)
    mount.mount(None, "/", None, MS_SLAVE | MS_REC, None)
    mount.mount(root, mount_point, None, MS_BIND | MS_REC, None)


def find() -> str:
    """Return the path of criu. Raises PyruntimeError when there is none."""
    path = posix.environ.get(b"PATH", b"").decode("utf-8", "surrogateescape") or _PATH
    for directory in path.split(":"):
        program = f"{directory or '.'}/criu"
        if posix.access(program, posix.X_OK):
            return program
    raise PyruntimeError(
        'exec: "criu": executable file not found in $PATH',
        why="checkpoint and restore are done by criu(8), which is not installed",
        hint="install it (Debian: apt-get install criu)",
    )


def require_version() -> None:
    """Raise PyruntimeError unless criu is installed and new enough."""
    service = Service()
    try:
        response = service.ask(messages.VERSION)
    finally:
        service.end()
    if response.version < _OLDEST:
        found = ".".join(map(str, response.version))
        raise PyruntimeError(f"criu {found} is too old", hint=f"install {'.'.join(map(str, _OLDEST))} or a later one")


def failure(doing: str, response: Response, log: str) -> StepError:
    """Return the error for a failed request, with the errors in criu's log."""
    reason = f" ({strerror(response.errno)})" if response.errno > 0 else ""
    said = complaints(log) or response.error.strip()
    return StepError(f"criu failed to {doing}{reason}", why=said or None, hint=f"see its log: {log}")


def complaints(log: str) -> str:
    """Return the last errors in a log of criu's, without their times and places, and without those that only say
    that something went wrong before."""
    try:
        with open(log, errors="replace") as file:
            errors = [line.partition("Error (")[2] for line in file if "Error (" in line]
    except OSError:
        return ""
    words = [error.partition("): ")[2].strip() for error in errors]
    telling = [one for one in words if one and not one.startswith("exited, status") and "FAILED" not in one]
    return "; ".join(telling[-_LOG_LINES:])
