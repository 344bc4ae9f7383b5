"""serve: do what a program asks for, over a socket that is standard input. The library's helper (library/helper.py).

A request is one packet: a JSON object {"op", "id", "root", …}, and beside it the descriptors that `fds` names. The
answer goes as one packet to the socket that came with it, so that requests need no numbers, no order and no lock on
the caller's side. Every operation is done in a forked child (commands/forked.py), which answers for itself.

This process is the subreaper of what its children leave: the inits of containers are its children, so it can report
how they ended. It exits when the other end of standard input is closed; containers keep running.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only the slow half
import _socket
import gc
import posix
import select

from pyruntime.commands import forked
from pyruntime.commands.forked import COMMANDS
from pyruntime.commands.settings import Settings
from pyruntime.errors import PyruntimeError, StateError

# What children need, from here on in memory that they share.
from pyruntime.features import registry as _build  # noqa: F401
from pyruntime.kernel import process, signalfd
from pyruntime.kernel.constants import PR_SET_CHILD_SUBREAPER, SIGCHLD
from pyruntime.runtime import exec_fifo as _fifo  # noqa: F401
from pyruntime.runtime import parent as _parent  # noqa: F401
from pyruntime.util import fastjson, procfs
from pyruntime.util.ids import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.cli.flags import Values

USAGE = ""
FLAGS = ()

_MAX_PACKET = 128 * 1024
_MAX_REQUEST = 16 << 20  # arguments and environment of execve(2) are at most 6 MiB
_MAX_FDS = 8
_FD_SIZE = 4
# How many exit statuses are kept for a `wait` that comes late.
_KEPT = 10_000


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Serve until the other end of standard input is closed."""
    # Not the child of the client: a program does not expect children that it did not make.
    if posix.fork() != 0:
        return 0
    posix.setsid()
    _signal.pthread_sigmask(_signal.SIG_SETMASK, (SIGCHLD,))
    process.prctl(PR_SET_CHILD_SUBREAPER, 1)
    gc.freeze()
    gc.enable()  # the launcher has it off, and this process runs long
    Server(posix.dup(0)).serve()
    return 0


