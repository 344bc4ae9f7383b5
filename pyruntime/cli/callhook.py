"""callhook: a hook that is a function of the program which made the bundle (library/hooks.py)."""

from __future__ import annotations

import _socket
import posix

from pyruntime.commands.settings import Settings
from pyruntime.errors import HookError, UsageError
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.cli.flags import Values

USAGE = "SOCKET NUMBER"
FLAGS = ()


def run(settings: Settings, values: Values, words: list[str]) -> int:
    """Hand the state on standard input to the function, and end as it does. Raises HookError."""
    if len(words) != 2 or not words[1].isdigit():
        raise UsageError("callhook takes a socket and a number")
    request = {"number": int(words[1]), "state": fastjson.loads(_read(0).decode("utf-8", "surrogateescape"))}
    connection = _socket.socket(_socket.AF_UNIX)
    try:
        connection.connect(words[0])
        connection.sendall(fastjson.dumps(request).encode("utf-8", "surrogateescape"))
        connection.shutdown(_socket.SHUT_WR)
        answer = _read(connection.fileno())
    except OSError:
        answer = b""
    if not answer:
        raise HookError("the program whose function this hook is has ended", hint="remove the hook from config.json")
    fields = fastjson.loads(answer.decode("utf-8", "surrogateescape"))
    if fields["error"] is not None:
        raise HookError(fields["error"])
    return 0


def _read(fd: int) -> bytes:
    data = bytearray()
    while chunk := posix.read(fd, 1 << 16):
        data += chunk
    return bytes(data)
