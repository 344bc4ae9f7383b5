"""The shim, and the one function that raises."""

from __future__ import annotations

from pyruntime.errors import KernelError
from pyruntime.kernel._shim import ffi, lib

NULL = ffi.NULL

__all__ = ["NULL", "check", "ffi", "lib", "text"]


def check(result: int, syscall: str, *arguments: object) -> int:
    """Give back the result of a call of the shim; raise KernelError when it is minus an errno."""
    if result < 0:
        raise KernelError(-result, syscall, arguments)
    return result


def text(value: str) -> bytes:
    """Return a string as the bytes that a C function takes; paths need not be UTF-8.

    Raises ValueError for a byte of 0, as Python's own calls do: C would take it for the end (CVE-2021-43784)."""
    if "\0" in value:
        raise ValueError("embedded null byte")
    return value.encode("utf-8", "surrogateescape")
