"""The BPF program for devices, run by an interpreter of the few instructions it has."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyruntime.features.cgroups import device_program, devices

ACCESS = {"m": 1, "r": 2, "w": 4}
TYPES = {"b": 1, "c": 2}


def run(program: bytes, kind: str, major: int, minor: int, access: str) -> int:
    """What the program gives for one access: 1 for allowed."""
    context = [TYPES[kind] | sum(ACCESS[letter] for letter in access) << 16, major, minor]
    registers = [0] * 6
    at = 0
    for _ in range(10000):
        code, both = program[at * 8], program[at * 8 + 1]
        offset = int.from_bytes(program[at * 8 + 2 : at * 8 + 4], sys.byteorder, signed=True)
        value = int.from_bytes(program[at * 8 + 4 : at * 8 + 8], sys.byteorder, signed=True)
        target, source = both & 15, both >> 4
        at += 1
        if code == 0x61:
            registers[target] = context[offset // 4]
        elif code == 0xB7:
            registers[target] = value
        elif code == 0xBF:
            registers[target] = registers[source]
        elif code == 0x57:
            registers[target] &= value
        elif code == 0x77:
            registers[target] >>= value
        elif code == 0x15:
            at += offset if registers[target] == value else 0
        elif code == 0x55:
            at += offset if registers[target] != value else 0
        elif code == 0x5D:
            at += offset if registers[target] != registers[source] else 0
        elif code == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"instruction {code:#x}")
    raise AssertionError("no end")


@pytest.mark.parametrize(
    ("rules", "device", "allowed"),
    [
        (["deny a"], ("c", 1, 3, "r"), 0),
        (["allow a"], ("b", 8, 0, "rwm"), 1),
        (["deny a", "allow c 1:3 rw"], ("c", 1, 3, "rw"), 1),
        (["deny a", "allow c 1:3 rw"], ("c", 1, 3, "m"), 0),
        (["deny a", "allow c 1:3 rw"], ("b", 1, 3, "r"), 0),
        (["deny a", "allow c 1:3 rw"], ("c", 1, 4, "r"), 0),
        (["deny a", "allow c 1:3 r", "allow c 1:3 w"], ("c", 1, 3, "rw"), 1),
        (["deny a", "allow c *:* m"], ("c", 200, 70000, "m"), 1),
        (["deny a", "allow c 1:* rwm", "deny c 1:3 w"], ("c", 1, 3, "rw"), 0),
        (["deny a", "allow c 1:* rwm", "deny c 1:3 w"], ("c", 1, 3, "r"), 1),
        (["allow a", "deny b 8:* rwm"], ("b", 8, 1, "r"), 0),
        (["allow a", "deny b 8:* rwm"], ("b", 9, 1, "r"), 1),
        (["allow b 8:0 r", "deny a"], ("b", 8, 0, "r"), 0),
    ],
)
def test_rules(rules: list[str], device: tuple[str, int, int, str], allowed: int) -> None:
    assert run(device_program.assemble(rules), *device) == allowed


def test_every_container_has_the_default_devices() -> None:
    program = device_program.assemble(devices.rules([]))
    for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 40)):
        assert run(program, "c", major, minor, "rw") == 1
    # /dev/console is a pseudoterminal: the host's console is not for containers.
    assert run(program, "c", 5, 1, "r") == 0
    assert run(program, "b", 8, 0, "r") == 0
    assert run(program, "b", 8, 0, "m") == 1


NUMBERS = st.sampled_from(["*", "0", "1", "2"])
RULES = st.builds(
    "{} {} {}:{} {}".format,
    st.sampled_from(["allow", "deny"]),
    st.sampled_from("bc"),
    NUMBERS,
    NUMBERS,
    st.sampled_from(["r", "w", "m", "rw", "rwm"]),
)


@given(st.lists(st.one_of(RULES, st.sampled_from(["allow a", "deny a"]))), st.sampled_from("bc"), st.integers(0, 2))
def test_for_one_access_the_last_rule_that_fits_decides(rules: list[str], kind: str, number: int) -> None:
    program = device_program.assemble(rules)
    for access in "rwm":
        expected = 0
        for rule in rules:
            word, what, *rest = rule.split()
            if what == "a" or (
                what == kind and all(part in ("*", str(number)) for part in rest[0].split(":")) and access in rest[1]
            ):
                expected = int(word == "allow")
        assert run(program, kind, number, number, access) == expected
