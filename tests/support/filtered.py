"""Raw system calls in a child process under a compiled seccomp filter: what the kernel makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from support import proc

# no_new_privs lets anybody load a filter; ctypes calls by number, past the C library's wrappers.
_CHILD = r"""
import ctypes, json, os, sys
given = json.load(sys.stdin)
libc = ctypes.CDLL(None, use_errno=True)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
data = bytes.fromhex(given["program"])
program = Program(len(data) // 8, data)
results = []
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
    sys.exit(f"the kernel refuses the filter: {os.strerror(ctypes.get_errno())}")
for number, *args in given["calls"]:
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(arg) for arg in args))
    results.append(ctypes.get_errno() if result == -1 else 0)
print(json.dumps(results))
"""


def call(program: bytes, calls: Sequence[Sequence[int]]) -> list[int] | int:
    """The error number (0: none) of each call (number, arguments…); the signal that killed it instead."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _CHILD],
        input=json.dumps({"program": program.hex(), "calls": [list(one) for one in calls]}),
        capture_output=True,
        text=True,
        timeout=20 * proc.SLOW,
    )
    if done.returncode < 0:
        return -done.returncode
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# 435 is clone3 on every architecture; 0x50026 is SECCOMP_RET_ERRNO with ENOSYS.
_WITHOUT_CLONE3 = r"""
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 435), (6, 0, 0, 0x50026), (6, 0, 0, 0x7fff0000)]
data = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
program = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(data))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def without_clone3() -> list[str]:
    """A wrapper for a command with a whole path: the kernel says ENOSYS to clone3(2)."""
    return [sys.executable, "-I", "-c", _WITHOUT_CLONE3]
