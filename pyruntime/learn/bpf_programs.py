"""The BPF programs of `learn`, on raw tracepoints: they note in maps what processes of one pid namespace do.

* `sys_enter`: each system call by number, and whether it was one of the 32-bit architecture;
* `sys_exit`: the path and flags of calls that opened for writing, made, renamed, removed or changed a file, and of
  any open below /dev and /proc/sys; only of calls that succeeded;
* `cap_capable`: each capability that the kernel asked for, and whether the process had it.

A map holds each key once, so that nothing is lost to the rate of events, only to the size of a map; what did not
fit, and paths that could not be read, are counted.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PATH_SIZE = 256
KEY_SIZE = 8 + PATH_SIZE  # number of the call, flags, path
COMPAT = 1 << 31
# Keys of the map of losses.
LOST_CALL, LOST_PATH, UNREAD_PATH, LOST_CAPABILITY = range(4)

# Helpers (bpf-helpers(7)).
_LOOKUP, _UPDATE, _GET_NS_PID, _READ_USER, _READ_KERNEL, _READ_USER_STR = 1, 2, 120, 112, 113, 114
# Where struct pt_regs has the arguments, and what tells a 32-bit process: machine -> (offsets, offset, mask, value).
REGISTERS = {
    "x86_64": ((112, 104, 96, 56, 72), 120, (136, 0xFFFF, 0x23)),  # rdi rsi rdx r10 r8; orig_rax; cs
    "aarch64": ((272, 8, 16, 24, 32), 280, (264, 0x10, 0x10)),  # orig_x0 x1 …; syscallno; pstate
}
# call -> (argument with the path, argument with the flags, -1: always a write, -2: open_how)
PATH_CALLS = {
    "open": (0, 1),
    "creat": (0, -1),
    "openat": (1, 2),
    "openat2": (1, -2),
    "mkdir": (0, -1),
    "mkdirat": (1, -1),
    "mknod": (0, -1),
    "mknodat": (1, -1),
    "rmdir": (0, -1),
    "unlink": (0, -1),
    "unlinkat": (1, -1),
    "rename": (1, -1),
    "renameat": (3, -1),
    "renameat2": (3, -1),
    "link": (1, -1),
    "linkat": (3, -1),
    "symlink": (1, -1),
    "symlinkat": (2, -1),
    "truncate": (0, -1),
    "chmod": (0, -1),
    "fchmodat": (1, -1),
    "fchmodat2": (1, -1),
    "chown": (0, -1),
    "lchown": (0, -1),
    "fchownat": (1, -1),
    "utimensat": (1, -1),
    "setxattr": (0, -1),
    "lsetxattr": (0, -1),
}
O_WRITES = 0o3 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
WRITES = 1 << 30  # in place of flags, for a call that always changes something

_R0, _R1, _R2, _R3, _R4, _R5, _R6, _R7, _R8, _R9, _FP = range(11)


class Code:
    """Instructions being put together, with labels for jumps forward."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int, int, int, int, str]] = []
        self.labels: dict[str, int] = {}

    def add(self, code: int, to: int = 0, of: int = 0, offset: int = 0, value: int = 0, label: str = "") -> None:
        """Add one instruction (struct bpf_insn); with a label, offset is the distance to it."""
        self.code.append((code, to, of, offset, value, label))

    def label(self, name: str) -> None:
        """Name the place of the next instruction."""
        self.labels[name] = len(self.code)

    def set(self, to: int, value: int) -> None:
        """Load a number of 64 bits."""
        low, high = value & 0xFFFFFFFF, value >> 32
        self.add(0x18, to, value=low)
        self.add(0, value=high)

    def set_map(self, to: int, fd: int) -> None:
        """Load a map."""
        self.add(0x18, to, of=1, value=fd)
        self.add(0)

    def move(self, to: int, of: int) -> None:
        """Copy a register."""
        self.add(0xBF, to, of)

    def frame(self, to: int, offset: int) -> None:
        """Load an address on the stack."""
        self.move(to, _FP)
        self.add(0x07, to, value=offset)

    def call(self, helper: int) -> None:
        """Call a helper."""
        self.add(0x85, value=helper)

    def assemble(self) -> bytes:
        """Return the bytes of the program."""
        out = []
        for index, (code, to, of, offset, value, label) in enumerate(self.code):
            if label:
                offset = self.labels[label] - index - 1
            registers = to | of << 4 if sys.byteorder == "little" else to << 4 | of
            out.append(bytes((code, registers)) + offset.to_bytes(2, sys.byteorder, signed=True))
            out.append((value & 0xFFFFFFFF).to_bytes(4, sys.byteorder))
        return b"".join(out)


