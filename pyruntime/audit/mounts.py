"""Mounts with their options, masks, read-only paths; and the mounts that config.json does not ask for."""

from __future__ import annotations

from pyruntime.audit.comparison import Comparison, as_asked, cannot_see, drifted
from pyruntime.audit.probe import Hidden
from pyruntime.features.rootfs.destination import destination_of
from pyruntime.features.rootfs.mount_options import MOUNT_FLAGS, PROPAGATION, split
from pyruntime.features.rootfs.path import clean
from pyruntime.kernel.constants import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_SHARED,
    MS_UNBINDABLE,
    S_IFCHR,
    S_IFDIR,
    S_IFMT,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.audit.view import View
    from pyruntime.plan.request import Request
    from pyruntime.util.mountinfo import Mount

# Attributes as mountinfo has them; strictatime is what it does not show.
_WORDS = (
    (MOUNT_ATTR_RDONLY, "ro"),
    (MOUNT_ATTR_NOSUID, "nosuid"),
    (MOUNT_ATTR_NODEV, "nodev"),
    (MOUNT_ATTR_NOEXEC, "noexec"),
    (MOUNT_ATTR_NODIRATIME, "nodiratime"),
    (MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
)
_NULL = (1 << 8) | 3  # st_rdev of /dev/null, 1:3
_MOST_UNASKED = 20
_SIZES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
# Values that a filesystem does not show while they are its own choice; of others that are not shown nothing is said.
_UNSHOWN = {("tmpfs", "mode"): "1777", ("tmpfs", "size"): "unlimited", ("devpts", "mode"): "600"}


def filesystem(
    view: View,
    pointer: str,
    destination: str,
    type: str,
    set: int,
    data: list[str],
    propagation: list[tuple[int, bool]],
    **_: object,
) -> Iterator[Comparison]:
    """Check a new filesystem, with its options."""
    what = f"{type} on {destination}"
    found = view.mount_at(destination)
    if found is None:
        yield _missing(view, pointer, what, destination)
        return
    if found.fstype != type:
        yield drifted(pointer, what, type, found.describe())
        return
    problems = _attributes(found, set, 0)
    problems += _data(found, type, data)
    problems += _propagation(found, propagation)
    yield _judged(pointer, what, problems, found)


def made_readonly(view: View, pointer: str, destination: str, **_: object) -> Iterator[Comparison]:
    """Check a mount that became read-only at the end."""
    found = view.mount_at(destination)
    what = f"{destination} read-only"
    if found is None:
        yield _missing(view, pointer, what, destination)
    else:
        yield _judged(pointer, what, _attributes(found, MOUNT_ATTR_RDONLY, 0), found)


def bind(
    view: View,
    pointer: str,
    destination: str,
    source: str,
    set: int,
    clear: int,
    tree_set: int,
    tree_clear: int,
    propagation: list[tuple[int, bool]],
    links: list[str],
    **_: object,
) -> Iterator[Comparison]:
    """Check a file or directory of the host, with its options."""
    what = f"{source} on {destination}"
    found = view.mount_at(destination)
    if found is None and "copy-symlink" in links:
        yield cannot_see(pointer, what, "a source that is a symbolic link is copied, and the rootfs may hold it")
        return
    if found is None:
        yield _missing(view, pointer, what, destination)
        return
    set, clear = set | tree_set, clear | tree_clear
    problems = _attributes(found, set, clear & ~set)
    problems += _propagation(found, propagation)
    if problems:
        yield _judged(pointer, what, problems, found)
        return
    try:
        there, here = view.look(destination), view.probe.look_at_host(source)
    except Hidden as hidden:
        yield cannot_see(pointer, what, str(hidden))
        return
    if here is None or there is None:
        yield as_asked(pointer, what, "mounted; the source is not there any more")
    elif (there["dev"], there["ino"]) == (here["dev"], here["ino"]):
        yield as_asked(pointer, what)
    else:
        shown = f"{found.root} of {found.source} ({found.fstype})"
        yield drifted(pointer, what, source, shown, "another file than has that name on the host now")


def remount(view: View, pointer: str, destination: str, flags: int, **_: object) -> Iterator[Comparison]:
    """Check the options of a mount that was there."""
    set = 0
    for attribute, flag in MOUNT_FLAGS:
        set |= attribute if flags & flag else 0
    found = view.mount_at(destination)
    what = f"options of {destination}"
    if found is None:
        yield _missing(view, pointer, what, destination)
    else:
        yield _judged(pointer, what, _attributes(found, set, 0), found)


def cgroups_v1(
    view: View,
    pointer: str,
    destination: str,
    hierarchies: list[tuple[str, list[str], list[str]]],
    set: int,
    **_: object,
) -> Iterator[Comparison]:
    """Check a directory with a mount for each hierarchy."""
    what = f"the cgroup hierarchies below {destination}"
    missing, problems = [], []
    for name, _directories, _controllers in hierarchies:
        found = view.mount_at(f"{destination}/{name}")
        if found is None or found.fstype != "cgroup":
            missing.append(name)
        elif set & MOUNT_ATTR_RDONLY and not found.readonly:
            problems.append((f"{name} read-only", found.describe()))
    # Which hierarchies a container is shown, a runtime chooses.
    if len(missing) == len(hierarchies):
        yield drifted(pointer, what, "mounted", "none of them is")
    elif problems:
        yield _judged(pointer, what, problems, None)
    else:
        yield as_asked(pointer, what, f"without {', '.join(missing)}" if missing else "")


def cgroups_v2(view: View, pointer: str, destination: str, set: int, **_: object) -> Iterator[Comparison]:
    """Check the cgroup2 tree."""
    what = f"cgroup2 on {destination}"
    found = view.mount_at(destination)
    if found is None:
        yield _missing(view, pointer, what, destination)
    elif found.fstype != "cgroup2":
        yield drifted(pointer, what, "cgroup2", found.describe())
    else:
        yield _judged(pointer, what, _attributes(found, set, 0), found)


def masked(view: View, pointer: str, path: str, **_: object) -> Iterator[Comparison]:
    """Check that masked paths are covered by the null device, or by an empty directory that stays empty."""
    what = f"{path} is masked"
    try:
        looked = view.look(path)
    except Hidden as hidden:
        yield cannot_see(pointer, what, str(hidden))
        return
    if looked is None:
        yield as_asked(pointer, what, "there is no such file")
        return
    found = view.mount_at(path)
    kind = looked["mode"] & S_IFMT
    if kind == S_IFCHR and looked["rdev"] == _NULL:
        yield as_asked(pointer, what)  # covered by it, or it from the beginning
    elif found is None:
        yield drifted(pointer, what, "masked", "it can be seen")
    elif kind == S_IFDIR and looked.get("empty") and found.readonly:
        yield as_asked(pointer, what)
    else:
        yield drifted(pointer, what, "the null device, or an empty read-only directory", found.describe())


def readonly(view: View, pointer: str, path: str, **_: object) -> Iterator[Comparison]:
    """Check that read-only paths are read-only."""
    what = f"{path} is read-only"
    seen = view.mounts.seen_at(clean(path))
    try:
        looked = view.look(path)
        if looked is not None:
            seen = view.mounts.by_id.get(looked["mount"], seen)
    except Hidden as hidden:
        if seen is None or not seen.readonly:
            yield cannot_see(pointer, what, str(hidden))
            return
    else:
        if looked is None:
            yield as_asked(pointer, what, "there is no such file")
            return
    if seen is not None and seen.readonly:
        yield as_asked(pointer, what)
    else:
        yield drifted(pointer, what, "ro", "not mounted" if seen is None else seen.describe())


def propagation(view: View, pointer: str, word: str, **_: object) -> Iterator[Comparison]:
    """Check the propagation of the root."""
    root = view.mounts.root()
    what = f"the root's propagation is {word}"
    if root is None:
        yield cannot_see(pointer, what, "the root is not a mount point")
    else:
        yield _judged(pointer, what, _propagation(root, [PROPAGATION[word]]), root)


def terminal(view: View, pointer: str, **_: object) -> Iterator[Comparison]:
    """Check that a terminal is on /dev/console."""
    found = view.mount_at("/dev/console")
    what = "a terminal on /dev/console"
    if found is not None and found.fstype == "devpts":
        yield as_asked(pointer, what)
    else:
        yield drifted(pointer, what, "devpts", "nothing" if found is None else found.describe())


def unasked(view: View, request: Request) -> Iterator[Comparison]:
    """Mounts that are seen and that config.json does not ask for: made later, from inside or from outside."""
    if not request.namespace("mount")[0]:
        return
    exact, trees = _explained(request)
    extra: list[Mount] = []
    for mount in view.mounts.seen():
        if len(extra) > _MOST_UNASKED:
            break  # a container may make a hundred thousand
        place = mount.place
        if place in exact or any(place == tree or place.startswith(tree.rstrip("/") + "/") for tree in trees):
            continue
        if _through_a_link(view, mount, exact):
            continue
        extra.append(mount)
    for mount in extra[:_MOST_UNASKED]:
        yield drifted("/mounts", f"a mount on {mount.place}", "none", f"{mount.source}: {mount.describe()}")
    if len(extra) > _MOST_UNASKED:
        yield drifted("/mounts", "and more mounts", "none", "there are")
    if not extra:
        yield as_asked("/mounts", "no other mounts")


def _explained(request: Request) -> tuple[set[str], list[str]]:
    """Places of mounts that config.json explains: (these, and whatever is below those)."""
    linux = request.linux
    exact = {"/", "/dev/console", "/dev/ptmx"}
    exact |= {clean(path) for path in (*(linux.get("maskedPaths") or ()), *(linux.get("readonlyPaths") or ()))}
    exact |= {clean(entry["path"]) for entry in linux.get("devices") or ()}
    exact |= {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    # A read-only path is bound with what is mounted below it.
    trees = [clean(path) for path in linux.get("readonlyPaths") or ()]
    for entry in request.config.get("mounts") or ():
        place = clean(destination_of(request, entry))
        exact.add(place)
        # What lies below the source of a recursive bind is its own; a cgroup mount has one for each hierarchy; sysfs
        # of the host, for a container that may not mount its own, comes with all that is on it.
        words = split(entry.get("options") or [])
        if "rbind" in words or entry.get("type") in ("cgroup", "sysfs") or (entry.get("type") == "bind" and not words):
            trees.append(place)
    return exact, trees


def _through_a_link(view: View, mount: Mount, exact: set[str]) -> bool:
    """Return whether an asked destination leads to the mount by a link of the image (/var/run to /run)."""
    for place in exact:
        if place.rpartition("/")[2] == mount.place.rpartition("/")[2] and view.mounts.mounted_on(place) is None:
            try:
                looked = view.look(place)
            except Hidden:
                return False
            if looked is not None and looked["mount"] == mount.id:
                return True
    return False


def _missing(view: View, pointer: str, what: str, destination: str) -> Comparison:
    return drifted(pointer, what, "mounted", f"nothing is mounted on {destination}")


def _judged(pointer: str, what: str, problems: list[tuple[str, str]], found: Mount | None) -> Comparison:
    if not problems:
        return as_asked(pointer, what)
    asked = ", ".join(one for one, _ in problems)
    return drifted(pointer, what, asked, problems[0][1] if found is None else ", ".join(two for _, two in problems))


def _attributes(mount: Mount, set: int, clear: int) -> list[tuple[str, str]]:
    """Return the attributes that are not as asked: [(asked, found)]."""
    problems = []
    shown = ",".join(sorted(mount.options))
    for attribute, word in _WORDS:
        there = mount.readonly if word == "ro" else word in mount.options
        if set & attribute and not there:
            problems.append((word, shown))
        elif clear & attribute and word in mount.options:
            problems.append(({"ro": "rw"}.get(word, word.removeprefix("no")), shown))
    atime = set & MOUNT_ATTR__ATIME
    if atime == MOUNT_ATTR_NOATIME and "noatime" not in mount.options:
        problems.append(("noatime", shown))
    elif atime == MOUNT_ATTR_STRICTATIME and mount.options & {"noatime", "relatime"}:
        problems.append(("strictatime", shown))
    return problems


def _data(mount: Mount, type: str, words: list[str]) -> list[tuple[str, str]]:
    """Return the options of the filesystem itself that are not as asked, of those that it shows."""
    shown = dict(word.partition("=")[::2] for word in mount.super_options)
    problems = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            continue
        found = shown.get(name, _UNSHOWN.get((type, name)))
        if found is not None and _normal(name, value) != _normal(name, found):
            problems.append((word, f"{name}={found}"))
    return problems


def _normal(name: str, value: str) -> object:
    """Return a value so that the same one is equal: 0755 and 755, 64m and 65536k."""
    try:
        if name in ("mode", "ptmxmode", "umask", "dmask", "fmask"):
            return int(value, 8)
        unit = value[-1:].lower()
        if name in ("size", "nr_blocks") and unit in _SIZES:
            return int(value[:-1]) * _SIZES[unit]
        if name == "size" and unit == "%":
            return "%"  # of memory; shown in kilobytes
        return int(value)
    except ValueError:
        return value


def _propagation(mount: Mount, asked: list[tuple[int, bool]]) -> list[tuple[str, str]]:
    """Return what is not as asked; that a slave has a master depends on whether its source was shared."""
    if not asked:
        return []
    kind = asked[-1][0]
    shared = any(word.startswith("shared:") for word in mount.optional)
    found = " ".join(mount.optional) or "private"
    if kind == MS_SHARED and not shared:
        return [("shared", found)]
    if kind in (MS_PRIVATE, MS_UNBINDABLE) and mount.optional and mount.optional != ("unbindable",):
        return [("private", found)]
    return [("slave", found)] if kind not in (MS_SHARED, MS_PRIVATE, MS_UNBINDABLE) and shared else []
