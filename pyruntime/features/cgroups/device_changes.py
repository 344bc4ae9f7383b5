"""Rules of linux.resources.devices from words such as `c 10:200 rwm`, added to a list of rules and taken out of it."""

from __future__ import annotations

from pyruntime.errors import ConfigError, UsageError
from pyruntime.features.cgroups.devices import DEFAULTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.spec.sections import DeviceRule

_HINT = 'write it as "c 10:200 rwm": type a, b or c, major:minor with * for any, and of r, w and m'
_ALL = frozenset("rwm")


def parse(text: str, *, allow: bool) -> DeviceRule:
    """Return a rule of the command line. Raises UsageError."""
    words = text.split()
    if words == ["a"]:
        words = ["a", "*:*", "rwm"]
    numbers = words[1].split(":") if len(words) > 1 else []
    if len(words) not in (2, 3) or words[0] not in ("a", "b", "c") or len(numbers) != 2:
        raise UsageError(f"{text!r} is not a device rule", hint=_HINT)
    access = words[2] if len(words) == 3 else "rwm"
    if not access or not _ALL.issuperset(access) or not all(one == "*" or one.isdecimal() for one in numbers):
        raise UsageError(f"{text!r} is not a device rule", hint=_HINT)
    rule: DeviceRule = {"allow": allow, "type": words[0], "access": "".join(one for one in "rwm" if one in access)}
    major, minor = (None if one == "*" else int(one) for one in numbers)
    if major is not None:
        rule["major"] = major
    if minor is not None:
        rule["minor"] = minor
    return rule


def changed(rules: list[DeviceRule], added: list[DeviceRule], removed: list[DeviceRule]) -> list[DeviceRule]:
    """Return the rules after those to remove and then those to add. Raises ConfigError for a default device.

    Accesses are taken out of rules for the same devices; if other rules still allow some, a rule that denies them is
    appended."""
    result = list(rules)
    for rule in removed:
        _require_no_default(rule)
        result = _without(result, rule)
        if any(_allows_some(one, rule) for one in result):
            result.append({**rule, "allow": False})
    for rule in added:
        result = [*_without(result, rule), rule]
    return result or [{"allow": False, "access": "rwm"}]  # an empty list means "as it was" for update


def _without(rules: list[DeviceRule], rule: DeviceRule) -> list[DeviceRule]:
    """Return the rules without these accesses to exactly these devices."""
    kept: list[DeviceRule] = []
    for one in rules:
        if _devices(one) == _devices(rule):
            access = "".join(letter for letter in _access(one) if letter not in _access(rule))
            if not access:
                continue
            one = {**one, "access": access}
        kept.append(one)
    return kept


def _allows_some(one: DeviceRule, rule: DeviceRule) -> bool:
    if not one["allow"] or not set(_access(one)) & set(_access(rule)):
        return False
    return all(
        a == b or a in ("a", None) or b in ("a", None) for a, b in zip(_devices(one), _devices(rule), strict=True)
    )


def _devices(rule: DeviceRule) -> tuple[str, int | None, int | None]:
    kind = rule.get("type") or "a"
    major, minor = rule.get("major"), rule.get("minor")
    return (
        "c" if kind == "u" else kind,
        None if major is None or major < 0 else major,
        None if minor is None or minor < 0 else minor,
    )


def _access(rule: DeviceRule) -> str:
    return rule.get("access") or "rwm"


def _require_no_default(rule: DeviceRule) -> None:
    """Raise ConfigError for a device that every container has, since these are allowed after all rules."""
    kind, major, minor = _devices(rule)
    for line in DEFAULTS:
        _, other, numbers, access = line.split()
        fits = numbers in (f"{major}:{minor}", f"{major}:*" if major is not None else "")
        if other == kind and fits and set(_access(rule)) & set(access):
            raise ConfigError(
                f"{kind} {numbers} is a default device: every container may use it",
                hint="runtime-spec config-linux.md lists the default devices",
            )
