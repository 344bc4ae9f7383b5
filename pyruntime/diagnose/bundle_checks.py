"""Check the files of a bundle: root filesystem, mount sources, program and hooks."""

from __future__ import annotations

import posix

from pyruntime.diagnose import host_facts
from pyruntime.diagnose.finding import Finding, near, of_error
from pyruntime.errors import KernelError, StepError, strerror
from pyruntime.features.process import executable
from pyruntime.features.rootfs import mount_options
from pyruntime.features.rootfs import path as rootfs_path
from pyruntime.features.rootfs.destination import destination_of
from pyruntime.kernel import files, mount
from pyruntime.kernel.constants import EACCES, EINVAL, O_PATH, S_IFDIR, S_IFMT, S_IFREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.request import Request

_READ = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK
_LONGEST_SETTING = 255  # fsconfig(2), as in features/rootfs/mounts.py
# Filesystems without FS_ALLOW_IDMAP in any kernel so far, by their numbers in statfs(2).
_UNMAPPABLE = {0x9FA0: "proc", 0x62656572: "sysfs", 0x63677270: "cgroup2", 0x27E0EB: "cgroup", 0x6969: "nfs"}
# What root of a user namespace may mount (FS_USERNS_MOUNT in the kernel); cgroup is one of the names for cgroup2.
_FOR_USERS = frozenset(
    "binder bpf cgroup cgroup2 devpts erofs fuse mqueue none overlay proc ramfs sysfs tmpfs bind".split()
)


def check(request: Request, *, with_bundle: bool) -> Iterator[Finding]:
    """Yield all findings that can be made by looking at files.

    with_bundle: there is a bundle, not only a config.json: relative paths mean something."""
    root_fd = -1
    if with_bundle or str((request.config.get("root") or {}).get("path")).startswith("/"):
        found = _open_root(request)
        if isinstance(found, Finding):
            yield found
        else:
            root_fd = found
    yield from check_mounts(request, with_bundle)
    if root_fd >= 0:
        yield from check_places(request, root_fd)
    yield from check_hooks(request)
    if root_fd >= 0:
        try:
            yield from check_program(request, root_fd)
        finally:
            posix.close(root_fd)


