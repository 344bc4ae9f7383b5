"""From the profile of config.json to a program for the kernel, by libseccomp. Only on a miss of the cache."""

from __future__ import annotations

import sys

from pyruntime.errors import ConfigError, KernelError, errno_name, strerror
from pyruntime.kernel import libseccomp
from pyruntime.kernel.constants import AUDIT_ARCH_X86_64, ENOSYS, EPERM
from pyruntime.kernel.filter import supports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.spec.sections import Seccomp, SyscallArgument, SyscallRule

_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS of linux/bpf_common.h
_INSTRUCTION_SIZE = 8
_FEW_RULES = 1024

# seccomp(2), SECCOMP_RET_*; the low 16 bits are the action's data.
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")

# seccomp_rule_add(3), enum scmp_compare
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

# runtime-spec config-linux.md, "Seccomp": what is listed by `features` when this libseccomp has it.
ARCHITECTURES = (
    "X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PARISC "
    "PARISC64 PPC PPC64 PPC64LE RISCV64 S390 S390X SH SHEB"
)

# From so many system calls on a tree is worth its instructions: the kernel tries the filter with every system
# call when it is loaded, which took 1.2 ms with docker's profile as a list, 0.5 as a tree.
_TREE_FROM = 8

# bpf(4): classic BPF on struct seccomp_data, whose first field is the number and the second the architecture.
_LOAD_NUMBER, _LOAD_ARCHITECTURE = (0x20, 0, 0, 0), (0x20, 0, 0, 4)
_JUMP, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_NOT_LESS, _RETURN = 0x05, 0x15, 0x25, 0x35, 0x06
_X32 = 0x4000003E  # libseccomp's token of x32: the kernel reports AUDIT_ARCH_X86_64 and __X32_SYSCALL_BIT
_X32_BIT = 0x40000000

Instruction = tuple[int, int, int, int]


class Compiled:
    """program: struct sock_filter after struct sock_filter. library: path of the libseccomp that made it.
    notes: what was left out, for --debug."""

    __slots__ = ("library", "notes", "program")

    def __init__(self, program: bytes, library: str, notes: list[str]) -> None:
        self.program = program
        self.library = library
        self.notes = notes


def compile_profile(section: Seccomp) -> Compiled:
    """Compile linux.seccomp. Raises ConfigError, with a pointer, for what libseccomp refuses."""
    notes: list[str] = []
    default = action_value(section["defaultAction"], section.get("defaultErrnoRet"))
    tokens = _architectures(section.get("architectures") or (), notes)
    filter = libseccomp.Filter(default)
    try:
        for token in tokens[1:]:
            filter.add_architecture(token)
        used = _add_rules(filter, section.get("syscalls") or (), default, tokens[0], notes)
        if len(used) > _TREE_FROM:
            filter.optimize()
        program = filter.export()
    finally:
        filter.close()
    if section["defaultAction"] not in _PERMISSIVE and default & 0xFFFF != ENOSYS:
        program = enosys_stub(highest_numbers(tokens, used)) + program
    if len(program) > _MAX_INSTRUCTIONS * _INSTRUCTION_SIZE:
        raise _too_long(f"the filter takes {len(program) // _INSTRUCTION_SIZE} instructions")
    return Compiled(program, libseccomp.library(), notes)


def action_value(name: str, errno: int | None) -> int:
    """Return an action and its errno (EPERM when none is given) as the kernel takes them."""
    value = ACTIONS[name]
    if name in _WITH_DATA:
        value |= (EPERM if errno is None else errno) & 0xFFFF
    return value


def _architectures(names: list[str] | tuple[str, ...], notes: list[str]) -> list[int]:
    """Return the tokens of the architectures, the native one first."""
    tokens = [libseccomp.native_architecture()]
    for name in names:
        token = libseccomp.architecture(name.removeprefix("SCMP_ARCH_").lower())
        if not token:
            notes.append(f"this libseccomp does not know the architecture {name}")
        elif token not in tokens:
            tokens.append(token)
    return tokens


def _add_rules(
    filter: libseccomp.Filter,
    rules: list[SyscallRule] | tuple[()],
    default: int,
    native: int,
    notes: list[str],
) -> set[str]:
    """Add all rules; gives back the names of the system calls that the profile speaks of."""
    used: set[str] = set()
    added: set[tuple[int, int, tuple[tuple[int, int, int, int], ...]]] = set()
    if len(rules) > _FEW_RULES:
        _refuse_too_many(rules, default)
    for index, rule in enumerate(rules):
        where = f"syscalls/{index}"
        action = action_value(rule["action"], rule.get("errnoRet"))
        used.update(rule["names"])
        if action == default:
            continue  # libseccomp refuses a rule that changes nothing
        conditions = _conditions(rule.get("args") or ())
        for name in rule["names"]:
            number = libseccomp.system_call(native, name)
            if number == -1:
                # Profiles name system calls of newer kernels and of other architectures.
                notes.append(f"unknown system call {name}")
                continue
            for args in conditions:
                if (action, number, tuple(args)) in added:
                    continue
                added.add((action, number, tuple(args)))
                try:
                    filter.add_rule(action, name, number, args)
                except KernelError as error:
                    raise ConfigError(
                        f"libseccomp refuses the rule for {name}: {strerror(error.errno)} ({errno_name(error.errno)})",
                        pointer=f"/linux/seccomp/{where}",
                    ) from error
    return used


