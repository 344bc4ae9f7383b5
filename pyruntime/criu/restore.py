"""Restore a container from the images of a checkpoint.

criu makes the namespaces, mounts and processes. Ours are the record, the cgroup (criu is put into it, so that all
that it forks is there), limits, hooks, the terminal's master, and the standard input and output of now.
"""

from __future__ import annotations

import posix
import time

from pyruntime.criu import images, messages, rpc
from pyruntime.criu.rpc import Service
from pyruntime.errors import KernelError
from pyruntime.features.cgroups import limits, place
from pyruntime.features.rootfs import console, path
from pyruntime.features.rootfs.destination import destination_of
from pyruntime.features.rootfs.mount_options import split
from pyruntime.kernel.constants import EROFS, O_PATH, S_IFDIR, S_IFMT
from pyruntime.plan.step import execute
from pyruntime.state.status import note_init, oci_state
from pyruntime.state.store import Record
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime.criu.options import RestoreOptions
    from pyruntime.plan.request import Request
    from pyruntime.plan.step import Step
    from pyruntime.spec.sections import Mount
    from pyruntime.util.log import Log

LOG = "restore.log"
_MOUNT_POINT = "criu-root"


class Restorer:
    """What the steps of a restore act on. pid: criu's until the restored init is there."""

    def __init__(self, request: Request, record: Record, log: Log) -> None:
        self.request = request
        self.record = record
        self.log = log
        self.pid = 0
        self.pidfd = -1
        self.cgroup_tasks: list[int] = []
        self.cgroup_directory: int | None = None
        self.trace: Callable[[Step], None] | None = None

    def warn(self, text: str) -> None:
        """Log a warning."""
        self.log.warning(text)

    def oci_state(self, status: str) -> dict[str, object]:
        """Return the container's state for a hook."""
        return oci_state(self.record, status, self.pid)


def restore(restorer: Restorer, asked: RestoreOptions, directories: images.Directories, descriptors: list[str]) -> None:
    """Restore the processes of a container whose record exists and is locked. Raises PyruntimeError.

    descriptors: from images.read_descriptors."""
    request, record = restorer.request, restorer.record
    record.save()
    execute(list(place.plan_create(request)), restorer)
    record.save()  # which cgroups these are: criu fills them before the record has a pid
    _make_mount_points(request)
    options = images.common(asked, directories, LOG)
    options |= {
        "rst_sibling": True,
        "tcp_close": asked.tcp_close,
        "lsm_profile": asked.lsm_profile,
        "lsm_mount_context": asked.lsm_mount_context,
        "config_file": images.config_file(request),
    }
    inherited, options["inherit_fd"] = _inherited(request, descriptors)
    # A mount point for the root, which has to be one: the fifo's directory is ours, and goes with the record.
    mount_point = record.path(_MOUNT_POINT)
    posix.mkdir(mount_point, 0o700)
    criu = Service(request.rootfs(), mount_point, directories.paths())
    try:
        _enter_cgroup(restorer, criu.pid)
        options |= {
            "root": mount_point,
            "external": external(request, record),
            "cg_root": _cgroup_roots(criu.pid) if options["manage_cgroups"] else [],
        }
        response = criu.ask(messages.RESTORE, options, lambda *words: _notified(restorer, *words))
    finally:
        criu.end()
        for fd in inherited:
            posix.close(fd)
        posix.rmdir(mount_point)
    if not response.success:
        raise rpc.failure(f"restore {record.id}", response, directories.log)


def _notified(restorer: Restorer, script: str, pid: int, fd: int) -> None:
    request, record = restorer.request, restorer.record
    if script == "setup-namespaces" and request.config.get("hooks"):
        from pyruntime.features import hooks

        restorer.pid = pid
        execute(list(hooks.plan_runtime(request)), restorer)
    elif script == "orphan-pts-master" and fd >= 0:
        _send_master(request, fd)
    elif script == "post-restore":
        # Nothing of the container runs yet; and criu, which was in its cgroup, needs no more memory.
        restorer.pid = pid
        pidfd = posix.pidfd_open(pid)
        note_init(record, pid, pidfd)
        posix.close(pidfd)
        execute(list(limits.plan(request)), restorer)
        now = time.time_ns()
        record.created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"
        record.save()