def _open_root(request: Request) -> int | Finding:
    path = request.rootfs()
    try:
        return posix.open(path, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        if error.errno == EACCES:
            return Finding("note", "/root/path", f"cannot access {path}: permission denied", rule="rootfs")
        return Finding(
            "error",
            "/root/path",
            f"rootfs {path}: {strerror(error.errno)}",
            hint=near(
                path.rpartition("/")[2],
                host_facts.names(path.rpartition("/")[0]),
                "unpack an image there, or correct root.path",
            ),
            rule="rootfs",
        )


def check_mounts(request: Request, with_bundle: bool) -> Iterator[Finding]:
    """Report missing sources, unknown filesystem types and misspelt options."""
    for index, entry in enumerate(request.config.get("mounts") or ()):
        pointer = f"/mounts/{index}"
        parsed = mount_options.parse(entry.get("options") or [])
        kind = entry.get("type") or ""
        if parsed.remount:
            continue
        if parsed.bind or kind == "bind":
            yield from _check_source(request, pointer, entry.get("source") or "", with_bundle)
            if parsed.idmap or entry.get("uidMappings"):
                yield from _check_mapped(pointer, entry.get("source") or "")
            continue
        yield from _check_filesystem(request, pointer, kind)
        misspelt = list(_check_words(pointer, kind, parsed.data))
        yield from misspelt or _check_settings(request, pointer, kind, parsed.data)


def _check_source(request: Request, pointer: str, source: str, with_bundle: bool) -> Iterator[Finding]:
    if not source or not (source.startswith("/") or with_bundle):
        return
    path = source if source.startswith("/") else f"{request.bundle}/{source}"
    if path.startswith(request.rootfs().rstrip("/") + "/"):
        return  # what an earlier mount makes may be meant
    if not host_facts.exists(path):
        directory, _, name = path.rstrip("/").rpartition("/")
        yield Finding(
            "error",
            f"{pointer}/source",
            f"{path} is missing",
            hint=near(name, host_facts.names(directory or "/"), "create it on the host, or correct the source"),
            rule="mount-source",
        )


def check_places(request: Request, root_fd: int) -> Iterator[Finding]:
    """Report bind mounts of a directory on a file, and of a file on a directory."""
    covered: list[str] = []
    for index, entry in enumerate(request.config.get("mounts") or ()):
        place = rootfs_path.clean(destination_of(request, entry))
        hidden = any(place == one or place.startswith(one.rstrip("/") + "/") for one in covered)
        covered.append(place)
        source = entry.get("source") or ""
        parsed = mount_options.parse(entry.get("options") or [])
        if hidden or parsed.remount or not (parsed.bind or entry.get("type") == "bind"):
            continue
        try:
            there = _mode(root_fd, place)
            brought = posix.stat(source if source.startswith("/") else f"{request.bundle}/{source}").st_mode
        except (OSError, ValueError):
            continue
        if there and (there & S_IFMT == S_IFDIR) != (brought & S_IFMT == S_IFDIR):
            kinds = ("a directory", "a file") if brought & S_IFMT == S_IFDIR else ("a file", "a directory")
            yield Finding(
                "error",
                f"/mounts/{index}/destination",
                f"{source} is {kinds[0]}, and {place} in the rootfs is {kinds[1]}",
                hint="correct source or destination",
                rule="mount-source",
            )


def _check_mapped(pointer: str, source: str) -> Iterator[Finding]:
    try:
        fd = posix.open(source, O_PATH | posix.O_CLOEXEC)
    except (OSError, ValueError):
        return  # said already
    try:
        kind = _UNMAPPABLE.get(files.filesystem_magic(fd))
    finally:
        posix.close(fd)
    if kind:
        yield Finding(
            "error",
            f"{pointer}/uidMappings",
            f"{source} is on {kind}, whose owners cannot be mapped",
            why="mount_setattr(2) with MOUNT_ATTR_IDMAP takes a filesystem with FS_ALLOW_IDMAP",
            hint="use a source on ext4, xfs, btrfs, tmpfs (Linux 6.3), …, or leave out idmap and the mappings",
            rule="mount-source",
        )


def _check_filesystem(request: Request, pointer: str, kind: str) -> Iterator[Finding]:
    known = host_facts.filesystems()
    if known and kind not in known and kind != "cgroup":
        module = host_facts.is_module(kind)
        yield Finding(
            "warning" if module else "error",
            f"{pointer}/type",
            f"unknown filesystem type {kind!r}",
            why="its module is not loaded" if module else "",
            hint=f"modprobe {kind}"
            if module
            else near(kind, known, "correct the type; a directory is bound with bind"),
            rule="filesystem",
        )
    elif request.namespace("user")[0] and kind not in _FOR_USERS:
        yield Finding(
            "error",
            f"{pointer}/type",
            f"{kind} cannot be mounted in a user namespace",
            why="only root of the host may mount a filesystem of this type",
            hint="mount it on the host and bind it",
            rule="filesystem",
        )


def _check_words(pointer: str, kind: str, data: list[str]) -> Iterator[Finding]:
    """Report unknown options that resemble a mount option; others are for the filesystem."""
    for word in data:
        hint = near(word, mount_options.known_words()) if "=" not in word else ""
        if hint:
            yield Finding(
                "warning",
                f"{pointer}/options",
                f"unknown mount option {word!r}, passed to {kind} unchanged",
                hint=hint,
                rule="mount-option",
            )


def _check_settings(request: Request, pointer: str, kind: str, data: list[str]) -> Iterator[Finding]:
    """Check the options with the filesystem itself, which only root may; nothing is made."""
    if not data or kind == "cgroup" or kind not in host_facts.filesystems():
        return
    if any(len(word.encode("utf-8", "surrogateescape")) > _LONGEST_SETTING for word in data):
        return  # such go to mount(2) as one string
    if request.namespace("user")[0]:  # ids are those of the container, which only its kernel's namespace knows
        data = [word for word in data if word.partition("=")[0] not in ("uid", "gid")]
    try:
        mount.try_settings(kind, data)
    except KernelError as error:
        if error.errno != EINVAL:  # EPERM: not root
            return
        said = [str(word) for word in error.arguments[1:]]
        yield Finding(
            "error",
            f"{pointer}/options",
            f"{kind} rejects option {error.arguments[0]!r}",
            why=", ".join(word.partition(": ")[2] or word for word in said),
            hint="correct the option, or leave it out",
            rule="mount-option",
        )


def check_hooks(request: Request) -> Iterator[Finding]:
    """Check the programs of hooks, except those that are executed in the container's namespace."""
    for kind, hooks in (request.config.get("hooks") or {}).items():
        for index, hook in enumerate(hooks or ()):
            if kind == "startContainer":
                continue
            path, pointer = hook["path"], f"/hooks/{kind}/{index}/path"
            if not host_facts.exists(path):
                directory, _, name = path.rpartition("/")
                hint = near(name, host_facts.names(directory), "install it, or correct the path")
                yield Finding("error", pointer, f"{path} is missing", hint=hint, rule="hook")
            elif not posix.access(path, posix.X_OK):
                yield Finding("error", pointer, f"{path} is not executable", hint=f"chmod +x {path}", rule="hook")
            else:
                yield from _check_image(path, pointer, path, None)


def _check_image(file: str, pointer: str, name: str, root_fd: int | None) -> Iterator[Finding]:
    """Check whether execve(2) would take a program; root_fd is the root that it runs in, None for the host's."""
    try:
        fd = posix.open(file, _READ) if root_fd is None else rootfs_path.resolve(root_fd, file, _READ)
    except OSError:
        return  # executable and not readable is allowed
    try:
        executable.check_opened(fd, name, lambda path: _is_there(root_fd, path))
    except StepError as error:
        yield of_error(error, "program", pointer=pointer)
    finally:
        posix.close(fd)


def _is_there(root_fd: int | None, path: bytes) -> bool:
    if root_fd is None:
        return host_facts.exists(path.decode("utf-8", "surrogateescape"))
    return _mode(root_fd, path.decode("utf-8", "surrogateescape")) != 0


def _mode(root_fd: int, path: str) -> int:
    """Return the mode of what a path in the container stands for, 0 when there is nothing. Raises PermissionError."""
    try:
        fd = rootfs_path.resolve(root_fd, path)
    except KernelError as error:
        if error.errno == EACCES:
            raise PermissionError(13, path) from None
        return 0
    except ValueError:
        return 0
    try:
        return posix.fstat(fd).st_mode
    finally:
        posix.close(fd)


def check_program(request: Request, root_fd: int) -> Iterator[Finding]:
    """Check the working directory, and the program as execve(2) would find it; a mount over it may bring another."""
    process = request.process
    args = process.get("args") or []
    try:
        cwd = process.get("cwd") or "/"
        mode = _mode(root_fd, cwd)
        if mode and mode & S_IFMT != S_IFDIR and not _hidden(request, cwd):
            yield Finding("error", "/process/cwd", f"{cwd} is not a directory", rule="program")
        if args:
            yield from _check_command(request, root_fd, args[0])
    except PermissionError as error:
        yield Finding(
            "note",
            "/process/args/0",
            f"cannot look up the program: permission to search {error.strerror} is denied",
            hint="validate as root",
            rule="program",
        )


def _check_command(request: Request, root_fd: int, name: str) -> Iterator[Finding]:
    search = _search_path(request)
    cwd = request.process.get("cwd") or "/"
    candidates = [name] if "/" in name else [f"{one}/{name}" for one in search]
    candidates = [one if one.startswith("/") else f"{cwd}/{one}" for one in candidates]
    pointer = "/process/args/0"
    denied = ""
    for path in candidates:
        mode = _mode(root_fd, path)
        if mode & S_IFMT == S_IFREG and mode & 0o111:
            yield from _check_image(path, pointer, name, root_fd)
            return
        denied = denied or (path if mode else "")
    severity = "warning" if any(_hidden(request, path) for path in candidates) else "error"
    why = "a mount may bring it" if severity == "warning" else ""
    if denied:
        what = (
            f"{denied} is not executable"
            if _mode(root_fd, denied) & S_IFMT == S_IFREG
            else f"{denied} is not a regular file"
        )
        hint = f"chmod +x {denied} in the image, or correct process.args"
        yield Finding(severity, pointer, what, why=why, hint=hint, rule="program")
    elif "/" in name:
        around = _listed(root_fd, candidates[0].rpartition("/")[0] or "/")
        hint = near(name.rpartition("/")[2], around, "correct process.args, or put the program into the image")
        yield Finding(severity, pointer, f"{name} is not in the rootfs", why=why, hint=hint, rule="program")
    else:
        around = [one for directory in search for one in _listed(root_fd, directory)]
        shown = ":".join(search)
        why = why or (f"the PATH of process.env is {shown!r}" if shown else "process.env sets no PATH")
        hint = near(name, around, "give an absolute path, or correct PATH in process.env")
        yield Finding(severity, pointer, f"{name} is in no directory of $PATH", why=why, hint=hint, rule="program")


def _search_path(request: Request) -> list[str]:
    for entry in request.process.get("env") or ():
        if entry.startswith("PATH="):
            return [one for one in str(entry[5:]).split(":") if one.startswith("/")]  # as look_up does
    return []


def _listed(root_fd: int, directory: str) -> list[str]:
    try:
        fd = rootfs_path.resolve(root_fd, directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except (OSError, ValueError):
        return []
    try:
        return posix.listdir(fd)
    finally:
        posix.close(fd)


def _hidden(request: Request, path: str) -> bool:
    """Return whether a mount of config.json covers a path of the rootfs."""
    path = rootfs_path.clean(path)
    places = request.config.get("mounts") or []
    covers = [rootfs_path.clean(destination_of(request, one)) for one in places]
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in covers)
