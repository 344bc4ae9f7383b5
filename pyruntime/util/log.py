"""The log: --log FILE, --log-format text|json, --debug; and the one last line that engines show.

runc's format, since containerd, docker and podman parse it: JSON objects with level, msg and time (RFC 3339),
or text as `time="…" level=error msg="…"`.
"""

from __future__ import annotations

import posix
import time

from pyruntime.kernel.constants import ENXIO
from pyruntime.util import fastjson

_FLAGS = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_NONBLOCK | posix.O_CLOEXEC
_PATIENCE_MS = 1000


class Log:
    """Where warnings and the error go. path "" is standard error."""

    def __init__(self, path: str = "", format: str = "text", debug: bool = False) -> None:
        self.path = path
        self.format = format
        self.debugging = debug

    def require(self) -> None:
        """Raise OSError when the file cannot be opened. A FIFO may still get a reader."""
        try:
            posix.close(posix.open(self.path, _FLAGS, 0o644))
        except OSError as error:
            if error.errno != ENXIO:
                raise

    def debug(self, text: str) -> None:
        """Log a message of level debug (--debug)."""
        if self.debugging:
            self._write("debug", text)

    def warning(self, text: str) -> None:
        """Log a warning."""
        self._write("warning", text)

    def tell(self, level: str, text: str) -> None:
        """Log a debug message or a warning received from init."""
        if level == "debug":
            self.debug(text)
        else:
            self.warning(text)

    def error(self, text: str, lines: str = "") -> None:
        """Log the error of the command, and write it to standard error.

        lines: text for a terminal in place of the message."""
        plain = not self.path and self.format == "text"
        if not plain:
            self._write("error", text)
        if plain or self.path:
            _write_all(2, lines or f"pyruntime: {text}\n")

    def _write(self, level: str, text: str) -> None:
        if not self.path and self.format == "text" and posix.isatty(2):
            _write_all(2, f"pyruntime: {level}: {text}\n")  # no timestamp on a terminal
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.format == "json":
            line = fastjson.dumps({"level": level, "msg": text, "time": now})
        else:
            line = f"time={fastjson.dumps(now)} level={level} msg={fastjson.dumps(text)}"
        if not self.path:
            _write_all(2, line + "\n")
            return
        try:
            _append(self.path, line + "\n")
        except OSError as error:
            _write_all(2, f"pyruntime: cannot write the log {self.path}: {error.strerror}\n")
            _write_all(2, line + "\n")


def _append(path: str, text: str) -> None:
    """Append to a file. Raises OSError, also for a FIFO without a reader (ENXIO), and for one that is full and whose
    reader does not read (EAGAIN): neither is to hang the command."""
    fd = posix.open(path, _FLAGS, 0o644)
    try:
        data = text.encode("utf-8", "surrogateescape")
        while data:
            try:
                data = data[posix.write(fd, data) :]
            except BlockingIOError:
                import select

                poll = select.poll()
                poll.register(fd, select.POLLOUT)
                if not poll.poll(_PATIENCE_MS):
                    raise
    finally:
        posix.close(fd)


def _write_all(fd: int, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    try:
        while data:
            data = data[posix.write(fd, data) :]
    except OSError:
        pass  # a closed standard error is no reason to change the exit status
