"""seccomp(2), and taking a seccomp listener out of another process: pidfd_getfd(2)."""

from __future__ import annotations

from pyruntime.kernel.call import check, ffi, lib
from pyruntime.kernel.constants import EINVAL, SECCOMP_SET_MODE_FILTER

INSTRUCTION_SIZE = 8  # struct sock_filter
_NOWHERE = 8  # an address that no process has anything at

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0x01,
    "SECCOMP_FILTER_FLAG_LOG": 0x02,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 0x04,
    "SECCOMP_FILTER_FLAG_NEW_LISTENER": 0x08,
    "SECCOMP_FILTER_FLAG_TSYNC_ESRCH": 0x10,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 0x20,
}


def load_filter(program: bytes, bits: int) -> int:
    """Load a compiled filter into this process; gives back the listener when NEW_LISTENER is among the flags."""
    length = len(program) // INSTRUCTION_SIZE
    result = lib.shim_seccomp(SECCOMP_SET_MODE_FILTER, bits, ffi.from_buffer(program), length)
    names = "|".join(name for name, bit in FLAGS.items() if bits & bit)
    return check(result, "seccomp", "SECCOMP_SET_MODE_FILTER", names or 0, f"{length} instructions")


def flag_bits(flags: list[str]) -> int:
    """Return the flags as seccomp(2) takes them."""
    bits = 0
    for name in flags:
        bits |= FLAGS[name]
    return bits


def supports(flag: str) -> bool:
    """Return whether this kernel knows a flag: it refuses one that it does not before it looks at the program."""
    bits = FLAGS[flag]
    if flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV":
        bits |= FLAGS["SECCOMP_FILTER_FLAG_NEW_LISTENER"]
    return lib.shim_seccomp(SECCOMP_SET_MODE_FILTER, bits, ffi.cast("void *", _NOWHERE), 1) != -EINVAL


def take_descriptor(pidfd: int, number: int) -> int:
    """Return a copy of another process's descriptor, close-on-exec: pidfd_getfd(2), Linux 5.6."""
    return check(lib.shim_pidfd_getfd(pidfd, number), "pidfd_getfd", f"fd {number}")
