"""create: make a container; its init then waits for `start` (runtime-spec runtime.md, "Create")."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import layout
from pyruntime.commands import descriptors, pid_file, pidfd_socket
from pyruntime.errors import KernelError, StateError, from_oserror
from pyruntime.kernel.constants import ENOSPC, EROFS
from pyruntime.plan.request import Request
from pyruntime.spec import check, load
from pyruntime.state import store
from pyruntime.state.status import open_init
from pyruntime.state.store import Record
from pyruntime.util.fileio import write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from pyruntime.commands.settings import Settings
    from pyruntime.features.registry import Plan
    from pyruntime.util.ids import ContainerId
    from pyruntime.util.log import Log

_SC_OPEN_MAX = posix.sysconf_names["SC_OPEN_MAX"]
_DESCRIPTORS = 40  # more than `create` has open at once: one a hierarchy of cgroup v1, and some twenty
_AMPLE = 512


class CreateOptions:
    """What a caller may ask of `create` besides the container's id.

    bundle:         the directory that holds config.json.
    config:         the file to read instead of BUNDLE/config.json.
    pid_file:       where to write the pid of init.
    console_socket: the unix socket that gets the master of the container's terminal.
    pidfd_socket:   the unix socket that gets a pidfd of init.
    pivot:          pivot_root(2); else the root is moved, for a host whose root is a ramfs.
    new_keyring:    a session keyring of its own.
    preserve_fds:   how many descriptors from 3 on the process gets.
    detach:         do not wait for the container in the foreground."""

    __slots__ = (
        "bundle",
        "config",
        "console_socket",
        "detach",
        "new_keyring",
        "pid_file",
        "pidfd_socket",
        "pivot",
        "preserve_fds",
    )

    def __init__(
        self,
        bundle: str = "",
        *,
        config: str = "",
        pid_file: str = "",
        console_socket: str = "",
        pidfd_socket: str = "",
        pivot: bool = True,
        new_keyring: bool = True,
        preserve_fds: int = 0,
        detach: bool = True,
    ) -> None:
        self.bundle = bundle
        self.config = config
        self.pid_file = pid_file
        self.console_socket = console_socket
        self.pidfd_socket = pidfd_socket
        self.pivot = pivot
        self.new_keyring = new_keyring
        self.preserve_fds = preserve_fds
        self.detach = detach


def create(settings: Settings, id: ContainerId, options: CreateOptions) -> Record:
    """Create the container of a bundle: its record. Raises PyruntimeError; then nothing is left."""
    request, raw = request_of(settings, id, options)
    return create_from(settings, request, raw, options)


def create_from(settings: Settings, request: Request, raw: str, options: CreateOptions) -> Record:
    """As `create`, from what `request_of` has returned."""
    if options.pid_file:
        pid_file.check(options.pid_file)
    receiver = (request.config.get("annotations") or {}).get("run.oci.pidfd_receiver") or ""
    connection = pidfd_socket.connect(options.pidfd_socket or receiver)
    record = make(request, settings.root, raw, settings.log)
    try:
        if connection is not None:
            _send_pidfd(connection, record, "standard" if options.pidfd_socket else " ")
        if options.pid_file:
            pid_file.write(options.pid_file, record.pid)
    except BaseException as error:
        from pyruntime.commands import delete

        delete.undo_created(record, settings.log, error)
        raise
    return record


def _send_pidfd(connection: socket, record: Record, name: str) -> None:
    pidfd = open_init(record)
    try:
        pidfd_socket.send(connection, pidfd, name)
    finally:
        posix.close(pidfd)


def request_of(settings: Settings, id: ContainerId, options: CreateOptions) -> tuple[Request, str]:
    """Load and check a bundle: (what to make, config.json as it was read). Raises PyruntimeError."""
    listening = descriptors.listening()
    preserve_fds = descriptors.preserved(options.preserve_fds, listening)
    bundle = options.bundle or "."
    if not bundle.startswith("/"):
        bundle = posix.getcwd() if bundle == "." else f"{posix.getcwd()}/{bundle}"
    file = options.config or f"{bundle}/config.json"
    raw = load.read_file(file)
    config = load.parse_object(raw, file)
    problems = check.require(config)
    request = Request(
        config,
        id=id,
        bundle=bundle.rstrip("/") or "/",
        layout=layout.find(),
        rootless=settings.rootless,
        pivot=options.pivot,
        new_keyring=options.new_keyring,
        preserve_fds=preserve_fds,
        console_socket=options.console_socket or None,
        detach=options.detach,
        systemd_cgroup=settings.systemd_cgroup,
    )
    if listening and request.process:
        env = request.process.get("env") or ()
        request.process["env"] = [*env, f"LISTEN_FDS={listening}", "LISTEN_PID=1"]
    if posix.environ.get(b"NOTIFY_SOCKET"):
        from pyruntime.features import notify_socket

        notify_socket.show(request, settings.root)
    for problem in problems:
        request.warn(f"config.json: {problem}")
    return request, raw.decode("utf-8", "surrogateescape")


def plan_for(request: Request) -> Plan:
    """Return the plan of a request, without looking at the rootfs. Raises PyruntimeError."""
    from pyruntime.features import registry

    if request.process.get("terminal") or request.console_socket:
        from pyruntime.features.rootfs import console

        console.check(request)
    if request.systemd_cgroup:
        from pyruntime.features.cgroups import systemd

        systemd.require()
    return registry.build(request)


def make(request: Request, root: str, raw_config: str, log: Log, plan: Plan | None = None) -> Record:
    """Make a container: when this returns, init waits for `start`. On an error nothing is left.

    request:    what to make (plan/request.py).
    root:       the directory of all containers' state.
    raw_config: config.json as it was read, kept for `exec` and `update`.
    plan:       what `plan_for` has made of the request, if that was done before."""
    from pyruntime.runtime import parent
    from pyruntime.state import liveness

    if plan is None:
        plan = plan_for(request)
    liveness.require_own_proc()
    for text in request.warnings:
        log.warning(text)
    _require_descriptors()
    directory, lock = store.make(root, request.id)
    record = Record(directory, request.id)
    try:
        try:
            describe(record, request)
            write_atomically(directory, store.CONFIG, raw_config)
            maker = parent.Parent(plan, record, log)
            parent.create(maker)
            record.pidfd = maker.pidfd
        except BaseException as error:
            from pyruntime.commands import delete

            delete.undo(record, log, error)
            if request.linux.get("seccomp"):
                from pyruntime.features.security import seccomp_blame

                seccomp_blame.explain(error, request.config)
            raise
    except OSError as error:
        # A full or a read-only disk, of a write(2) that has no name; clone3(2) means another thing by ENOSPC.
        full = error.errno in (ENOSPC, EROFS) and not isinstance(error, KernelError) and not error.filename
        if full or str(error.filename or "").startswith(directory):
            raise store.unusable(root, directory, error) from error
        raise from_oserror(error, doing="create the container") from error
    finally:
        posix.close(lock)
    return record


def _require_descriptors() -> None:
    """Raise StateError unless enough descriptors are free: without any, not even an error can be undone."""
    lowest = posix.dup(2)
    posix.close(lowest)
    limit = posix.sysconf(_SC_OPEN_MAX)
    if limit < 0 or (limit > _AMPLE and lowest + _DESCRIPTORS < limit // 2):  # -1: unlimited
        return
    count = len(posix.listdir("/proc/self/fd"))  # there may be gaps
    if count + _DESCRIPTORS > limit:
        raise StateError(
            f"too many open files: {count} are open, and RLIMIT_NOFILE is {limit}",
            hint=f"call it with fewer open files, or raise the limit to {count + _DESCRIPTORS} (ulimit -n)",
        )


def describe(record: Record, request: Request) -> None:
    """Note in a record what config.json says of the container."""
    config = request.config
    record.bundle = request.bundle
    record.oci_version = config["ociVersion"]
    record.annotations = config.get("annotations") or {}
    record.rootfs = request.rootfs()
    record.private_pid = request.has_new("pid")
    if not request.new_keyring:
        record.extra["no_new_keyring"] = True  # for `exec`
    if not request.namespace("mount")[0]:
        # An engine may have mounted the rootfs: that is not ours to take away.
        from pyruntime.features.rootfs import host_mounts  # few containers have none

        record.extra["foreign_mounts"] = host_mounts.count(record.rootfs)
        record.host_mounts = record.rootfs
    record.hooks = {
        kind: list for kind, list in (config.get("hooks") or {}).items() if kind in ("poststart", "poststop") and list
    }