class Maps:
    """Descriptors of the maps that programs write to."""

    def __init__(self, calls: int, paths: int, capabilities: int, losses: int) -> None:
        self.calls = calls
        self.paths = paths
        self.capabilities = capabilities
        self.losses = losses


def _begin(namespace: tuple[int, int]) -> Code:
    """Return a program that ends unless the process is of the pid namespace (device, inode); r6 is the context."""
    code = Code()
    code.move(_R6, _R1)
    code.set(_R1, namespace[0])
    code.set(_R2, namespace[1])
    code.frame(_R3, -8)
    code.add(0xB7, _R4, value=8)
    code.call(_GET_NS_PID)
    code.add(0x55, _R0, value=0, label="end")
    return code


def _end(code: Code) -> bytes:
    code.label("end")
    code.add(0xB7, _R0, value=0)
    code.add(0x95)
    return code.assemble()


def _count(code: Code, map_fd: int, losses: int, key: int, loss: int, prefix: str) -> None:
    """Note the key at FP+key in a map; count what does not fit. FP-8 is free for it, and r7 to r9 are kept."""
    code.set_map(_R1, map_fd)
    code.frame(_R2, key)
    code.call(_LOOKUP)
    code.add(0x55, _R0, value=0, label=f"{prefix}end")
    code.add(0x7A, _FP, offset=-8, value=1)
    code.set_map(_R1, map_fd)
    code.frame(_R2, key)
    code.frame(_R3, -8)
    code.add(0xB7, _R4, value=0)
    code.call(_UPDATE)
    code.add(0x15, _R0, value=0, label=f"{prefix}end")
    _lose(code, losses, loss)
    code.label(f"{prefix}end")


def _lose(code: Code, losses: int, loss: int) -> None:
    code.add(0x62, _FP, offset=-12, value=loss)
    code.add(0x7A, _FP, offset=-8, value=1)
    code.set_map(_R1, losses)
    code.frame(_R2, -12)
    code.frame(_R3, -8)
    code.add(0xB7, _R4, value=0)
    code.call(_UPDATE)


def calls_program(namespace: tuple[int, int], maps: Maps, machine: str) -> bytes:
    """For `sys_enter` (struct pt_regs *, number)."""
    _, _, (offset, mask, value) = REGISTERS[machine]
    code = _begin(namespace)
    code.add(0x79, _R7, _R6, offset=8)
    code.add(0x79, _R3, _R6)
    code.add(0x07, _R3, value=offset)
    code.frame(_R1, -24)
    code.add(0xB7, _R2, value=8)
    code.call(_READ_KERNEL)
    code.add(0x79, _R1, _FP, offset=-24)
    code.add(0x57, _R1, value=mask)
    code.add(0x55, _R1, value=value, label="native")
    code.set(_R2, COMPAT)
    code.add(0x4F, _R7, _R2)
    code.label("native")
    code.add(0x63, _FP, _R7, offset=-16)
    _count(code, maps.calls, maps.losses, -16, LOST_CALL, "calls")
    return _end(code)


def capabilities_program(namespace: tuple[int, int], maps: Maps) -> bytes:
    """For `cap_capable` (cred, target namespace, namespace where it was found, capability, result)."""
    code = _begin(namespace)
    code.add(0x79, _R7, _R6, offset=24)
    code.add(0x57, _R7, value=0xFF)
    code.add(0x79, _R1, _R6, offset=32)
    code.add(0x67, _R1, value=32)  # an int: the upper half is undefined
    code.add(0x15, _R1, value=0, label="granted")
    code.add(0x47, _R7, value=0x100)
    code.label("granted")
    code.add(0x63, _FP, _R7, offset=-16)
    _count(code, maps.capabilities, maps.losses, -16, LOST_CAPABILITY, "caps")
    return _end(code)


