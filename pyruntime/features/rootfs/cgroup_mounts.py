"""Mounts of type `cgroup`: the container's own view of its cgroups (cgroups(7), cgroup_namespaces(7)).

On a v1 or hybrid host: a tmpfs with a directory a hierarchy, and links for controllers that are mounted together.
On a v2 host: the one hierarchy. With a cgroup namespace of its own the container mounts the hierarchies itself,
and sees them from its own place; without one it gets its own directories bound, never the host's whole tree.
"""

from __future__ import annotations

import posix

from pyruntime.cgroupfs.layout import UNIFIED
from pyruntime.errors import KernelError
from pyruntime.features.cgroups import place
from pyruntime.features.rootfs import mount_options
from pyruntime.features.rootfs.destination import destination_of, open_destination
from pyruntime.kernel import mount
from pyruntime.kernel.constants import (
    EACCES,
    ENOENT,
    EPERM,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    O_PATH,
)
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import Mount

_DENIED = (EPERM, EACCES)


def plan(request: Request, pointer: str, entry: Mount) -> Iterator[Step]:
    """BUILD: the steps for one entry of /mounts of type cgroup."""
    parsed = mount_options.parse(entry.get("options") or [])
    if parsed.data:
        request.warn(
            f"config.json: {pointer}/options: mounts of cgroups take no filesystem options, "
            f"left out: {' '.join(parsed.data)}"
        )
    destination = destination_of(request, entry)
    directories = {name: [directory] for name, directory in place.directories_of(request).items()}
    if request.rootless:
        # Where no cgroup could be made, the container stays in that of its caller (features/cgroups/directories.py).
        for h in request.layout.hierarchies:
            directories[h.name].append(f"{h.mount_point}{h.own.rstrip('/')}")
    own = request.namespace("cgroup")[0]
    # Whatever the options say: there is nothing to execute in a cgroup filesystem.
    attributes = parsed.for_one_mount() | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    if request.layout.kind == "v2":
        yield Step(
            pointer,
            mount_unified,
            directories=directories[UNIFIED],
            own=own,
            destination=destination,
            set=attributes,
            propagation=parsed.propagation,
        )
        return
    hierarchies = [
        (h.name, directories[h.name], list(h.controllers)) for h in request.layout.hierarchies if h.name != UNIFIED
    ]
    yield Step(
        pointer,
        mount_hierarchies,
        hierarchies=hierarchies,
        own=own,
        destination=destination,
        set=attributes,
        propagation=parsed.propagation,
    )


def mount_unified(
    init: InitActor, destination: str, directories: list[str], own: bool, set: int, propagation: list[tuple[int, bool]]
) -> None:
    """mount the cgroup hierarchy on {destination}

    directories: the first that is there is bound where the container cannot mount it by itself."""
    target = open_destination(init, destination, "cgroup")
    try:
        fd = -1
        if own:
            try:
                fd = mount.new_filesystem("cgroup2", "cgroup", [], set)
            except KernelError as error:
                if error.errno not in _DENIED:  # a user namespace that does not own the cgroup namespace
                    raise
        if fd < 0:
            fd = _bound(directories, set)
        for kind, tree in propagation:
            mount.set_attributes(fd, propagation=kind, recursive=tree, shown=destination)
        mount.attach(fd, target, destination)
        posix.close(fd)
    finally:
        posix.close(target)


def mount_hierarchies(
    init: InitActor,
    destination: str,
    hierarchies: list[tuple[str, list[str], list[str]]],
    own: bool,
    set: int,
    propagation: list[tuple[int, bool]],
) -> None:
    """mount the cgroup hierarchies below {destination}

    hierarchies: name, directories as `mount_unified` has them, controllers."""
    target = open_destination(init, destination, "cgroup")
    top = mount.new_filesystem("tmpfs", "cgroup", ["mode=755"], set & ~MOUNT_ATTR_RDONLY)
    try:
        mount.attach(top, target, destination)
        for name, directories, controllers in hierarchies:
            posix.mkdir(name, 0o755, dir_fd=top)
            place_fd = posix.open(name, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=top)
            fd = _hierarchy(name, directories, controllers, own, set)
            mount.attach(fd, place_fd, f"{destination}/{name}")
            posix.close(fd)
            posix.close(place_fd)
            if len(controllers) > 1:
                for controller in controllers:
                    posix.symlink(name, controller, dir_fd=top)
        if set & MOUNT_ATTR_RDONLY:
            mount.set_attributes(top, set=MOUNT_ATTR_RDONLY, shown=destination)
        for kind, tree in propagation:
            mount.set_attributes(top, propagation=kind, recursive=tree, shown=destination)
    finally:
        posix.close(top)
        posix.close(target)


def _hierarchy(name: str, directories: list[str], controllers: list[str], own: bool, set: int) -> int:
    """Return a detached mount of one v1 hierarchy, as the container may see it."""
    if own:
        try:
            return mount.new_filesystem("cgroup", "cgroup", controllers or ["none", f"name={name}"], set)
        except KernelError as error:
            if error.errno not in _DENIED:
                raise
    return _bound(directories, set)


def _bound(directories: list[str], set: int) -> int:
    for directory in directories:
        try:
            fd = mount.clone_tree(directory)
        except KernelError as error:
            if error.errno != ENOENT or directory == directories[-1]:
                raise
        else:
            break
    mount.set_attributes(fd, set=set, shown=directory)
    return fd