class Server:
    """The loop: requests, deaths of children, and those who wait for them.

    children: those at work on a request.
    exits:   (pid, start time) -> exit status of children that have ended.
    waiting: descriptor of a reply socket -> (socket, process that its caller waits for)."""

    def __init__(self, fd: int) -> None:
        # Close-on-exec, as dup(2) of Python is: init must not hold it.
        self.socket = _socket.socket(fileno=fd)
        null = posix.open("/dev/null", posix.O_RDWR)
        for number in (0, 1, 2):
            posix.dup2(null, number)
        posix.close(null)
        self.deaths = signalfd.open_signals(frozenset((SIGCHLD,)))
        self.poll = select.poll()
        self.poll.register(self.socket.fileno(), select.POLLIN)
        self.poll.register(self.deaths, select.POLLIN)
        self.children: set[int] = set()
        self.exits: dict[tuple[int, int], int] = {}
        self.waiting: dict[int, tuple[_socket.socket, tuple[int, int]]] = {}

    def serve(self) -> None:
        """Answer requests until the last client has gone."""
        while True:
            for fd, _ in self.poll.poll():
                if fd == self.deaths:
                    while signalfd.next_signal(self.deaths):
                        pass
                    self.reap()
                elif fd in self.waiting:
                    self.forget(fd)  # its caller has gone away
                elif fd == self.socket.fileno() and not self.take():
                    return

    def take(self) -> bool:
        """Take one request; whether there was one."""
        data, ancillary, _, _ = self.socket.recvmsg(
            _MAX_PACKET, _socket.CMSG_SPACE(_FD_SIZE * _MAX_FDS), _socket.MSG_CMSG_CLOEXEC
        )
        fds = [
            int.from_bytes(packed[at : at + _FD_SIZE], "little")
            for level, kind, packed in ancillary
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS
            for at in range(0, len(packed) - len(packed) % _FD_SIZE, _FD_SIZE)
        ]
        if not data:
            return False
        reply = -1
        try:
            request = fastjson.loads(data.decode("utf-8", "surrogateescape"))
            given = dict(zip(request["fds"], fds, strict=True))
            reply = given["reply"]
            if "request" in given:  # one that is larger than a packet
                request = fastjson.loads(_whole(given["request"]).decode("utf-8", "surrogateescape"))
            if request["op"] == "wait":
                fds.remove(reply)
                self.wait((request["pid"], request["start"]), reply)
            else:
                self.fork(request, given)
        except PyruntimeError as error:
            if reply in fds:
                _answer(reply, error)
        except (ValueError, KeyError, TypeError, OSError) as error:
            if reply in fds:
                _answer(reply, PyruntimeError(f"request not understood: {type(error).__name__}: {error}"))
        finally:
            for fd in fds:
                posix.close(fd)
        return True

    def fork(self, request: dict[str, Any], given: dict[str, int]) -> None:
        """Run an operation in a child, and answer."""
        if request["op"] not in COMMANDS:
            raise ValueError(request["op"])
        settings = forked.settings(
            request["root"], rootless=bool(request["rootless"]), systemd_cgroup=bool(request["systemd_cgroup"])
        )
        pid = forked.fork(
            request["op"],
            COMMANDS[request["op"]],
            settings,
            ContainerId(request["id"]),
            given["reply"],
            stdio=tuple(given[name] for name in ("stdin", "stdout", "stderr") if name in given),
            console=given.get("console", -1),
            arguments=request["arguments"],
        )
        self.children.add(pid)

    def wait(self, who: tuple[int, int], reply: int) -> None:
        """Answer with a process's exit status as soon as it is known."""
        socket = _socket.socket(fileno=reply)
        self.reap()
        if who not in self.exits:
            parent = _parent_of(who)
            # A child that has answered may take a moment to end, and to leave its own child to us.
            if parent == posix.getpid() or parent in self.children:
                self.waiting[socket.fileno()] = (socket, who)
                self.poll.register(socket.fileno(), 0)  # POLLHUP is always reported
                return
            self.reap()
        if who in self.exits:
            _tell(socket, self.exits[who])
        else:
            error = StateError(
                f"the exit status of process {who[0]} is not known",
                why="only the program that created the container gets it",
                hint="wait in that program",
            )
            _answer(socket.fileno(), error)
        socket.close()

    def forget(self, fd: int) -> None:
        """Drop a client that waited."""
        self.poll.unregister(fd)
        self.waiting.pop(fd)[0].close()

    def reap(self) -> None:
        """Reap all children that have exited, and report their statuses to the clients that wait."""
        while True:
            try:
                found = posix.waitid(posix.P_ALL, 0, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            who = found.si_pid, forked.start_of(found.si_pid)
            _, status = posix.waitpid(found.si_pid, 0)
            if found.si_pid in self.children:
                self.children.remove(found.si_pid)
                continue
            code = posix.waitstatus_to_exitcode(status)
            self.exits[who] = 128 - code if code < 0 else code
            if len(self.exits) > _KEPT:
                del self.exits[next(iter(self.exits))]
            for fd in [fd for fd, (_, awaited) in self.waiting.items() if awaited == who]:
                _tell(self.waiting[fd][0], self.exits[who])
                self.forget(fd)


def _whole(fd: int) -> bytes:
    """Return the content of a file. Raises ValueError for more than a request can be."""
    data = b""
    while chunk := posix.read(fd, 1 << 20):
        data += chunk
        if len(data) > _MAX_REQUEST:
            raise ValueError(f"more than {_MAX_REQUEST} bytes")
    return data


def _parent_of(who: tuple[int, int]) -> int:
    """Return the parent of a process, 0 when it is gone."""
    try:
        fields = procfs.stat(who[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[procfs.PARENT]) if int(fields[procfs.START_TIME]) == who[1] else 0


def _tell(socket: _socket.socket, status: int) -> None:
    try:
        socket.send(fastjson.dumps({"value": status, "warnings": []}).encode(), _socket.MSG_NOSIGNAL)
    except OSError:
        pass  # it has gone away


def _answer(fd: int, error: PyruntimeError) -> None:
    try:
        posix.write(fd, fastjson.dumps({"error": error.to_json(), "warnings": []}).encode())
    except OSError:
        pass