def paths_program(
    namespace: tuple[int, int], maps: Maps, machine: str, numbers: Sequence[tuple[int, int, int]]
) -> bytes:
    """For `sys_exit` (struct pt_regs *, result). numbers: (number of a call, its path's and its flags' argument)."""
    arguments, number_offset, _ = REGISTERS[machine]
    key = -16 - KEY_SIZE
    code = _begin(namespace)
    code.add(0x79, _R1, _R6, offset=8)
    code.add(0xC5, _R1, value=0, label="end")  # it failed
    code.add(0x79, _R6, _R6)  # the registers
    _read_kernel(code, number_offset)
    code.move(_R7, _R0)
    shapes: dict[tuple[int, int], list[int]] = {}
    for number, path, flags in numbers:
        shapes.setdefault((path, flags), []).append(number)
    for (path, flags), of_shape in shapes.items():
        for number in of_shape:
            code.add(0x15, _R7, value=number, label=f"shape{path},{flags}")
    code.add(0x05, label="end")
    for path, flags in shapes:
        code.label(f"shape{path},{flags}")
        if flags == -1:
            code.set(_R9, WRITES)
        else:
            _read_kernel(code, arguments[flags if flags >= 0 else 2])
            if flags == -2:
                code.move(_R3, _R0)
                code.add(0x7A, _FP, offset=-24, value=0)
                code.frame(_R1, -24)
                code.add(0xB7, _R2, value=8)
                code.call(_READ_USER)
                code.add(0x79, _R0, _FP, offset=-24)
            code.move(_R9, _R0)
            code.add(0x57, _R9, value=O_WRITES)
        _read_kernel(code, arguments[path])
        code.move(_R8, _R0)
        code.add(0x05, label="note")
    code.label("note")
    for offset in range(key, key + KEY_SIZE, 8):
        code.add(0x7A, _FP, offset=offset, value=0)
    code.add(0x63, _FP, _R7, offset=key)
    code.add(0x63, _FP, _R9, offset=key + 4)
    code.frame(_R1, key + 8)
    code.add(0xB7, _R2, value=PATH_SIZE)
    code.move(_R3, _R8)
    code.call(_READ_USER_STR)
    code.add(0x65, _R0, value=1, label="read")  # more than the byte that ends it
    code.add(0xC5, _R0, value=0, label="unread")
    code.add(0x05, label="end")  # an empty path is a descriptor's (AT_EMPTY_PATH)
    code.label("read")
    code.add(0x55, _R9, value=0, label="wanted")
    code.add(0x61, _R1, _FP, offset=key + 8)
    code.add(0x55, _R1, value=int.from_bytes(b"/dev", sys.byteorder), label="no device")
    code.add(0x05, label="wanted")
    code.label("no device")
    code.add(0x79, _R1, _FP, offset=key + 8)
    code.set(_R2, int.from_bytes(b"/proc/sy", sys.byteorder))
    code.add(0x5D, _R1, _R2, label="end")
    code.label("wanted")
    _count(code, maps.paths, maps.losses, key, LOST_PATH, "paths")
    code.add(0x05, label="end")
    code.label("unread")
    _lose(code, maps.losses, UNREAD_PATH)
    return _end(code)


def _read_kernel(code: Code, offset: int) -> None:
    """Load a register of the process into r0; r6 has the address of them all."""
    code.add(0x7A, _FP, offset=-24 - KEY_SIZE, value=0)
    code.frame(_R1, -24 - KEY_SIZE)
    code.add(0xB7, _R2, value=8)
    code.move(_R3, _R6)
    code.add(0x07, _R3, value=offset)
    code.call(_READ_KERNEL)
    code.add(0x79, _R0, _FP, offset=-24 - KEY_SIZE)
