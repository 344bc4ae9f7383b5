"""Device rules on a cgroup2 host, which has no files for them: a BPF program of ours on the container's cgroup.

The kernel runs it for every open and mknod of a device (bpf_cgroup_dev_ctx: type and access, major, minor) and
refuses where it gives 0. Programs of others on the same cgroup stay: all must agree.
"""

from __future__ import annotations

import posix
import sys

from pyruntime.errors import KernelError, StepError, errno_name, strerror
from pyruntime.kernel import bpf

NAME = "pyruntime_dev"

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ANY_ACCESS = 7

# Instructions of BPF (bpf-helpers(7); the numbers are of linux/bpf_common.h and linux/bpf.h).
_LOAD_WORD, _MOVE, _MOVE_REGISTER, _AND, _SHIFT_RIGHT = 0x61, 0xB7, 0xBF, 0x57, 0x77
_IF_EQUAL, _IF_NOT_EQUAL, _IF_REGISTERS_DIFFER, _EXIT = 0x15, 0x55, 0x5D, 0x95
_RESULT, _CONTEXT, _TYPE, _WANTED, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5


def attach(directory: str, rules: list[str]) -> None:
    """Attach the rules to a cgroup, replacing those attached before. Raises StepError."""
    flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
    cgroup = posix.open(directory, flags)
    program = old = None
    try:
        program = bpf.load_device_program(assemble(rules), NAME)
        old = bpf.find_device_program(cgroup, NAME)
        bpf.attach_device_program(cgroup, program, old)
    except KernelError as error:
        raise StepError(
            f"put a BPF program for devices on {directory}: {error.call()}: {strerror(error.errno)}",
            why="root without CAP_BPF and CAP_NET_ADMIN, or a kernel without CONFIG_CGROUP_BPF",
            hint="run with these capabilities",
            syscall=error.call(),
            errno=errno_name(error.errno),
        ) from None
    finally:
        for fd in (cgroup, program, old):
            if fd is not None:
                posix.close(fd)


def assemble(rules: list[str]) -> bytes:
    """Return the program for rules as devices.py writes them.

    The last rule that fits decides, so the last comes first here. An access is allowed when a rule, or some for the
    same devices together, allow all of it, and denied when a rule denies a part of it."""
    code = [
        _instruction(_LOAD_WORD, _TYPE, _CONTEXT, offset=0),
        _instruction(_MOVE_REGISTER, _WANTED, _TYPE),
        _instruction(_AND, _TYPE, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, _WANTED, value=16),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, offset=4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, offset=8),
    ]
    default, merged = _merge(rules)
    for allow, kind, major, minor, access in reversed(merged):
        code += _rule(allow, kind, major, minor, access)
    code += [_instruction(_MOVE, _RESULT, value=int(default)), _instruction(_EXIT)]
    return b"".join(code)


def _merge(rules: list[str]) -> tuple[bool, list[tuple[bool, str, str, str, int]]]:
    """Return what holds for all devices, and the rules after the last that said so: (allow, type, major, minor,
    access)."""
    default = False
    merged: list[tuple[bool, str, str, str, int]] = []
    for rule in rules:
        word, kind, *rest = rule.split()
        allow = word == "allow"
        if kind == "a":
            default, merged = allow, []
            continue
        major, _, minor = rest[0].partition(":")
        access = sum(_ACCESS[letter] for letter in set(rest[1]))
        if allow:
            # `r` allowed here and `w` there is `rw` allowed, as v1 has it, unless something was denied between.
            for index in range(len(merged) - 1, -1, -1):
                if not merged[index][0]:
                    break
                if merged[index][1:4] == (kind, major, minor):
                    access |= merged.pop(index)[4]
                    break
        merged.append((allow, kind, major, minor, access))
    return default, merged


def _rule(allow: bool, kind: str, major: str, minor: str, access: int) -> list[bytes]:
    """Return instructions that end the program when the rule matches, and continue after it when not."""
    tests: list[tuple[int, int, int, int]] = [(_IF_NOT_EQUAL, _TYPE, 0, _TYPES[kind])]
    if major != "*":
        tests.append((_IF_NOT_EQUAL, _MAJOR, 0, int(major)))
    if minor != "*":
        tests.append((_IF_NOT_EQUAL, _MINOR, 0, int(minor)))
    body = []
    if access != _ANY_ACCESS:
        body = [
            _instruction(_MOVE_REGISTER, _CONTEXT, _WANTED),
            _instruction(_AND, _CONTEXT, value=access),
        ]
        tests.append((_IF_REGISTERS_DIFFER, _CONTEXT, _WANTED, 0) if allow else (_IF_EQUAL, _CONTEXT, 0, 0))
    end = [_instruction(_MOVE, _RESULT, value=int(allow)), _instruction(_EXIT)]
    length = len(body) + len(tests) + len(end)
    code = list(body)
    for operation, register, other, value in tests:
        offset = length - len(code) - 1
        code.append(_instruction(operation, register, other, offset=offset, value=value))
    return code + end


def _instruction(code: int, target: int = 0, source: int = 0, *, offset: int = 0, value: int = 0) -> bytes:
    """Return one instruction of 8 bytes: struct bpf_insn."""
    registers = target | source << 4 if sys.byteorder == "little" else target << 4 | source
    return (
        bytes((code, registers))
        + offset.to_bytes(2, sys.byteorder, signed=True)
        + value.to_bytes(4, sys.byteorder, signed=True)
    )