def _send_master(request: Request, fd: int) -> None:
    """Send the terminal master to the console socket."""
    if request.console is None and not request.console_socket:
        return
    connection = request.console or console.connect(request.console_socket or "")
    console.send(connection, fd)
    request.console = None


def _enter_cgroup(restorer: Restorer, pid: int) -> None:
    """Move criu to the container's cgroup in every hierarchy."""
    request, record = restorer.request, restorer.record
    for fd in (*restorer.cgroup_tasks, *(() if restorer.cgroup_directory is None else (restorer.cgroup_directory,))):
        posix.close(fd)
    if request.systemd_cgroup:
        restorer.pid = pid
        execute(list(place.plan_start(request)), restorer)
        return
    for directory in record.cgroups.values():
        fd = posix.open(f"{directory}/cgroup.procs", posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, b"%d" % pid)
        finally:
            posix.close(fd)


def _cgroup_roots(pid: int) -> list[tuple[str, str]]:
    """Return where the container's cgroup is, controller by controller, as criu_opts.cg_root has it."""
    roots = []
    for line in read_file(f"/proc/{pid}/cgroup").splitlines():
        _, names, own = line.split(":", 2)
        roots += [(name, own) for name in names.split(",")]
    return roots


def _inherited(request: Request, descriptors: list[str]) -> tuple[list[int], list[tuple[str, int]]]:
    """Return (descriptors that were opened, criu_opts.inherit_fd): pipes and files of the host's become what is
    standard input, output and error now, and namespaces by path those of config.json."""
    pairs: list[tuple[str, int]] = []
    for number, link in enumerate(descriptors[:3]):
        if link.startswith(("pipe:", "file[")) and link not in dict(pairs):
            pairs.append((link, number))
    opened = []
    for kind, (_, key) in images.EXTERNAL_NAMESPACES.items():
        name = images.joined(request, kind)
        if name:
            fd = posix.open(name, posix.O_RDONLY)
            posix.set_inheritable(fd, True)
            opened.append(fd)
            pairs.append((key, fd))
    return opened, pairs


def external(request: Request, record: Record) -> list[str]:
    """Return what is mounted from the host, by the names that `checkpoint` gave: `mnt[NAME]:SOURCE`."""
    sources = {"/dev/null": "/dev/null"}
    for entry in request.config.get("mounts") or ():
        options = split(entry.get("options") or [])
        if entry.get("type") == "bind" or "bind" in options or "rbind" in options:
            source = entry.get("source") or ""
            absolute = source if source.startswith("/") else f"{request.bundle}/{source}"
            sources[path.clean(destination_of(request, entry))] = absolute
        elif entry.get("type") == "cgroup" and not request.namespace("cgroup")[0]:
            for name, directory in record.cgroups.items():
                sources[f"{path.clean(entry['destination'])}/{name}"] = directory
    if request.namespace("user")[0]:
        for name in ("full", "random", "tty", "urandom", "zero"):
            sources[f"/dev/{name}"] = f"/dev/{name}"
    return [f"mnt[{name}]:{source}" for name, source in sources.items()]


def _make_mount_points(request: Request) -> None:
    """Make the places of mounts in the rootfs, which may be a fresh one. What is below another mount is criu's."""
    root_fd = posix.open(request.rootfs(), O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    covered: list[str] = []
    try:
        for entry in request.config.get("mounts") or ():
            destination = path.clean(destination_of(request, entry))
            if not any(destination.startswith(f"{one}/") for one in covered):
                _make_mount_point(request, root_fd, destination, entry)
            covered.append(destination)
    finally:
        posix.close(root_fd)


def _make_mount_point(request: Request, root_fd: int, destination: str, entry: Mount) -> None:
    options = split(entry.get("options") or [])
    directory = True
    if entry.get("type") == "bind" or "bind" in options or "rbind" in options:
        source = entry.get("source") or ""
        source = source if source.startswith("/") else f"{request.bundle}/{source}"
        directory = posix.stat(source).st_mode & S_IFMT == S_IFDIR
    make = path.make_directory if directory else path.make_file
    try:
        posix.close(make(root_fd, destination))
    except KernelError as error:
        if error.errno != EROFS:
            raise
