"""bpf(2): maps, and programs on raw tracepoints. Only `learn` imports this."""

from __future__ import annotations

import posix
import sys

from pyruntime.errors import KernelError
from pyruntime.kernel.bpf import _call, _pointer, _u32, _u64
from pyruntime.kernel.call import ffi
from pyruntime.kernel.constants import ENOENT

_MAP_CREATE, _LOOKUP, _GET_NEXT_KEY, _PROG_LOAD, _RAW_TRACEPOINT_OPEN = 0, 1, 4, 5, 17
_TYPE_HASH = 1
_TYPE_RAW_TRACEPOINT = 17
_LOG_SIZE = 1 << 16
# The helpers that read memory are for programs whose license the kernel takes as compatible with the GPL. It is the
# license of the instructions that are loaded.
_LICENSE = b"Dual MIT/GPL\0"


class Map:
    """A hash map (BPF_MAP_TYPE_HASH) that programs write to and this process reads. Raises KernelError."""

    def __init__(self, key_size: int, value_size: int, most: int) -> None:
        self.key_size = key_size
        self.value_size = value_size
        words = (_TYPE_HASH, key_size, value_size, most, 0)
        self.fd = _call(_MAP_CREATE, "BPF_MAP_CREATE", b"".join(map(_u32, words)))

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return all (key, value); to be read when no program writes any longer, or entries may be missed."""
        found: list[tuple[bytes, bytes]] = []
        key = bytes(self.key_size)
        following = ffi.new("unsigned char[]", self.key_size)
        value = ffi.new("unsigned char[]", self.value_size)
        first = True
        while True:
            held = ffi.from_buffer(key)
            where = _u64(0) if first else _pointer(held)
            try:
                _call(_GET_NEXT_KEY, "BPF_MAP_GET_NEXT_KEY", _u32(self.fd) + _u32(0) + where + _pointer(following))
            except KernelError as error:
                if error.errno == ENOENT:  # the end
                    return found
                raise
            first = False
            _call(
                _LOOKUP,
                "BPF_MAP_LOOKUP_ELEM",
                _u32(self.fd) + _u32(0) + _pointer(following) + _pointer(value) + _u64(0),
            )
            key = bytes(ffi.buffer(following))
            found.append((key, bytes(ffi.buffer(value))))

    def close(self) -> None:
        """Close the descriptor."""
        posix.close(self.fd)


def load_program(instructions: bytes, name: str) -> int:
    """Load a program of type BPF_PROG_TYPE_RAW_TRACEPOINT: its descriptor. Raises KernelError."""
    code = ffi.from_buffer(instructions)
    license = ffi.from_buffer(_LICENSE)
    attributes = b"".join(
        (
            _u32(_TYPE_RAW_TRACEPOINT),
            _u32(len(instructions) // 8),
            _pointer(code),
            _pointer(license),
            _u32(0) + _u32(0) + _u64(0),
            _u32(0) + _u32(0),
            name.encode().ljust(16, b"\0"),
        )
    )
    return _call(_PROG_LOAD, "BPF_PROG_LOAD", attributes)


def verifier_log(instructions: bytes) -> str:
    """Return what the verifier says of a program that it refuses."""
    code = ffi.from_buffer(instructions)
    license = ffi.from_buffer(_LICENSE)
    log = ffi.new("char[]", _LOG_SIZE)
    words = (_u32(_TYPE_RAW_TRACEPOINT), _u32(len(instructions) // 8), _pointer(code), _pointer(license))
    try:
        fd = _call(_PROG_LOAD, "BPF_PROG_LOAD", b"".join(words) + _u32(1) + _u32(_LOG_SIZE) + _pointer(log) + bytes(24))
    except KernelError:
        return bytes(ffi.string(log)).decode("utf-8", "replace")
    posix.close(fd)
    return ""


def attach(program_fd: int, tracepoint: str) -> int:
    """Run a program at each event of a tracepoint, as long as the returned descriptor is open. Raises KernelError
    (ENOENT: the kernel has no tracepoint of this name)."""
    name = ffi.from_buffer(tracepoint.encode() + b"\0")
    return _call(_RAW_TRACEPOINT_OPEN, "BPF_RAW_TRACEPOINT_OPEN", _pointer(name) + _u32(program_fd) + _u32(0))


def word(data: bytes) -> int:
    """Return a number as the kernel writes it."""
    return int.from_bytes(data, sys.byteorder)
