"""What a compiled seccomp filter answers to a system call: classic BPF as seccomp(2) runs it."""

from __future__ import annotations

import posix

from pyruntime.kernel.constants import (
    AUDIT_ARCH_AARCH64,
    AUDIT_ARCH_X86_64,
    CLONE_PARENT,
    CLONE_PARENT_SETTID,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_LOG,
)

# linux/audit.h, and clone and exit_group in unistd.h, by uname(2)'s machine
_MACHINES = {
    "x86_64": (AUDIT_ARCH_X86_64, 56, 231),
    "aarch64": (AUDIT_ARCH_AARCH64, 220, 94),
}
# linux/bpf_common.h
_LD_ABSOLUTE, _LD_IMMEDIATE, _LD_MEMORY = 0x20, 0x00, 0x60
_LDX_IMMEDIATE, _LDX_MEMORY, _ST, _STX = 0x01, 0x61, 0x02, 0x03
_TAX, _TXA, _RETURN, _RETURN_A, _JUMP = 0x07, 0x87, 0x06, 0x16, 0x05
_ALU, _NEGATE, _JUMPS = 0x04, 0x84, 0x05
_BY_X = 0x08
_ALLOW = (SECCOMP_RET_ALLOW, SECCOMP_RET_LOG)


def allows_spawn(program: bytes) -> bool:
    """Return whether a process under the filter can do what native/spawn.c does in it: clone(2) and exit_group(2)."""
    machine = _MACHINES.get(posix.uname().machine)
    if machine is None:
        return False
    architecture, clone, exit_group = machine
    calls = ((clone, CLONE_PARENT | CLONE_PARENT_SETTID), (exit_group, 0))
    return all(evaluate(program, architecture, number, first) in _ALLOW for number, first in calls)


def evaluate(program: bytes, architecture: int, number: int, first: int) -> int:
    """Return the action of a filter, without its data, for a system call whose other arguments are 0.

    program: struct sock_filter after struct sock_filter; first: the first argument, less than 2**32.
    Raises ValueError for what is not an instruction of classic BPF."""
    operations = memoryview(program).cast("H")  # a fourth of each instruction
    jumps = memoryview(program)
    constants = memoryview(program).cast("I")  # a half of each
    # struct seccomp_data in words of 32 bits: number, architecture, instruction pointer, six arguments of 64 bits
    data = [number, architecture, 0, 0, first, *([0] * 11)]
    memory = [0] * 16
    a = x = at = 0
    while True:
        operation, constant = operations[at * 4], constants[at * 2 + 1]
        if operation == _LD_ABSOLUTE:
            a = data[constant // 4]
        elif operation & 7 == _JUMPS:
            operand = x if operation & _BY_X else constant
            kind = operation & 0xF0
            if operation == _JUMP:
                at += constant
            else:
                if kind == 0x10:
                    taken = a == operand
                elif kind == 0x20:
                    taken = a > operand
                elif kind == 0x30:
                    taken = a >= operand
                else:
                    taken = bool(a & operand)
                at += jumps[at * 8 + (2 if taken else 3)]
        elif operation == _RETURN:
            return constant & 0xFFFF0000
        elif operation == _RETURN_A:
            return a & 0xFFFF0000
        elif operation == _NEGATE:
            a = -a & 0xFFFFFFFF
        elif operation & 7 == _ALU:
            a = _calculate(operation & 0xF0, a, x if operation & _BY_X else constant)
        elif operation == _LD_IMMEDIATE:
            a = constant
        elif operation == _LDX_IMMEDIATE:
            x = constant
        elif operation == _LD_MEMORY:
            a = memory[constant]
        elif operation == _LDX_MEMORY:
            x = memory[constant]
        elif operation == _ST:
            memory[constant] = a
        elif operation == _STX:
            memory[constant] = x
        elif operation == _TAX:
            x = a
        elif operation == _TXA:
            a = x
        else:
            raise ValueError(f"instruction {at}: unknown operation {operation:#x}")
        at += 1


def _calculate(kind: int, a: int, operand: int) -> int:
    if kind == 0x00:
        a += operand
    elif kind == 0x10:
        a -= operand
    elif kind == 0x20:
        a *= operand
    elif kind == 0x30:
        a //= operand
    elif kind == 0x40:
        a |= operand
    elif kind == 0x50:
        a &= operand
    elif kind == 0x60:
        a <<= operand
    elif kind == 0x70:
        a >>= operand
    elif kind == 0xA0:
        a ^= operand
    else:
        raise ValueError(f"unknown arithmetic {kind:#x}")
    return a & 0xFFFFFFFF
