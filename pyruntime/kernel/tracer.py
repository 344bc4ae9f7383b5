"""native/tracer.c: what the maker of a snapshot needs of the kernel and of the processor."""

from __future__ import annotations

import os

from pyruntime.kernel._tracer import ffi, lib
from pyruntime.kernel.constants import (
    PTRACE_GETREGS,
    PTRACE_SETREGS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# sys/ptrace.h, sys/personality.h

# struct user_regs_struct of sys/user.h, in its order.
REGISTERS = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
    "ds es fs gs"
).split()


def trace(request: int, pid: int, data: int = 0) -> None:
    """A request without a structure. Raises OSError."""
    _require(lib.tracer_ptrace(request, pid, 0, ffi.cast("void *", data)), "ptrace")


def registers(pid: int) -> dict[str, int]:
    """Return the registers of a stopped process, by name. Raises OSError."""
    area = _area()
    _require(lib.tracer_ptrace(PTRACE_GETREGS, pid, 0, area), "ptrace")
    return dict(zip(REGISTERS, area, strict=True))


def set_registers(pid: int, values: dict[str, int]) -> None:
    """Set all registers of a stopped process. Raises OSError."""
    area = _area()
    for i, name in enumerate(REGISTERS):
        area[i] = values[name]
    _require(lib.tracer_ptrace(PTRACE_SETREGS, pid, 0, area), "ptrace")


def personality(persona: int) -> None:
    """Set the execution domain of this process (personality(2)). Raises OSError."""
    _require(lib.tracer_personality(persona), "personality")


def processor() -> bytes:
    """Return what this processor can do, in the 32 bytes that the launcher compares. Raises OSError."""
    words = ffi.new("unsigned int[8]")
    if lib.tracer_processor(words) < 0:
        raise OSError(0, "native/processor.h is not written for this architecture")
    return bytes(ffi.buffer(words))


def _area() -> Any:
    return ffi.new(f"unsigned long[{len(REGISTERS)}]")


def _require(result: int, call: str) -> None:
    if result < 0:
        raise OSError(-result, f"{call}: {os.strerror(-result)}")
