"""Reading and writing the files of a cgroup."""

from __future__ import annotations

import posix

from pyruntime.errors import KernelError

_FLAGS = posix.O_WRONLY | posix.O_CLOEXEC


def write(directory: str, name: str, value: str) -> None:
    """Write a value to a file of a cgroup in one write(2). Raises KernelError with the file and the value."""
    path = f"{directory}/{name}"
    try:
        fd = posix.open(path, _FLAGS)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", (path,)) from None
    try:
        posix.write(fd, value.encode())
    except OSError as error:
        raise KernelError(error.errno or 0, "write", (path, value)) from None
    finally:
        posix.close(fd)
