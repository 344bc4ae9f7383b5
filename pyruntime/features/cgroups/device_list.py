"""Device rules for the v1 controller, which knows no order of rules.

Its state is a default and a list of exceptions (Documentation/admin-guide/cgroup-v1/devices.rst). With the default
"deny" an access is allowed if one exception allows all of it; with the default "allow" it is denied if an exception
denies a part of it. A rule the other way takes an exception of the same numbers off the list, and does nothing else:
after `allow c *:* rwm` the kernel accepts `deny c 10:229 rwm` and allows the device. Rules like that are written as the
list that comes to the same, and refused where there is none.
"""

from __future__ import annotations

from pyruntime.errors import ConfigError

_ALL = frozenset("rwm")
_NONE: frozenset[str] = frozenset()
_KINDS = ("b", "c")

Key = tuple[str, str]  # major, minor: a number, or "*" for any that no other rule names
Operation = tuple[bool, str, Key, frozenset[str]]  # allow, type, numbers, accesses


def of_rules(rules: list[str], pointer: str) -> list[str]:
    """Return the rules to write, of rules where the last that fits decides (devices.rules). Raises ConfigError."""
    default, operations = _parse(rules)
    if not _is_ordered(default, operations):
        return rules
    tables = {kind: _table([one for one in operations if one[1] == kind], default) for kind in _KINDS}
    for allow in (default, not default):
        if all(_fits(table, allow) for table in tables.values()):
            return _written(tables, allow)
    raise ConfigError(
        "cgroup v1 cannot express these rules: some deny a part of what others allow, and some the reverse",
        pointer=pointer,
        why=_conflict(tables),
        hint="name the devices that are allowed, without *, or use cgroup v2",
    )


def _parse(rules: list[str]) -> tuple[bool, list[Operation]]:
    """Return what holds for all devices, and what the rules after the last that says so change."""
    default = False
    operations: list[Operation] = []
    for rule in rules:
        word, kind, *rest = rule.split()
        if kind == "a":
            default, operations = word == "allow", []
        else:
            major, _, minor = rest[0].partition(":")
            operations.append((word == "allow", kind, (major, minor), frozenset(rest[1])))
    return default, operations


def _is_ordered(default: bool, operations: list[Operation]) -> bool:
    """Return whether a rule takes back a part of an exception, or more than one: that needs an order of rules."""
    exceptions: list[Operation] = []
    for operation in operations:
        allow, kind, key, access = operation
        if allow != default:
            exceptions.append(operation)
        elif any(
            one[1] == kind and one[2] != key and access & one[3] and all(map(_meet, one[2], key)) for one in exceptions
        ):
            return True
    return False


def _meet(one: str, other: str) -> bool:
    return one == other or "*" in (one, other)


def _table(operations: list[Operation], default: bool) -> dict[Key, frozenset[str]]:
    """Return what may be done with the devices of one type: the accesses for each combination of numbers that rules
    name."""
    keys = {key for _, _, key, _ in operations} | {("*", "*")}
    majors = {major for major, _ in keys}
    minors = {minor for major, minor in keys if major == "*"}
    keys |= {(major, minor) for major in majors for minor in minors} | {(major, "*") for major in majors}
    table = {}
    for key in keys:
        allowed = _ALL if default else _NONE
        for allow, _, (major, minor), access in operations:
            if major in ("*", key[0]) and minor in ("*", key[1]):
                allowed = allowed | access if allow else allowed - access
        table[key] = allowed
    return table


def _above(key: Key) -> list[Key]:
    """Return the wider combinations that a device of these numbers is one of."""
    return [one for one in ((key[0], "*"), ("*", key[1]), ("*", "*")) if one != key]


def _exceptions(table: dict[Key, frozenset[str]], allow: bool) -> dict[Key, frozenset[str]]:
    return {key: _ALL - access if allow else access for key, access in table.items()}


def _fits(table: dict[Key, frozenset[str]], allow: bool) -> bool:
    """Return whether a list with this default can hold the table: an exception acts on all that it matches."""
    found = _exceptions(table, allow)
    return all(found.get(wider, _NONE) <= found[key] for key in found for wider in _above(key))


def _written(tables: dict[str, dict[Key, frozenset[str]]], allow: bool) -> list[str]:
    default, exception = ("allow", "deny") if allow else ("deny", "allow")
    lines = [f"{default} a"]
    for kind, table in tables.items():
        found = _exceptions(table, allow)
        for key in sorted(found):
            access = found[key]
            if access and all(found.get(wider) != access for wider in _above(key)):
                letters = "".join(letter for letter in "rwm" if letter in access)
                lines.append(f"{exception} {kind} {key[0]}:{key[1]} {letters}")
    return lines


def _conflict(tables: dict[str, dict[Key, frozenset[str]]]) -> str:
    """Return a part that stands against each of the two defaults, for a message."""
    words = []
    for allow in (False, True):
        for kind, table in tables.items():
            found = _exceptions(table, allow)
            both = [(key, wider) for key in found for wider in _above(key)]
            pairs = [(key, wider) for key, wider in both if not found.get(wider, _NONE) <= found[key]]
            if pairs:
                (major, minor), wider = min(pairs)
                verb = "allows more than" if allow else "allows less than"
                words.append(f"{kind} {major}:{minor} {verb} {kind} {wider[0]}:{wider[1]}")
                break
    return ", and ".join(words)
