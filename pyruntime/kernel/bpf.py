"""bpf(2): loading a program for devices, and putting it on a cgroup. Only cgroup2 hosts import this."""

from __future__ import annotations

import posix
import sys

from pyruntime.errors import KernelError
from pyruntime.kernel.call import check, ffi, lib
from pyruntime.kernel.constants import ENOENT

_GET_FD_BY_ID, _INFO_BY_FD, _LOAD, _ATTACH, _QUERY = 13, 15, 5, 8, 16
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI, _REPLACE = 0x2, 0x4
_NAME_OFFSET, _NAME_SIZE = 64, 16
_INFO_SIZE = 128
_MOST_PROGRAMS = 64


def load_device_program(instructions: bytes, name: str) -> int:
    """Load a program of type BPF_PROG_TYPE_CGROUP_DEVICE: its descriptor, close-on-exec. Raises KernelError.

    instructions are 8 bytes each; name has at most 15 letters, digits, '_' and '.'."""
    code = ffi.from_buffer(instructions)
    license = ffi.from_buffer(b"Apache-2.0\0")
    attributes = b"".join(
        (
            _u32(_TYPE_CGROUP_DEVICE),
            _u32(len(instructions) // 8),
            _pointer(code),
            _pointer(license),
            _u32(0) + _u32(0) + _u64(0),  # no log of the verifier
            _u32(0) + _u32(0),
            name.encode().ljust(_NAME_SIZE, b"\0"),
            _u32(0) + _u32(_ATTACH_CGROUP_DEVICE),
        )
    )
    return _call(_LOAD, "BPF_PROG_LOAD", attributes)


def attach_device_program(cgroup_fd: int, program_fd: int, replaced_fd: int | None) -> None:
    """Put a program on a cgroup beside those that are there, or in the place of one of them (Linux 5.6)."""
    flags = _ALLOW_MULTI if replaced_fd is None else _ALLOW_MULTI | _REPLACE
    words = (cgroup_fd, program_fd, _ATTACH_CGROUP_DEVICE, flags, replaced_fd or 0)
    _call(_ATTACH, "BPF_PROG_ATTACH", b"".join(_u32(word) for word in words))


def find_device_program(cgroup_fd: int, name: str) -> int | None:
    """Return a descriptor of the program of this name on a cgroup itself, None when it has none."""
    ids = ffi.new("unsigned int[]", _MOST_PROGRAMS)
    attributes = bytearray(
        b"".join(
            (
                _u32(cgroup_fd) + _u32(_ATTACH_CGROUP_DEVICE) + _u32(0) + _u32(0),
                _pointer(ids),
                _u32(_MOST_PROGRAMS) + _u32(0),
            )
        )
    )
    _call(_QUERY, "BPF_PROG_QUERY", attributes)
    count = int.from_bytes(attributes[24:28], sys.byteorder)
    for index in range(count):
        try:
            fd = _call(_GET_FD_BY_ID, "BPF_PROG_GET_FD_BY_ID", _u32(ids[index]) + _u64(0))
        except KernelError as error:
            if error.errno == ENOENT:  # taken away since
                continue
            raise
        if _name(fd) == name:
            return fd
        posix.close(fd)
    return None


def _name(program_fd: int) -> str:
    info = ffi.new("unsigned char[]", _INFO_SIZE)
    _call(_INFO_BY_FD, "BPF_OBJ_GET_INFO_BY_FD", _u32(program_fd) + _u32(_INFO_SIZE) + _pointer(info))
    raw = bytes(ffi.buffer(info, _INFO_SIZE)[_NAME_OFFSET : _NAME_OFFSET + _NAME_SIZE])
    return raw.rstrip(b"\0").decode("ascii", "replace")


def _call(command: int, name: str, attributes: bytes | bytearray) -> int:
    return check(lib.shim_bpf(command, ffi.from_buffer(attributes), len(attributes)), "bpf", name)


def _u32(value: int) -> bytes:
    return int(value).to_bytes(4, sys.byteorder)


def _u64(value: int) -> bytes:
    return value.to_bytes(8, sys.byteorder)


def _pointer(data: object) -> bytes:
    return _u64(int(ffi.cast("unsigned long long", ffi.cast("void *", data))))
