"""A process that changes the mounts of a running container: `mounts add` and `remove`, `update` of paths.

It joins the container's mount namespace, and its user namespace if it has one of its own, but not its pid namespace,
and it executes no program. A container that shares the host's pid namespace sees it; it is not dumpable, so that its
/proc/PID/root, fd and mem are closed to the container's root (ptrace(2)). It keeps the root directory of the
caller: /proc/self/fd is the host's procfs, not what the container has on /proc (CVE-2025-52881).
Paths of the container are resolved below the root of its mount namespace (features/rootfs/path.py).
"""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, KernelError, PyruntimeError, StateError, StepError, from_json, from_oserror
from pyruntime.features.namespaces import target as targets
from pyruntime.features.rootfs import masks, mounts, path
from pyruntime.kernel import files, mount, process
from pyruntime.kernel.constants import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    ENOENT,
    ENOTDIR,
    MNT_DETACH,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    O_PATH,
    PR_GET_DUMPABLE,
    PR_SET_DUMPABLE,
    S_IFDIR,
    S_IFMT,
)
from pyruntime.plan.step import execute
from pyruntime.runtime.joining import end_middle
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypedDict, TypeVar

    from pyruntime.features.namespaces.target import Target
    from pyruntime.plan.step import Step

    Value = TypeVar("Value")

    class AddedMount(TypedDict):
        """A mount as Record.extra has it. mount: its id (proc(5), "mountinfo"), 0 before it is made."""

        destination: str
        mount: int


_STAGE = "/dev"  # exists on each host; the mount namespace that it is covered in ends with the process