def _refuse_too_many(rules: list[SyscallRule] | tuple[()], default: int) -> None:
    """Raise ConfigError for more rules with args than the kernel loads instructions: each distinct one takes at least
    an instruction, and libseccomp takes minutes for what is refused afterwards."""
    conditional: set[tuple[str, int, tuple[tuple[int, int, int, int], ...]]] = set()
    always: set[str] = set()
    for rule in rules:
        action = action_value(rule["action"], rule.get("errnoRet"))
        if action == default:
            continue
        if not rule.get("args"):
            always.update(rule["names"])
            continue
        for args in _conditions(rule["args"]):
            conditional.update((name, action, tuple(args)) for name in rule["names"])
    count = sum(name not in always for name, _, _ in conditional)
    if count > _MAX_INSTRUCTIONS:
        raise _too_long(f"the filter has {count} rules with args, each of which takes an instruction or more")


def _too_long(message: str) -> ConfigError:
    return ConfigError(
        message,
        pointer="/linux/seccomp",
        why=f"the kernel loads no more than {_MAX_INSTRUCTIONS}",
        hint="use fewer rules with args, or fewer architectures",
    )


def _conditions(args: list[SyscallArgument] | tuple[()]) -> list[list[tuple[int, int, int, int]]]:
    """Return the comparisons of a rule, as a list of rules to add.

    All must hold (AND), except several on one argument, of which one must (OR): then each is a rule of its
    own. The specification says nothing; runc began it for the profiles of docker, and all do so."""
    compared = [(arg["index"], OPERATORS[arg["op"]], arg["value"], arg.get("valueTwo") or 0) for arg in args]
    if len({index for index, *_ in compared}) < len(compared):
        return [[one] for one in compared]
    return [compared]


def highest_numbers(tokens: list[int], names: set[str]) -> dict[int, int]:
    """Architecture -> the highest number among the system calls that a profile speaks of."""
    highest = {}
    for token in tokens:
        numbers = [libseccomp.system_call(token, name) for name in names]
        if numbers and max(numbers) >= 0:
            highest[token] = max(numbers)
    return highest


def enosys_stub(highest: dict[int, int]) -> bytes:
    """Return instructions before the filter that answer ENOSYS to system calls newer than the profile.

    A program finds out by ENOSYS that the kernel is older than a call and uses another; an EPERM from a
    profile that is older than the call makes it fail. What the profile's author could know keeps the default
    action. (runc does so since 1.0.0-rc93; crun does not.)"""
    native = {token: number for token, number in highest.items() if token != _X32}
    blocks = []
    for token, number in native.items():
        blocks.append(_stub_block(token, number, highest.get(_X32) if token == AUDIT_ARCH_X86_64 else None))
    if not blocks:
        return b""
    stub = [_LOAD_ARCHITECTURE]
    total = 1 + sum(map(len, blocks))
    for block in blocks:
        for instruction in block:
            code, yes, no, operand = instruction
            if code == _JUMP:  # to the filter, which begins after the stub
                operand = total - len(stub) - 1
            stub.append((code, yes, no, operand))
    return b"".join(map(_encode, stub))


def _stub_block(architecture: int, highest: int, highest_x32: int | None) -> list[Instruction]:
    refuse = (_RETURN, 0, 0, ACTIONS["SCMP_ACT_ERRNO"] | ENOSYS)
    to_filter = (_JUMP, 0, 0, 0)
    if architecture != AUDIT_ARCH_X86_64:
        body = [_LOAD_NUMBER, (_JUMP_GREATER, 1, 0, highest), to_filter, refuse]
    else:
        x32 = [(_JUMP_GREATER, 1, 0, highest_x32), to_filter] if highest_x32 is not None else [to_filter]
        body = [
            _LOAD_NUMBER,
            (_JUMP_NOT_LESS, 2, 0, _X32_BIT),
            (_JUMP_GREATER, 1 + len(x32), 0, highest),
            to_filter,
            *x32,
            refuse,
        ]
    return [(_JUMP_EQUAL, 0, len(body), architecture), *body]


def _encode(instruction: Instruction) -> bytes:
    """struct sock_filter of linux/filter.h."""
    code, yes, no, operand = instruction
    return code.to_bytes(2, sys.byteorder) + bytes((yes, no)) + operand.to_bytes(4, sys.byteorder)


def features() -> dict[str, object]:
    """Return the member `seccomp` of runtime-spec features-linux.md."""
    flags = [f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV")]
    return {
        "enabled": True,
        "actions": sorted(ACTIONS),
        "operators": sorted(OPERATORS),
        "archs": [f"SCMP_ARCH_{n}" for n in ARCHITECTURES.split() if libseccomp.architecture(n.lower())],
        "knownFlags": flags,
        "supportedFlags": [flag for flag in flags if supports(flag)],
    }
