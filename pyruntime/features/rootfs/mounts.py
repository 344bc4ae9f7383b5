"""/mounts: filesystems and binds below the rootfs.

A mount is made detached, gets its attributes in one call, and is attached to a descriptor of its destination:
no string of a path below the rootfs is given to mount(2) (CVE-2021-30465), and there is never a moment at
which it is there without its nosuid or ro.
"""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, KernelError
from pyruntime.features.rootfs import mount_options, path, sources
from pyruntime.features.rootfs.destination import destination_of, open_destination
from pyruntime.kernel import mount
from pyruntime.kernel.constants import EPERM, MOUNT_ATTR_RDONLY, MS_BIND, MS_REMOUNT, O_PATH, S_IFDIR, S_IFLNK, S_IFMT
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import Mount


_LONGEST_SETTING = 255  # fsconfig(2) copies 256 bytes, the NUL among them


def plan(request: Request) -> Iterator[Step]:
    """BUILD: every entry of /mounts, in order."""
    for index, entry in enumerate(request.config.get("mounts") or ()):
        pointer = f"/mounts/{index}"
        kind = entry.get("type") or ""
        parsed = mount_options.parse(entry.get("options") or [])
        mapped = bool(parsed.idmap or entry.get("uidMappings") or entry.get("gidMappings"))
        if parsed.remount:
            yield _plan_remount(request, pointer, entry, parsed)
        elif parsed.bind or kind == "bind":
            yield _plan_bind(request, pointer, entry, parsed, mapped)
        elif mapped:
            raise ConfigError(
                "only a bind mount can have mappings of its own",
                pointer=f"{pointer}/{'options' if parsed.idmap else 'uidMappings'}",
                why="a new filesystem belongs to the container's user namespace already",
                hint="leave out the mappings, or bind a directory of the host",
            )
        elif kind == "cgroup":
            from pyruntime.features.rootfs import cgroup_mounts

            yield from cgroup_mounts.plan(request, pointer, entry)
        else:
            yield _plan_filesystem(request, pointer, entry, parsed)


def _plan_remount(request: Request, pointer: str, entry: Mount, parsed: mount_options.Options) -> Step:
    from pyruntime.features.rootfs import by_string

    flags = parsed.legacy | MS_REMOUNT | (MS_BIND if parsed.bind else 0)
    for attribute, flag in mount_options.MOUNT_FLAGS:
        flags |= flag if (parsed.set | parsed.tree_set) & attribute else 0
    destination = destination_of(request, entry)
    return Step(pointer, by_string.remount, destination=destination, flags=flags, data=parsed.data)


def _plan_bind(request: Request, pointer: str, entry: Mount, parsed: mount_options.Options, mapped: bool) -> Step:
    source = entry.get("source") or ""
    if not source:
        raise ConfigError(
            "is required and missing",
            pointer=f"{pointer}/source",
            hint="give the file or directory of the host that the bind mount shows",
        )
    dropped = parsed.data + ["tmpcopyup"] * parsed.copy_up + ["iversion"] * bool(parsed.legacy)
    if dropped:
        request.warn(
            f"config.json: {pointer}/options: a bind mount takes no filesystem options, left out: {' '.join(dropped)}"
        )
    idmap = None
    if mapped:
        from pyruntime.features.rootfs import idmapped

        idmap = idmapped.plan(request, pointer, entry, whole_tree=parsed.idmap == "ridmap")
    set, clear, unnamed = parsed.for_bind()
    return Step(
        pointer,
        bind,
        idmap=idmap,
        source=source if source.startswith("/") else f"{request.bundle}/{source}",
        recursive=parsed.recursive_bind,
        destination=destination_of(request, entry),
        set=set,
        clear=clear,
        unnamed=unnamed,
        tree_set=_tree_attributes(request, source, parsed),
        tree_clear=parsed.tree_clear,
        propagation=parsed.propagation,
        links=parsed.links,
    )


def _tree_attributes(request: Request, source: str, parsed: mount_options.Options) -> int:
    """Return what all mounts below are to have. The host's /sys read-only means the cgroups in it, too, in a user
    namespace: its owner may write to some of them (CVE-2023-25809)."""
    unprivileged = request.rootless or request.namespace("user")[0]
    if unprivileged and parsed.recursive_bind and source.rstrip("/") in ("/sys", "/sys/fs/cgroup"):
        return parsed.tree_set | parsed.set & MOUNT_ATTR_RDONLY
    return parsed.tree_set


