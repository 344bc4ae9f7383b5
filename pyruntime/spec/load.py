"""Read config.json: bytes on disk in, a plain dict out, every failure a ConfigError that names the file."""

from __future__ import annotations

import errno
import posix

from pyruntime.errors import ConfigError, strerror
from pyruntime.kernel.constants import S_IFDIR, S_IFMT, S_IFREG
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyruntime.spec.sections import Config

# An engine's config.json has 4 to 30 KiB. One that is a thousand times larger is a mistake or an attack, and
# would be held in memory several times over.
MAXIMUM_SIZE = 32 * 1024 * 1024

# How the messages of Python's json begin -> ours.
_REASONS = (
    ("Invalid control character", "control character U+ in a string"),
    ("Expecting property name", "expected a member name in double quotes"),
    ("Expecting value", "expected a value"),
    ("Expecting ',' delimiter", "expected a comma or the end of the array or object"),
    ("Expecting ':' delimiter", "expected a colon after the member name"),
    ("Unterminated string", "the string that begins here has no end"),
    ("Invalid \\uXXXX escape", "invalid \\u escape in a string, it takes four hexadecimal digits"),
    ("Invalid \\escape", "invalid escape in a string"),
    ("Extra data", "extra data after the JSON object"),
    ("Exceeds the limit", "the number has too many digits"),
)


def load_config(bundle: str) -> Config:
    """Return config.json of the directory `bundle` as a dict.

    Members that are null are left out: runtimes in Go read null as "not there", and engines in Go write it.
    Raises ConfigError when the file is missing, unreadable, no JSON (with line and column) or no object.
    """
    config: Config = load_object(bundle.rstrip("/") + "/config.json" if bundle else "config.json")
    return config


def read_config(bundle: str) -> bytes:
    """Return config.json of the directory `bundle` as it is. Raises ConfigError as load_config does."""
    return _read(f"{bundle}/config.json")


def read_file(path: str) -> bytes:
    """Return a regular file as it is. Raises ConfigError as load_config does."""
    return _read(path)


def load_object(path: str) -> Any:
    """Return the JSON object in the file `path` as load_config does."""
    return parse_object(_read(path), path)


def load_given(path: str) -> Any:
    """Return the JSON object in a file that a flag names: as load_object does, and from a pipe, a FIFO or a terminal
    as well, waiting for its end."""
    return parse_object(_read_stream(path), path)


def _read_stream(path: str) -> bytes:
    """Return what the file `path` holds, whatever kind of file it is."""
    try:
        if path == "/dev/stdin":
            fd = posix.dup(0)  # a socket, which cannot be opened by this name
        elif posix.stat(path).st_mode & S_IFMT in (S_IFREG, S_IFDIR):
            return _read(path)
        else:
            fd = posix.open(path, posix.O_RDONLY | posix.O_NOCTTY | posix.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _not_opened(path, error) from None
    try:
        parts = []
        size = 0
        while part := posix.read(fd, 1 << 16):
            parts.append(part)
            size += len(part)
            if size > MAXIMUM_SIZE:
                raise _too_large(path)
        return b"".join(parts)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {strerror(error.errno)}") from None
    finally:
        posix.close(fd)


def parse_object(data: bytes, name: str) -> Any:
    """Return the JSON object that `data` holds; `name` is the file that errors speak of."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
        raise ConfigError(
            f"{name}: line {line}, column {column}: byte 0x{data[error.start]:02x} is not UTF-8",
            hint="save the file as UTF-8",
        ) from None
    try:
        value = fastjson.loads(text)
    except ValueError as error:
        raise _not_json(name, text, error) from None
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: must hold a JSON object, {{…}}, holds {_kind(value)}")
    if "null" in text:
        try:
            value = _without_nulls(value)
        except RecursionError:
            raise ConfigError(f"{name}: nested too deeply") from None
    return value


def _read(path: str) -> bytes:
    """Return what the regular file `path` holds."""
    try:
        # Without O_NONBLOCK a named pipe called config.json would make us wait for ever.
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise _not_opened(path, error) from None
    try:
        status = posix.fstat(fd)
        if status.st_mode & S_IFMT != S_IFREG:
            is_directory = status.st_mode & S_IFMT == S_IFDIR
            raise ConfigError(f"{path}: is {'a directory' if is_directory else 'not a regular file'}")
        if status.st_size > MAXIMUM_SIZE:
            raise _too_large(path)
        # One byte more than there should be: a short answer proves that this was the end.
        data = posix.read(fd, status.st_size + 1)
        if len(data) <= status.st_size and data:
            return data
        parts = [data]
        size = len(data)
        while part := posix.read(fd, 1 << 16):
            parts.append(part)
            size += len(part)
            if size > MAXIMUM_SIZE:
                raise _too_large(path)
        return b"".join(parts)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {strerror(error.errno)}") from None
    finally:
        posix.close(fd)


def _not_opened(path: str, error: OSError | ValueError) -> ConfigError:
    if not isinstance(error, OSError):  # "embedded null byte"
        return ConfigError(f"{path!r}: is not a path: {error}")
    words = strerror(error.errno)
    folder, _, name = path.rpartition("/")
    why = hint = None
    if error.errno == errno.ENOENT and name == "config.json":
        hint = "give the bundle, the directory that holds config.json; `pyruntime spec` writes a sample"
        try:
            posix.stat(folder or ".")
            why = f"the bundle has no {name}"
        except OSError:
            why = f"the bundle {folder} does not exist"
    elif error.errno in (errno.EACCES, errno.EPERM):
        hint = "it must be readable for the user that runs pyruntime"
    return ConfigError(f"{path}: {words}", why=why, hint=hint)


def _too_large(path: str) -> ConfigError:
    return ConfigError(f"{path}: is larger than {MAXIMUM_SIZE >> 20} MiB")


def _not_json(name: str, text: str, error: ValueError) -> ConfigError:
    """Return the error for invalid JSON, with a hint for common mistakes."""
    line = getattr(error, "lineno", 1)
    column = getattr(error, "colno", 1)
    position = getattr(error, "pos", 0)
    here = text[position : position + 1]
    message = _reason(str(getattr(error, "msg", error)), here)
    hint = None
    if not text.strip(fastjson.WHITESPACE):
        message, hint = "the file is empty", "`pyruntime spec` writes a sample"
    elif text[0] == "\ufeff":
        message, hint = "the file begins with a byte order mark", "save it as UTF-8 without one"
    elif here == "," and "railing" in message:
        hint = "JSON has no comma after the last item: take it away"
    elif here in ("/", "#"):
        hint = "JSON has no comments: take it away"
    elif here == "'":
        hint = 'write strings in double quotes, "like this"'
    elif here and here < " " and "control" in message:
        hint = f"write it as {fastjson.dumps(here)[1:-1]}"
    return ConfigError(f"{name}: line {line}, column {column}: {message}", hint=hint)


def _reason(words: str, here: str) -> str:
    """Return what is wrong, by the words of Python's json, which are meant for a programmer and end before the
    place."""
    for beginning, reason in _REASONS:
        if words.startswith(beginning):
            return reason.replace("U+", f"U+{ord(here or '?'):04X}")
    return words if words.endswith("JSON value") else words[0].lower() + words[1:]


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        return "a string"
    return "null" if value is None else f"only {fastjson.dumps(value)}"


def _without_nulls(value: Any) -> Any:
    """Return a copy of `value` without the members that are null. In arrays null stays, as an error."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
