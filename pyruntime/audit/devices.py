"""Check device nodes and links in /dev, and the device rules of the cgroup."""

from __future__ import annotations

import posix

from pyruntime.audit.comparison import Comparison, as_asked, cannot_see, drifted
from pyruntime.audit.probe import Hidden
from pyruntime.features.cgroups.devices import DEFAULTS
from pyruntime.kernel.constants import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.audit.view import View

_KINDS = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}
_LETTERS = {S_IFCHR: "c", S_IFBLK: "b", S_IFIFO: "p", S_IFREG: "file", S_IFDIR: "directory", S_IFLNK: "link"}
# Allowed by other runtimes by default: /dev/net/tun (runc up to 1.1, crun), /dev/console (crun).
_CUSTOMARY = {("c", "10:200"), ("c", "5:1")}


def node(
    view: View,
    pointer: str,
    path: str,
    type: str,
    major: int,
    minor: int,
    mode: int,
    uid: int,
    gid: int,
    bound: bool,
) -> Iterator[Comparison]:
    """Check that a node is this device, and its mode and owner unless it was bind-mounted."""
    what = f"{path} is the device {type} {major}:{minor}" if type != "p" else f"{path} is a FIFO"
    try:
        found = view.probe.look(path, follow=False)
    except Hidden as hidden:
        yield cannot_see(pointer, what, str(hidden))
        return
    if found is None:
        yield drifted(pointer, what, f"{type} {major}:{minor}", "not there")
        return
    kind = found["mode"] & S_IFMT
    number = posix.makedev(major, minor)
    if kind != _KINDS[type] or (type != "p" and found["rdev"] != number):
        letter = _LETTERS.get(kind, oct(kind))
        shown = letter
        if letter in ("c", "b"):
            shown += f" {posix.major(found['rdev'])}:{posix.minor(found['rdev'])}"
        yield drifted(pointer, what, f"{type} {major}:{minor}", shown)
        return
    mounted = view.mounts.mounted_on(path)
    if bound or mounted is not None:
        yield as_asked(pointer, what, "the host's own, bound")
        return
    asked = f"{mode:04o} {uid}:{gid}"
    got = f"{found['mode'] & 0o7777:04o} {found['uid']}:{found['gid']}"
    # config.json does not specify mode and owner of default devices.
    yield as_asked(pointer, what) if got == asked or not pointer else drifted(pointer, what, asked, got)


def link(view: View, pointer: str, path: str, target: str, **_: object) -> Iterator[Comparison]:
    """Check a symbolic link in /dev."""
    what = f"{path} leads to {target}"
    try:
        found = view.probe.look(path, follow=False)
    except Hidden as hidden:
        yield cannot_see(pointer, what, str(hidden))
        return
    if found is None:
        yield drifted(pointer, what, target, "not there")
    elif "target" not in found:
        yield drifted(pointer, what, target, "no link")
    elif found["target"] != target:
        yield drifted(pointer, what, target, found["target"])
    else:
        yield as_asked(pointer, what)


def rules_v1(view: View, pointer: str, hierarchy: str, rules: list[str], **_: object) -> Iterator[Comparison]:
    """Compare devices.list of the v1 controller with the rules."""
    what = "which devices may be opened"
    directory = view.cgroups.get(hierarchy)
    if directory is None:
        yield cannot_see(pointer, what, "the container's cgroup is not to be seen from here")
        return
    try:
        found = _parsed(read_file(f"{directory}/devices.list").splitlines())
    except OSError as error:
        yield cannot_see(pointer, what, f"devices.list: {error.strerror}")
        return
    asked = resulting(rules)
    defaults = resulting(list(DEFAULTS))
    all = ("a", "*:*")
    if all in found or all in asked:
        if not (all in found and all in asked):
            yield drifted(pointer, what, _shown(asked), _shown(found))
            return
        denied = [rule.removeprefix("deny ") for rule in rules if rule.startswith("deny ") and rule != "deny a"]
        yield as_asked(pointer, "devices may be opened unless a rule denies it" if denied else what)
        if denied:
            yield cannot_see(pointer, f"denied are {', '.join(denied)}", "devices.list does not show what is denied")
        return
    more = {
        key: "".join(sorted(access - asked.get(key, frozenset())))
        for key, access in found.items()
        if access - asked.get(key, frozenset())
    }
    customary = {key: more.pop(key) for key in list(more) if key in _CUSTOMARY}
    # A runtime may allow fewer default devices.
    fewer = {
        key: "".join(sorted(access - found.get(key, frozenset())))
        for key, access in asked.items()
        if access - found.get(key, frozenset()) - defaults.get(key, frozenset())
    }
    if more or fewer:
        words = [f"besides: {_words(more)}"] * bool(more) + [f"without: {_words(fewer)}"] * bool(fewer)
        yield drifted(pointer, what, _shown(asked), "; ".join(words))
    else:
        note = f"besides, as some runtimes give everybody: {_words(customary)}" if customary else ""
        yield as_asked(pointer, what, note)


def rules_v2(view: View, pointer: str, **_: object) -> Iterator[Comparison]:
    """Report that the device rules of cgroup v2 cannot be read: they are an eBPF program."""
    yield cannot_see(pointer, "which devices may be opened", "an eBPF program decides, which the kernel does not show")


def resulting(rules: list[str]) -> dict[tuple[str, str], frozenset[str]]:
    """Return the effect of rules in the v1 controller: (type, major:minor) -> accesses; ("a", "*:*") for all.

    Like in the kernel, deny removes only from an existing allow entry ("Device Whitelist Controller")."""
    allowed: dict[tuple[str, str], frozenset[str]] = {}
    for rule in rules:
        word, _, rest = rule.partition(" ")
        if rest.split()[0] == "a":
            allowed = {("a", "*:*"): frozenset("rwm")} if word == "allow" else {}
            continue
        kind, number, access = rest.split()
        key = (kind, number)
        if word == "allow":
            allowed[key] = allowed.get(key, frozenset()) | frozenset(access)
        elif key in allowed:
            allowed[key] -= frozenset(access)
    return {key: access for key, access in allowed.items() if access}


def _parsed(lines: list[str]) -> dict[tuple[str, str], frozenset[str]]:
    found: dict[tuple[str, str], frozenset[str]] = {}
    for line in lines:
        kind, number, access = line.split()
        found[kind, number] = found.get((kind, number), frozenset()) | frozenset(access)
    return found


def _shown(entries: dict[tuple[str, str], frozenset[str]]) -> str:
    return _words({key: "".join(sorted(access)) for key, access in entries.items()}) or "none"


def _words(entries: dict[tuple[str, str], str]) -> str:
    return ", ".join(f"{kind} {number} {access}" for (kind, number), access in sorted(entries.items()))
