"""ttrpc: requests and responses in frames on a stream socket (containerd/ttrpc, PROTOCOL.md).

A frame has a head of 10 bytes, big-endian: length (4), stream (4), type (1), flags (1). Each request has a stream
of its own; responses come in any order.
"""

from __future__ import annotations

import _socket
import posix

from pyruntime.kernel.constants import EMFILE, ENFILE, ENOBUFS, ENOMEM
from pyruntime.shim import wire
from pyruntime.shim.event_loop import READ, WRITE, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime.shim.wire import Message

    Handler = Callable[[str, str, bytes, "Reply"], None]

UNKNOWN, INVALID, DEADLINE, NOT_FOUND, EXISTS, PRECONDITION, UNIMPLEMENTED = 2, 3, 4, 5, 6, 9, 12

_REQUEST, _RESPONSE = 1, 2
# gRPC status codes and their texts in containerd; older clients do not prepend the text to a message.
_KINDS = {
    NOT_FOUND: "not found",
    EXISTS: "already exists",
    PRECONDITION: "failed precondition",
    UNIMPLEMENTED: "not implemented",
}
_HEAD = 10
_MAX_MESSAGE = 4 << 20
_CHUNK = 65536
# Stop reading from a client with more bytes of unread responses, or more pending requests.
_MAX_UNREAD = 1 << 20
_MAX_UNANSWERED = 4096
# accept(2) fails until resources are released.
_EXHAUSTED = (EMFILE, ENFILE, ENOBUFS, ENOMEM)
_RETRY_SECONDS = 0.2


def frame(stream: int, type: int, data: bytes) -> bytes:
    """Return one frame."""
    return len(data).to_bytes(4, "big") + stream.to_bytes(4, "big") + bytes((type, 0)) + data


