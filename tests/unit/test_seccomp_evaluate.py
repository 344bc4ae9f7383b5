"""seccomp_evaluate answers as the kernel does: by libseccomp's compiler, and by hand-written programs."""

from __future__ import annotations

import struct

import pytest

from pyruntime.features.security import seccomp_evaluate, seccomp_profile

X86_64 = 0xC000003E
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000


def program(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("=HBBI", *one) for one in instructions)


def compiled(default: str, *rules: dict[str, object]) -> bytes:
    section = {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list(rules)}
    return seccomp_profile.compile_profile(section).program


@pytest.mark.parametrize(
    ("default", "names", "action", "allowed"),
    [
        ("SCMP_ACT_ALLOW", ["mount"], "SCMP_ACT_ERRNO", True),
        ("SCMP_ACT_ALLOW", ["clone3"], "SCMP_ACT_ERRNO", True),
        ("SCMP_ACT_ALLOW", ["clone"], "SCMP_ACT_ERRNO", False),
        ("SCMP_ACT_ALLOW", ["exit_group"], "SCMP_ACT_KILL_PROCESS", False),
        ("SCMP_ACT_ERRNO", ["clone", "exit_group"], "SCMP_ACT_ALLOW", True),
        ("SCMP_ACT_ERRNO", ["clone", "exit_group"], "SCMP_ACT_LOG", True),
        ("SCMP_ACT_ERRNO", ["clone", "exit_group"], "SCMP_ACT_NOTIFY", False),
        ("SCMP_ACT_KILL_PROCESS", ["read", "write", "execve"], "SCMP_ACT_ALLOW", False),
    ],
)
def test_whether_a_filter_allows_the_spawn(default: str, names: list[str], action: str, allowed: bool) -> None:
    assert seccomp_evaluate.allows_spawn(compiled(default, {"names": names, "action": action})) is allowed


def test_dockers_rule_for_clone() -> None:
    """Without namespaces among its flags it is allowed."""
    rule = {
        "names": ["clone"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
    }
    filter = compiled("SCMP_ACT_ERRNO", rule, {"names": ["exit_group"], "action": "SCMP_ACT_ALLOW"})
    assert seccomp_evaluate.allows_spawn(filter)
    assert seccomp_evaluate.evaluate(filter, X86_64, 56, 0x20000) == ERRNO


def test_arithmetic_and_memory() -> None:
    filter = program(
        (0x20, 0, 0, 0),  # A = number
        (0x02, 0, 0, 3),  # M[3] = A
        (0x01, 0, 0, 2),  # X = 2
        (0x0C, 0, 0, 0),  # A += X
        (0x07, 0, 0, 0),  # X = A
        (0x60, 0, 0, 3),  # A = M[3]
        (0x1C, 0, 0, 0),  # A -= X
        (0x15, 0, 1, 0xFFFFFFFE),
        (0x06, 0, 0, ALLOW),
        (0x06, 0, 0, KILL),
    )
    assert seccomp_evaluate.evaluate(filter, X86_64, 40, 0) == ALLOW


def test_an_unknown_instruction_is_an_error() -> None:
    with pytest.raises(ValueError, match="0xffff"):
        seccomp_evaluate.evaluate(program((0xFFFF, 0, 0, 0)), X86_64, 1, 0)
