"""Small files read and written as a whole."""

from __future__ import annotations

import posix


def read_file(path: str) -> str:
    """Return the whole of a small file. Raises OSError."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        data = bytearray()  # to `bytes` each piece would be added with a copy of all before it
        # To the end: files of /proc and cgroups come in whole lines, less than a page at a time.
        while chunk := posix.read(fd, 65536):
            data += chunk
    finally:
        posix.close(fd)
    return data.decode("utf-8", "surrogateescape")


def write_atomically(directory: str, name: str, text: str, mode: int = 0o600, *, replace: bool = False) -> None:
    """Write a file as a whole: a temporary file beside it, then rename(2). Raises OSError (ENOSPC, EROFS).

    With replace there is one of that name already. rename(2) over it makes ext4 write the new one to disk there
    and then (auto_da_alloc), 0.3 to 1 ms; to exchange their names and remove the old one does not."""
    temporary = f"{directory}/.{name}.{posix.getpid()}"
    fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, mode)
    try:
        try:
            data = memoryview(text.encode("utf-8", "surrogateescape"))
            while data:
                data = data[posix.write(fd, data) :]
        finally:
            posix.close(fd)
        if replace:
            _exchange(temporary, f"{directory}/{name}")
        else:
            posix.rename(temporary, f"{directory}/{name}")
    except BaseException:
        posix.unlink(temporary)
        raise


def _exchange(new: str, old: str) -> None:
    from pyruntime.kernel import files  # a command that replaces a record has the shim already

    try:
        files.exchange(new, old)
    except OSError:  # a filesystem that cannot, or no old one
        posix.rename(new, old)
    else:
        posix.unlink(new)