class Frames:
    """A non-blocking connection that reads and writes frames.

    received: called with (stream, type, data). closed: called once, when the peer has disconnected.
    unanswered: number of pending requests; maintained by Reply."""

    def __init__(
        self,
        loop: Loop,
        socket: _socket.socket,
        received: Callable[[int, int, bytes], None],
        closed: Callable[[], None],
    ) -> None:
        self.loop = loop
        self.socket: _socket.socket | None = socket
        self.received = received
        self.closed = closed
        self._in = bytearray()
        self._out = bytearray()
        self._taking = False
        self.unanswered = 0
        socket.setblocking(False)
        loop.watch(socket.fileno(), READ, self._ready)

    def send(self, stream: int, type: int, data: bytes) -> None:
        """Queue a frame. Discards it if the peer has disconnected."""
        if self.socket is None:
            return
        self._out += frame(stream, type, data)
        self._write()
        if self._in and not self._taking and not self._full():
            self.loop.later(0, self._take)  # deferred: the caller must not be re-entered

    def flushed(self) -> bool:
        """Return whether no output is queued."""
        return not self._out

    def close(self) -> None:
        """Close the socket, and call `closed`."""
        if self.socket is not None:
            self.loop.forget(self.socket.fileno())
            self.socket.close()
            self.socket = None
            self.closed()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._write()
            self._take()
        if events & ~WRITE and self.socket is not None:
            self._read()

    def _read(self) -> None:
        assert self.socket is not None
        try:
            data = self.socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._in += data
        self._take()

    def _full(self) -> bool:
        return len(self._out) > _MAX_UNREAD or self.unanswered >= _MAX_UNANSWERED

    def _take(self) -> None:
        """Deliver complete frames, as long as the peer reads its responses."""
        if self._taking:
            return
        self._taking = True
        try:
            while len(self._in) >= _HEAD and not self._full() and self.socket is not None:
                size = int.from_bytes(self._in[:4], "big")
                if size > _MAX_MESSAGE:
                    self.close()
                    return
                if len(self._in) < _HEAD + size:
                    break
                stream, type = int.from_bytes(self._in[4:8], "big"), self._in[8]
                message = bytes(self._in[_HEAD : _HEAD + size])
                del self._in[: _HEAD + size]
                self.received(stream, type, message)
        except BaseException:
            self.loop.later(0, self._take)  # data after a request that failed
            raise
        finally:
            self._taking = False
            self._watch()

    def _write(self) -> None:
        if self.socket is None:
            return
        try:
            while self._out:
                del self._out[: self.socket.send(self._out, _socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._watch()

    def _watch(self) -> None:
        if self.socket is not None:
            events = (0 if self._full() else READ) | (WRITE if self._out else 0)
            self.loop.watch(self.socket.fileno(), events, self._ready)


class Reply:
    """The response to a request, which may be sent later. Discarded if the client has disconnected."""

    __slots__ = ("_frames", "_stream", "done")

    def __init__(self, frames: Frames, stream: int) -> None:
        self._frames = frames
        self._stream = stream
        self.done = False
        frames.unanswered += 1

    def send(self, name: str, values: Message) -> None:
        """Send a message as response."""
        self._send({"payload": wire.encode(name, values)})

    def fail(self, code: int, text: str) -> None:
        """Send an error response. The text contains that of the code, since containerd 2 shows only the text."""
        kind = _KINDS.get(code)
        self._send({"status": {"code": code, "message": f"{text}: {kind}" if kind else text}})

    def _send(self, response: Message) -> None:
        if not self.done:
            self.done = True
            self._frames.unanswered -= 1
            self._frames.send(self._stream, _RESPONSE, wire.encode("Response", response))


class Server:
    """A server. Calls handler(service, method, payload, reply) for each request."""

    def __init__(self, loop: Loop, listener: _socket.socket, handler: Handler) -> None:
        self.loop = loop
        self.listener = listener
        self.handler = handler
        self.connections: set[Frames] = set()
        listener.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        self.loop.watch(self.listener.fileno(), READ, self._accept)

    def _accept(self, events: int) -> None:
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # the C half's accept(2), close-on-exec
        except OSError as error:
            if error.errno in _EXHAUSTED:
                # The connection stays in the backlog, and poll(2) would report it again immediately.
                self.loop.forget(self.listener.fileno())
                self.loop.later(_RETRY_SECONDS, self._listen)
            return
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        connection = Frames(
            self.loop,
            socket,
            lambda stream, type, data: self._request(connection, stream, type, data),
            lambda: self.connections.discard(connection),
        )
        self.connections.add(connection)

    def _request(self, connection: Frames, stream: int, type: int, data: bytes) -> None:
        if type != _REQUEST:
            return
        reply = Reply(connection, stream)
        try:
            request = wire.decode("Request", data)
            self.handler(request["service"], request["method"], request["payload"], reply)
        except ValueError as error:
            reply.fail(INVALID, f"malformed request: {error}")
        except Exception as error:
            reply.fail(UNKNOWN, f"bug in pyruntime's shim: {error.__class__.__name__}: {error}")
            raise

    def flushed(self) -> bool:
        """Return whether no response is pending."""
        return all(connection.flushed() for connection in self.connections)


class Client:
    """A client with one request at a time, which connects on demand."""

    def __init__(self, loop: Loop, path: str) -> None:
        self.loop = loop
        self.path = path
        self._frames: Frames | None = None
        self._stream = -1
        self._answered: Callable[[Message | None], None] | None = None

    def call(
        self,
        service: str,
        method: str,
        payload: bytes,
        metadata: dict[str, str],
        answered: Callable[[Message | None], None],
    ) -> None:
        """Send a request. Calls `answered` with the Response, or None if the connection fails."""
        self._answered = answered
        if self._frames is None:
            try:
                socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
            except OSError:  # EMFILE
                self._done(None)
                return
            # EAGAIN from connect(2): the backlog is full, and the caller retries.
            socket.setblocking(False)
            try:
                socket.connect(self.path)
            except OSError:
                socket.close()
                self._done(None)
                return
            self._frames = Frames(self.loop, socket, self._received, self._closed)
        self._stream += 2
        request = {
            "service": service,
            "method": method,
            "payload": payload,
            "metadata": [{"key": key, "value": value} for key, value in metadata.items()],
        }
        self._frames.send(self._stream, _REQUEST, wire.encode("Request", request))

    def drop(self) -> None:
        """Close the connection after a timeout."""
        if self._frames is not None:
            self._frames.close()

    def _received(self, stream: int, type: int, data: bytes) -> None:
        if type == _RESPONSE and stream == self._stream:
            self._done(wire.decode("Response", data))

    def _closed(self) -> None:
        self._frames = None
        self._stream = -1
        self._done(None)

    def _done(self, response: Message | None) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(response)


def connects(path: str) -> bool:
    """Return whether a unix socket has a listener."""
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        socket.connect(path)
    except OSError:
        return False
    finally:
        socket.close()
    return True


def listen(path: str) -> _socket.socket:
    """Return a listening unix socket with mode 0600. Raises OSError (EADDRINUSE)."""
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    mask = posix.umask(0o177)
    try:
        socket.bind(path)
    except BaseException:
        socket.close()
        raise
    finally:
        posix.umask(mask)
    socket.listen(64)
    return socket
