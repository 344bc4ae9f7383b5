"""Checkpoint the processes of a container to images, for `restore`."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs.layout import UNIFIED, Layout
from pyruntime.criu import images, messages, rpc
from pyruntime.errors import StateError, UsageError
from pyruntime.features.rootfs.destination import destination_of
from pyruntime.features.rootfs.mount_options import split
from pyruntime.plan.request import Request
from pyruntime.spec import load
from pyruntime.state import store
from pyruntime.state.status import status_of
from pyruntime.util import mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.criu.options import CheckpointOptions
    from pyruntime.state.store import Record

LOG = "dump.log"


def checkpoint(record: Record, asked: CheckpointOptions, given: list[str] | None = None) -> None:
    """Write the images of a running or paused container. Its processes are gone then, unless --leave-running or
    --pre-dump. Raises PyruntimeError; then the container runs on.

    given: what images.descriptors_of found of its first process when that began, for who knows: a shell's standard
    output is another file while it writes to that. Without, it is looked up now."""
    status = status_of(record)
    if status not in ("running", "paused"):
        raise StateError(f"container cannot be checkpointed in {status} state", hint="start it first")
    if posix.geteuid() != 0:
        raise StateError("only root can checkpoint a container: criu needs it")
    if "org.pyruntime.landlock" in record.annotations:
        raise StateError(
            "a container with Landlock rules cannot be checkpointed: criu does not restore them",
            hint="leave out the annotation org.pyruntime.landlock",
        )
    parent = asked.parent_path
    if parent.startswith("/"):
        raise UsageError(f"--parent-path {parent} is absolute", hint="give it as seen from the directory of images")
    rpc.require_version()
    directories = images.Directories(asked, LOG, make=True)
    try:
        if parent and not posix.access(f"{directories.images}/{parent}", posix.F_OK):
            raise UsageError(f"--parent-path: there is no {parent} below {directories.images}")
        _dump(record, asked, directories, given)
    finally:
        directories.close()


def _dump(record: Record, asked: CheckpointOptions, directories: images.Directories, given: list[str] | None) -> None:
    config = load.load_object(record.path(store.CONFIG))
    request = Request(config, id=record.id, bundle=record.bundle, layout=Layout(()))  # its cgroups are known
    links = given or images.descriptors_of(record.pid)
    options = images.common(asked, directories, LOG)
    options |= {
        "pid": record.pid,
        "root": record.rootfs,
        "leave_running": asked.leave_running,
        "tcp_skip_in_flight": asked.tcp_skip_in_flight,
        "link_remap": asked.link_remap,
        "parent_img": asked.parent_path,
        "track_mem": asked.pre_dump or bool(asked.parent_path),
        "freeze_cgroup": record.cgroups.get("freezer") or record.cgroups.get(UNIFIED) or "",
        "config_file": images.config_file(request),
        "external": [*external(request, record), *sorted({one for one in links if one.startswith("file[")})],
    }
    if asked.page_server:
        options["ps"] = page_server(asked.page_server)
    if not asked.pre_dump:
        images.write_descriptors(directories.images, links)
    ready_fd = asked.status_fd

    def notified(script: str, pid: int, fd: int) -> None:
        if script == "status-ready" and ready_fd >= 0:
            posix.write(ready_fd, b"\0")
            posix.close(ready_fd)

    criu = rpc.Service()
    try:
        type = messages.PRE_DUMP if asked.pre_dump else messages.DUMP
        response = criu.ask(type, options, notified)
    finally:
        criu.end()
    if not response.success:
        raise rpc.failure(f"checkpoint {record.id}", response, directories.log)


def page_server(text: str) -> tuple[str, int]:
    """ADDRESS:PORT of --page-server, as criu_page_server_info has it. Raises UsageError."""
    address, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise UsageError(f"--page-server {text}: use --page-server ADDRESS:PORT to specify server")
    return address, int(port)


def external(request: Request, record: Record) -> list[str]:
    """Return what criu is to leave out, since it is the host's: mounts `mnt[PLACE]:NAME`, namespaces
    `net[INODE]:NAME`."""
    places = mount_points(record.pid)
    found = [f"mnt[{place}]:{name}" for place, name in of_host(request, places).items()]
    for kind, (name, key) in images.EXTERNAL_NAMESPACES.items():
        if images.joined(request, kind):
            found.append(f"{name}[{posix.stat(f'/proc/{record.pid}/ns/{name}').st_ino}]:{key}")
    return found


def of_host(request: Request, places: dict[str, str]) -> dict[str, str]:
    """Mount point -> name, of the container's mounts whose filesystems are the host's.

    places: mount point -> type of filesystem, as mountinfo has them. Names are what `restore` knows them by: the
    destination, and /dev/null for all masked files."""
    found = {}
    for entry in request.config.get("mounts") or ():
        destination = _clean(destination_of(request, entry))
        options = split(entry.get("options") or [])
        if (entry.get("type") == "bind" or "bind" in options or "rbind" in options) and destination in places:
            found[destination] = destination
    if not request.namespace("cgroup")[0]:
        # Cgroups of the host's view are bound, one for each hierarchy of v1.
        found |= {place: place for place, kind in places.items() if kind == "cgroup"}
    for name in request.linux.get("maskedPaths") or ():
        if places.get(_clean(name), "tmpfs") != "tmpfs":
            found[_clean(name)] = "/dev/null"
    for place, kind in places.items():
        # Device nodes that could not be made in a user namespace.
        if place.startswith("/dev/") and kind == "devtmpfs":
            found[place] = place
    return found


def _clean(path: str) -> str:
    return "/" + "/".join(name for name in path.split("/") if name not in ("", "."))


def mount_points(pid: int) -> dict[str, str]:
    """Mount point -> type of filesystem, of a process's mounts; of several on one place the last (proc(5))."""
    return {one.place: one.fstype for one in mountinfo.of(pid)}