class Visitor:
    """The process, as an actor of steps that are made for init (plan/actors.py, InitActor)."""

    def __init__(self, target: Target, rootless: bool) -> None:
        self.target = target
        self.rootless = rootless
        self.root_fd = -1
        self.rootfs = "/"
        self.empty_fd = -1
        self.mounted: dict[str, int] = {}
        self.late: dict[str, int] = {}
        self.proc_contexts: list[int] = []
        self.trace: Callable[[Step], None] | None = None
        self.sources: list[int] = []
        self.made: list[int] = []  # descriptors of the mounts that were attached

    def ask_parent(self, wanted: dict[str, object]) -> int:
        """Return the next source, a detached mount that `open_source` made."""
        fd = self.sources.pop(0)
        self.made.append(posix.dup(fd))
        return fd

    def open_sources(self, steps: list[Step]) -> None:
        """Clone the sources of bind mounts in the caller's mount namespace, in order.

        For a container with a user namespace they pass through a mount namespace of that: the kernel locks the
        attributes there, the host's and those asked for, and what is mounted below (mount_namespaces(7)). Else root of
        the container could remove nosuid or ro by a remount."""
        binds = [step for step in steps if step.do is mounts.bind]
        if "user" not in self.target.kinds:
            self.sources = [_clone(bind) for bind in binds]
            return
        places: list[str] = []
        if binds and not self.rootless:
            clones = [_clone(bind) for bind in binds]
            process.unshare(CLONE_NEWNS)
            mount.set_propagation("/", MS_PRIVATE, recursive=True)
            _make_stage()
            places = [f"{_STAGE}/{number}" for number in range(len(binds))]
            for fd, place, bind in zip(clones, places, binds, strict=True):
                _stage(fd, place, bind)
        process.setns(self.target.pidfd, CLONE_NEWUSER, "of the container's init")
        if binds:
            process.unshare(CLONE_NEWNS)
        if self.rootless:
            self.sources = [_clone(bind) for bind in binds]
        else:
            self.sources = [mount.clone_tree(place, recursive=True) for place in places]

    def join(self) -> None:
        """Enter the container's mount namespace; the root directory stays the caller's."""
        own_root = posix.open("/", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        process.setns(self.target.pidfd, CLONE_NEWNS, "of the container's init")
        self.root_fd = posix.open("/", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        posix.fchdir(own_root)
        posix.chroot(".")
        posix.close(own_root)
        if "user" in self.target.kinds:
            targets.become_root(self.target)

    def remove(self, added: list[AddedMount]) -> list[bool]:
        """Unmount mounts by destination and id: whether each was still there. Raises PyruntimeError."""
        if "user" in self.target.kinds:
            process.setns(self.target.pidfd, CLONE_NEWUSER, "of the container's init")
        self.join()
        return [self._unmount(entry["destination"], entry["mount"]) for entry in added]

    def _unmount(self, destination: str, id: int) -> bool:
        try:
            fd = path.resolve(self.root_fd, destination)
        except KernelError as error:
            if error.errno not in (ENOENT, ENOTDIR):
                raise
            return False
        try:
            if mount.mount_id(fd) != id:
                return False
            # By the descriptor: the destination may be a link to another place by now.
            mount.umount(f"/proc/self/fd/{fd}", MNT_DETACH)
        finally:
            posix.close(fd)
        return True

    def hide(self, readonly: list[str], masked: list[str]) -> bool:
        """Make paths read-only and mask others, as `masks` does at create; a path must exist. Raises PyruntimeError."""
        nulls: list[int] = []  # the device of the host, not of the container
        if not self.rootless:
            nulls = [masks.null_device() for _ in masked]
        if "user" in self.target.kinds:
            process.setns(self.target.pidfd, CLONE_NEWUSER, "of the container's init")
        if self.rootless:
            process.unshare(CLONE_NEWNS)  # an ordinary user may clone mounts of its own namespace only
            nulls = [masks.null_device() for _ in masked]
        self.join()
        for name in (*readonly, *masked):
            posix.close(path.resolve(self.root_fd, name))  # at create a path that is missing is passed over
        for name in readonly:
            masks.make_readonly(self, name)  # type: ignore[arg-type]  # it has what masks use
        for name, null in zip(masked, nulls, strict=True):
            self._mask(name, null)
        return True

    def _mask(self, name: str, null: int) -> None:
        target = path.resolve(self.root_fd, name)
        try:
            if posix.fstat(target).st_mode & S_IFMT != S_IFDIR:
                mount.attach(null, target, name)
                return
            if posix.readlink(f"/proc/self/fd/{target}") == self.rootfs:
                raise ConfigError(f"{name} is the root of the container and cannot be masked")
            fd = masks.empty_directory(self)  # type: ignore[arg-type]
            mount.attach(fd, target, name)
            posix.close(fd)
        finally:
            posix.close(target)

    def add(self, steps: list[Step]) -> list[int]:
        """Execute steps of mounts, all or none: the ids of the mounts. Raises PyruntimeError."""
        self.open_sources(steps)
        self.join()
        found = []
        try:
            for step in steps:
                readonly = step.args.get("late")
                if "late" in step.args:
                    step.args["late"] = True  # keeps a descriptor of the mount
                execute([step], self)
                if "late" in step.args:
                    self.made.append(self.late.pop(step.args["destination"]))
                    if readonly:
                        mount.set_attributes(self.made[-1], set=MOUNT_ATTR_RDONLY)
                found.append(mount.mount_id(self.made[-1]))
        except BaseException:
            for fd in reversed(self.made):
                try:
                    mount.umount(f"/proc/self/fd/{fd}", MNT_DETACH)
                except OSError:
                    continue  # the last one, which was not attached
            raise
        return found


def run(target: Target, work: Callable[[Visitor], Value], *, rootless: bool) -> Value:
    """Call a function in a process that visits a container: its value, which is JSON. Raises PyruntimeError."""
    if "mount" not in target.kinds:
        raise StateError(
            "the container shares the mount namespace of this runtime: a mount would be one of the host",
            hint="mount it with mount(8), or give the container a mount namespace (linux.namespaces)",
        )
    read_end, write_end = posix.pipe2(posix.O_CLOEXEC)
    dumpable = process.prctl(PR_GET_DUMPABLE)
    process.prctl(PR_SET_DUMPABLE, 0)  # the clone inherits it
    try:
        pid, pidfd = process.clone(0)
        if pid == 0:
            try:
                _visit(Visitor(target, rootless), work, write_end)
            finally:
                posix._exit(255)
    finally:
        if dumpable == 1:
            process.prctl(PR_SET_DUMPABLE, 1)
        posix.close(write_end)
    answer = end_middle(pid, pidfd, read_end)
    if not answer:
        raise StepError("the process that joins the container's mount namespace was killed")
    fields = fastjson.loads(answer.decode("utf-8", "surrogateescape"))
    if "error" in fields:
        raise from_json(fields["error"])
    value: Value = fields["value"]
    return value


def _visit(visitor: Visitor, work: Callable[[Visitor], object], write_end: int) -> None:
    try:
        files.close_all_but([write_end, visitor.target.pidfd], 3)
        answer: dict[str, object] = {"value": work(visitor)}
    except PyruntimeError as error:
        answer = {"error": error.to_json()}
    except OSError as error:
        answer = {"error": from_oserror(error, doing="change the mounts of the container").to_json()}
    except BaseException as error:
        answer = {"error": StepError(f"bug in pyruntime: {type(error).__name__}: {error}").to_json()}
    posix.write(write_end, fastjson.dumps(answer).encode("utf-8", "surrogateescape"))


def _clone(bind: Step) -> int:
    """Return a detached copy of a source. Not a peer of the source, where what the container mounts would appear on
    the host, unless the entry asks for that with `shared` or `slave`."""
    fd = mount.clone_tree(bind.args["source"], recursive=bind.args["recursive"], follow=_follows(bind))
    if not any(kind in (MS_SHARED, MS_SLAVE) for kind, _ in bind.args["propagation"]):
        mount.set_attributes(fd, propagation=MS_PRIVATE, recursive=True, shown=bind.args["source"])
    return fd


def _follows(bind: Step) -> bool:
    return "src-nofollow" not in bind.args["links"]


def _make_stage() -> None:
    """Cover a directory with a tmpfs for mount points, in this process's private mount namespace."""
    fd = mount.new_filesystem("tmpfs", "tmpfs", ["mode=755"], 0)
    target = posix.open(_STAGE, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    mount.attach(fd, target, _STAGE)
    posix.close(fd)
    posix.close(target)


def _stage(fd: int, place: str, bind: Step) -> None:
    """Attach a detached mount, with its attributes, at a new place below the stage."""
    if bind.args["set"]:
        mount.set_attributes(fd, set=bind.args["set"], shown=bind.args["destination"])
    if bind.args["tree_set"]:
        mount.set_attributes(fd, set=bind.args["tree_set"], recursive=True, shown=bind.args["destination"])
    if posix.fstat(fd).st_mode & S_IFMT == S_IFDIR:
        posix.mkdir(place, 0o755)
    else:
        posix.close(posix.open(place, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644))
    target = posix.open(place, O_PATH | posix.O_CLOEXEC)
    mount.attach(fd, target, place)
    posix.close(target)
    posix.close(fd)
