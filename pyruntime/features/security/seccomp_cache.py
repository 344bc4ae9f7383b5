"""Compiled filters on disk, so that the second container with a profile compiles nothing.

    ROOT/.cache/seccomp/KEY    0600, in directories of 0700

KEY is a digest of the profile, the machine and the kernel's release. A file is one line of text (format,
digest of the rest, size and time of the libseccomp that made it, its path) and the program; it is believed
when it is ours alone, whole, and that libseccomp is still the one installed. No id begins with a dot.
"""

from __future__ import annotations

import marshal
import posix

from pyruntime.kernel import files
from pyruntime.kernel.constants import S_IFMT, S_IFREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.spec.sections import Seccomp

_FORMAT = b"pyruntime-seccomp-1"
_KEEP = 64
_MAX_SIZE = 64 * 1024
_OTHERS_WRITE = 0o022
_KIND, _REGULAR = S_IFMT, S_IFREG


def key(section: Seccomp) -> str:
    """Return the name of a profile's program: what it is compiled from."""
    machine = posix.uname()
    # Flags are given when a program is loaded; the listener's fields are for others.
    filtered = {k: v for k, v in section.items() if k not in ("listenerPath", "listenerMetadata", "flags")}
    # marshal, at version 2, which shares no references, is the fastest way to bytes; equal values in another
    # order or from another Python only miss the cache.
    return _digest(_FORMAT + marshal.dumps((filtered, machine.machine, machine.release), 2))


def find(root: str, key: str) -> bytes | None:
    """Return the program of a key, None when there is none to be believed."""
    try:
        fd = posix.open(f"{root}/.cache/seccomp/{key}", posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = posix.fstat(fd)
        data = posix.read(fd, _MAX_SIZE)
    finally:
        posix.close(fd)
    ours = status.st_mode & _KIND == _REGULAR and not status.st_mode & _OTHERS_WRITE
    if not ours or status.st_uid != posix.geteuid():
        return None
    head, _, rest = data.partition(b" ")
    digest, _, rest = rest.partition(b" ")
    if head != _FORMAT or digest != _digest(rest).encode():
        return None
    library, _, program = rest.partition(b"\n")
    path = library.split(b" ", 2)[2]
    return program if library == _stamp(path) else None


def store(root: str, key: str, program: bytes, library: str) -> None:
    """Keep a program. A cache that cannot be written is not an error."""
    folder = f"{root}/.cache/seccomp"
    try:
        for path in (f"{root}/.cache", folder):
            try:
                posix.mkdir(path, 0o700)
            except FileExistsError:
                pass
        _drop_oldest(folder)
        stamp = _stamp(library.encode("utf-8", "surrogateescape"))
        if not stamp:
            return
        rest = stamp + b"\n" + program
        data = b" ".join((_FORMAT, _digest(rest).encode(), rest))
        try:
            posix.unlink(f"{folder}/{key}")  # one that is not believed
        except FileNotFoundError:
            pass
        files.create_whole(f"{folder}/{key}", data, 0o600)
    except OSError:
        pass


def _stamp(path: bytes) -> bytes:
    """Return which file a library is: an update of the package changes size or time."""
    try:
        status = posix.stat(path)
    except OSError:
        return b""
    return b"%d %d %s" % (status.st_size, status.st_mtime_ns, path)


def _drop_oldest(folder: str) -> None:
    """Keep the number of programs small: some engines write a profile for each container."""
    files = [f"{folder}/{name}" for name in posix.listdir(folder)]
    if len(files) >= _KEEP:
        files.sort(key=lambda path: posix.stat(path).st_mtime_ns)
        for path in files[: len(files) - _KEEP + 1]:
            posix.unlink(path)


def _digest(data: bytes) -> str:
    try:
        # Built into the interpreter, while hashlib loads OpenSSL.
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b
    return blake2b(data, digest_size=32).hexdigest()
