"""linux.resources.devices: which device nodes the container's processes may open and make.

The rules of config.json are applied in its order; after them come those for the devices that every container has
(runtime-spec config-linux.md, "Default Devices"). Without a rule for all devices, everything else is denied.
"""

from __future__ import annotations

import posix

from pyruntime.cgroups import setting
from pyruntime.cgroups.layout import UNIFIED
from pyruntime.errors import ConfigError
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyruntime.plan.request import Request

POINTER = "/linux/resources/devices"

# Every container gets these: "allow" or "deny", type ("a" all, "b", "c"), major:minor ("*" is any), accesses.
DEFAULTS = (
    "allow c *:* m",
    "allow b *:* m",
    "allow c 1:3 rwm",  # null
    "allow c 1:5 rwm",  # zero
    "allow c 1:7 rwm",  # full
    "allow c 1:8 rwm",  # random
    "allow c 1:9 rwm",  # urandom
    "allow c 5:0 rwm",  # tty
    "allow c 5:1 rwm",  # console
    "allow c 5:2 rwm",  # ptmx
    "allow c 136:* rwm",  # pts/*
)
_ALL = ("deny a", "allow a")


def plan(entries: list[dict[str, Any]], request: Request) -> Iterator[Step]:
    """HOOKS: the rules, where the host can have them."""
    hierarchy = request.layout.serving("devices")
    if hierarchy:
        yield Step(POINTER, set_v1, hierarchy=hierarchy, rules=rules(entries), rootless=request.rootless)
    elif request.layout.kind == "v2":
        yield Step(POINTER, set_v2, hierarchy=UNIFIED, rules=rules(entries), rootless=request.rootless)


def rules(entries: list[dict[str, Any]]) -> list[str]:
    """All rules in order, from linux.resources.devices. Raises ConfigError."""
    found = []
    for index, entry in enumerate(entries):
        kind = entry.get("type") or "a"
        access = entry.get("access") or "rwm"
        if kind not in ("a", "b", "c", "u"):
            raise ConfigError(
                f'"{kind}" is no type of device that can be allowed or denied',
                pointer=f"{POINTER}/{index}/type",
                mend="give c, b or a",
            )
        if not set("rwm").issuperset(access):
            raise ConfigError(
                f'"{access}" is no access to a device', pointer=f"{POINTER}/{index}/access", mend="use r, w and m"
            )
        word = "allow" if entry["allow"] else "deny"
        if kind == "a":
            # The kernel takes "all" as a whole: no numbers, no part of the accesses.
            found.append(f"{word} a")
        else:
            number = f"{_or_any(entry.get('major'))}:{_or_any(entry.get('minor'))}"
            found.append(f"{word} {'b' if kind == 'b' else 'c'} {number} {access}")
    if not any(rule in _ALL for rule in found):
        found.insert(0, "deny a")
    return [*found, *DEFAULTS]


def _or_any(number: int | None) -> str:
    return "*" if number is None or number < 0 else str(number)


def set_v1(parent: Any, hierarchy: str, rules: list[str], rootless: bool) -> None:
    """allow and deny devices, the last rule that fits: {rules}"""
    if rootless and hierarchy not in parent.record.cgroups:
        return  # an ordinary user can make no nodes, and what may be opened is a matter of their modes
    directory = setting.directory_of(parent, hierarchy)
    fds: dict[str, int] = {}
    try:
        for rule in rules:
            word, _, line = rule.partition(" ")
            if word not in fds:
                fds[word] = posix.open(f"{directory}/devices.{word}", posix.O_WRONLY | posix.O_CLOEXEC)
            try:
                posix.write(fds[word], line.encode())
            except OSError as error:
                setting.fail(directory, f"devices.{word}", line, error.errno or 0)
    finally:
        for fd in fds.values():
            posix.close(fd)


def set_v2(parent: Any, hierarchy: str, rules: list[str], rootless: bool) -> None:
    """allow and deny devices by a BPF program, the last rule that fits: {rules}"""
    from pyruntime.cgroups import device_program

    if rootless:
        return  # bpf(2) needs CAP_BPF in the initial user namespace
    device_program.attach(setting.directory_of(parent, hierarchy), rules)
