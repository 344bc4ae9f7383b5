"""linux.resources.devices: which device nodes the container's processes may open and make.

The rules of config.json are applied in its order; after them come those for the devices that every container has
(runtime-spec config-linux.md, "Default Devices"). Without a rule for all devices, everything else is denied.
"""

from __future__ import annotations

import posix

from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.errors import ConfigError
from pyruntime.features.cgroups import setting
from pyruntime.kernel.constants import EPERM
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import CgroupActor
    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import DeviceRule

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
    "allow c 5:0 rwm",  # tty; /dev/console is a pseudoterminal, and never the host's 5:1
    "allow c 5:2 rwm",  # ptmx
    "allow c 136:* rwm",  # pts/*
)
_ALL = ("deny a", "allow a")
# Such a container can make no device nodes; what it may open is a matter of the modes of those that it is given.
_NOT_ROOT = "not in force: only root of the initial user namespace can set device rules"


def plan(entries: list[DeviceRule], request: Request) -> Iterator[Step]:
    """HOOKS: the rules. Raises ConfigError for rules on a host that cannot have them."""
    hierarchy = request.layout.serving("devices")
    if hierarchy:
        lines = v1_rules(entries)
        asked = bool(entries)
        yield Step(POINTER, set_v1, hierarchy=hierarchy, rules=lines, rootless=request.rootless, asked=asked)
    elif request.layout.kind in ("v2", "hybrid"):  # a tree without controllers takes programs as well
        if not request.rootless:
            yield Step(POINTER, set_v2, hierarchy=UNIFIED, rules=rules(entries))
        elif entries:
            request.warn(f"config.json: {POINTER}: {_NOT_ROOT}")
    elif entries:
        if not request.rootless:
            raise ConfigError(
                "this host has no cgroup controller devices",
                pointer=POINTER,
                why="its cgroups are not mounted or not visible" if request.layout.kind == "none" else None,
                hint="mount or enable it, or leave out the rules",
            )
        request.warn(f"config.json: {POINTER}: {_NOT_ROOT}")


def v1_rules(entries: list[DeviceRule]) -> list[str]:
    """Return the rules as the v1 controller takes them. Raises ConfigError for what it cannot express."""
    found = rules(entries)
    # Of rules that only allow, the order says nothing.
    if not any(rule.startswith("deny ") and rule not in _ALL for rule in found):
        return found
    from pyruntime.features.cgroups import device_list

    return device_list.of_rules(found, POINTER)


def rules(entries: list[DeviceRule]) -> list[str]:
    """Return all rules in order, from linux.resources.devices. Raises ConfigError."""
    found = []
    for index, entry in enumerate(entries):
        kind = entry.get("type") or "a"
        access = entry.get("access") or "rwm"
        if kind not in ("a", "b", "c", "u"):
            raise ConfigError(
                f'invalid device type "{kind}"',
                pointer=f"{POINTER}/{index}/type",
                hint="give c, b or a",
            )
        if not set("rwm").issuperset(access):
            raise ConfigError(
                f'invalid device access "{access}"', pointer=f"{POINTER}/{index}/access", hint="use r, w and m"
            )
        word = "allow" if entry["allow"] else "deny"
        number = f"{_or_any(entry.get('major'))}:{_or_any(entry.get('minor'))}"
        if kind != "a":
            found.append(f"{word} {'b' if kind == 'b' else 'c'} {number} {access}")
        elif number == "*:*" and set(access) == set("rwm"):
            found.append(f"{word} a")
        else:
            # The kernel takes "a" as a whole, without numbers and accesses: so for either type of device.
            found += [f"{word} b {number} {access}", f"{word} c {number} {access}"]
    if not any(rule in _ALL for rule in found):
        found.insert(0, "deny a")
    return [*found, *DEFAULTS]


def _or_any(number: int | None) -> str:
    return "*" if number is None or number < 0 else str(number)


def set_v1(parent: CgroupActor, hierarchy: str, rules: list[str], rootless: bool, asked: bool) -> None:
    """allow and deny devices: {rules}

    asked: config.json has rules of its own."""
    if rootless and hierarchy not in parent.record.cgroups:
        if asked:
            parent.warn(f"config.json: {POINTER}: {_NOT_ROOT}")
        return
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
                if rootless and error.errno == EPERM:
                    # Also in a cgroup that is delegated, the kernel wants CAP_SYS_ADMIN of the initial user namespace.
                    if asked:
                        parent.warn(f"config.json: {POINTER}: {_NOT_ROOT}")
                    return
                setting.fail(directory, f"devices.{word}", line, error.errno or 0)
    finally:
        for fd in fds.values():
            posix.close(fd)


def set_v2(parent: CgroupActor, hierarchy: str, rules: list[str]) -> None:
    """allow and deny devices by a BPF program, the last rule that fits: {rules}"""
    from pyruntime.features.cgroups import device_program

    device_program.attach(setting.directory_of(parent, hierarchy), rules)