def _plan_filesystem(request: Request, pointer: str, entry: Mount, parsed: mount_options.Options) -> Step:
    kind = entry.get("type") or ""
    source = entry.get("source") or kind
    data = parsed.data
    attributes = parsed.for_one_mount()
    if late_readonly(request, entry, parsed):
        attributes &= ~MOUNT_ATTR_RDONLY
    elif attributes & MOUNT_ATTR_RDONLY and source.startswith("/"):
        # What is on a device has to know: one that is write-protected cannot be opened in another way.
        data = ["ro", *data]
    instead = ""
    if request.namespace("user")[0]:
        from pyruntime.features.rootfs import unprivileged

        instead = unprivileged.stand_in(request, kind)
        data = unprivileged.without_unmapped_group(request, pointer, kind, data)
    # For init, which imports nothing.
    if parsed.copy_up:
        from pyruntime.features.rootfs import copyup  # noqa: F401
    by_string = bool(parsed.legacy) or any(len(word.encode()) > _LONGEST_SETTING for word in data)
    if by_string:
        from pyruntime.features.rootfs import by_string as old  # noqa: F401
    return Step(
        pointer,
        mount_filesystem,
        type=kind,
        source=source,
        destination=destination_of(request, entry),
        data=data,
        set=attributes,
        legacy=parsed.legacy,
        by_string=by_string,
        copy_up=parsed.copy_up,
        propagation=parsed.propagation,
        instead=instead,
        label=request.linux.get("mountLabel") or "",
        late=late_readonly(request, entry, parsed),
    )


def plan_readonly(request: Request) -> Iterator[Step]:
    """ENTER: what had to stay writable until everything below it was made becomes read-only."""
    for index, entry in enumerate(request.config.get("mounts") or ()):
        if late_readonly(request, entry, mount_options.parse(entry.get("options") or [])):
            yield Step(f"/mounts/{index}/options", make_readonly, destination=destination_of(request, entry))


def late_readonly(request: Request, entry: Mount, parsed: mount_options.Options) -> bool:
    """Return whether a read-only mount is made writable first: a tmpfs, and /dev, get mount points and nodes."""
    if not parsed.for_one_mount() & MOUNT_ATTR_RDONLY or parsed.bind or parsed.remount:
        return False
    return entry.get("type") == "tmpfs" or path.clean(destination_of(request, entry)) == "/dev"


def mount_filesystem(
    init: InitActor,
    destination: str,
    type: str,
    source: str,
    data: list[str],
    set: int,
    legacy: int,
    by_string: bool,
    copy_up: bool,
    propagation: list[tuple[int, bool]],
    instead: str,
    label: str,
    late: bool,
) -> None:
    """mount {type} on {destination}

    late: it becomes read-only at the end, and is kept for that."""
    if label:
        from pyruntime.features.security import selinux  # in memory since the plan of /linux/mountLabel

        data = data + selinux.mount_context(init, type, label)
    if type == "tmpfs" and not any(word.startswith("mode=") for word in data):
        data = data + _mode_of(init, destination)
    target = open_destination(init, destination, type)
    try:
        if by_string:
            from pyruntime.features.rootfs import by_string as old  # in memory since `plan`

            old.mount_filesystem(init, target, destination, type, source, data, set, legacy, copy_up, propagation)
            return
        try:
            # In a shared pid namespace init is outside of that, and had this prepared (runtime/shared_pid.py).
            context = init.proc_contexts.pop(0) if type == "proc" and init.proc_contexts else None
            fd = mount.new_filesystem(type, source, data, set, context)
        except KernelError as error:
            if error.errno != EPERM or not instead:
                raise
            fd = mount.clone_tree(instead, recursive=True)
            tree = set | (MOUNT_ATTR_RDONLY if type == "sysfs" else 0)
            mount.set_attributes(fd, set=tree, recursive=True, shown=destination)
        try:
            if copy_up:
                from pyruntime.features.rootfs import copyup  # in memory since `plan`

                copyup.copy_tree(target, fd)
            _attach(init, fd, target, destination, propagation)
            if late:
                init.late[destination] = posix.dup(fd)
        finally:
            posix.close(fd)
    finally:
        posix.close(target)


def _mode_of(init: InitActor, destination: str) -> list[str]:
    """Return the mode of the directory that a tmpfs covers as an option; none without a directory."""
    try:
        fd = path.resolve(init.root_fd, destination, O_PATH | posix.O_DIRECTORY)
    except KernelError:
        return []
    try:
        return [f"mode={posix.fstat(fd).st_mode & 0o7777:o}"]
    finally:
        posix.close(fd)


def bind(
    init: InitActor,
    destination: str,
    source: str,
    recursive: bool,
    set: int,
    clear: int,
    tree_set: int,
    tree_clear: int,
    propagation: list[tuple[int, bool]],
    idmap: dict[str, object] | None,
    unnamed: int,
    links: list[str],
) -> None:
    """bind {source} on {destination}"""
    if "copy-symlink" in links and _copy_link(init, source, destination):
        return
    if idmap is None:
        fd = sources.clone(init, source, recursive=recursive, follow="src-nofollow" not in links)
    else:
        fd = init.ask_parent({"source": source, "recursive": recursive, **idmap})
    try:
        is_directory = posix.fstat(fd).st_mode & S_IFMT == S_IFDIR
        target = open_destination(
            init, destination, "bind", directory=is_directory, source=fd, follow="dest-nofollow" not in links
        )
        try:
            if set or clear or unnamed:
                _set_attributes(fd, set, clear, unnamed, destination)
            if tree_set or tree_clear:
                mount.set_attributes(fd, set=tree_set, clear=tree_clear, recursive=True, shown=destination)
            _attach(init, fd, target, destination, propagation)
        finally:
            posix.close(target)
    finally:
        posix.close(fd)


def make_readonly(init: InitActor, destination: str) -> None:
    """make the mount on {destination} read-only"""
    # The very mount: a process that shares the rootfs may have replaced the name by a link since.
    fd = init.late.pop(destination, -1)
    if fd < 0:
        fd = path.resolve(init.root_fd, destination)
    try:
        mount.set_attributes(fd, set=MOUNT_ATTR_RDONLY, shown=destination)
    finally:
        posix.close(fd)


def _set_attributes(fd: int, set: int, clear: int, unnamed: int, shown: str) -> None:
    """Set and clear attributes of a bind mount. Those that are not named stay where they are locked.

    In a user namespace ro, nosuid, … of the host's mounts cannot be cleared (mount_namespaces(7), "locked"). A word
    that asks for it, such as `rw`, is an error (EPERM), like with runc."""
    try:
        mount.set_attributes(fd, set=set, clear=clear | unnamed, shown=shown)
    except KernelError as error:
        if error.errno != EPERM or not unnamed:
            raise
        if set or clear:
            mount.set_attributes(fd, set=set, clear=clear, shown=shown)


def _copy_link(init: InitActor, source: str, destination: str) -> bool:
    """Make the symbolic link that the source is at the destination; False when it is none. Raises ConfigError."""
    fd = sources.open_path(init, source, follow=False)
    try:
        if posix.fstat(fd).st_mode & S_IFMT != S_IFLNK:
            return False
        target = posix.readlink("", dir_fd=fd)
    finally:
        posix.close(fd)
    parent, _, name = destination.rstrip("/").rpartition("/")
    directory = path.make_directory(init.root_fd, parent or "/")
    try:
        posix.symlink(target, name, dir_fd=directory)
    except FileExistsError:
        try:
            found = posix.readlink(name, dir_fd=directory)
        except OSError:
            found = ""
        if found != target:
            raise ConfigError(
                f"{destination} exists and is not a symbolic link to {target}",
                hint="remove it from the image, or leave out copy-symlink",
            ) from None
    finally:
        posix.close(directory)
    return True


def _attach(init: InitActor, fd: int, target: int, destination: str, propagation: list[tuple[int, bool]]) -> None:
    for kind, tree in propagation:
        mount.set_attributes(fd, propagation=kind, recursive=tree, shown=destination)
    mount.attach(fd, target, destination)
    place = path.clean(destination)
    if place in ("/proc", "/sys", "/dev"):
        init.mounted[place] = posix.dup(fd)
