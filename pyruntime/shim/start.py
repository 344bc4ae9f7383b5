"""`start`: start a shim in the background for a container, or find the shim of its pod.

The process that containerd executed prints the address and exits while the shim is still loading modules:
containerd connects meanwhile.
"""

from __future__ import annotations

import fcntl
import posix

from pyruntime.kernel.constants import EADDRINUSE
from pyruntime.shim import ttrpc, wire
from pyruntime.util import fastjson
from pyruntime.util.fileio import read_file, write_atomically
from pyruntime.util.ids import ContainerId, Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from pyruntime.shim.message_types import Options

DIRECTORY = "/run/containerd/s"

# Annotations that group containers: those with the same value share a shim.
_GROUPS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
_MAX_OPTIONS = 1 << 20
_NEWEST = 3  # containerd.task.v3


def start(id: str, namespace: str, address: str) -> int:
    """Print the address of the shim for the bundle in the working directory, and start it unless it runs."""
    checked, space = ContainerId(id), Namespace(namespace)
    given = _read_input()
    path = socket_path(address, namespace, _group(id))
    # In the bundle of every container: containerd reads the address from here after a restart.
    write_atomically(".", "address", f"unix://{path}", replace=posix.access("address", posix.F_OK))
    listener = _listen(path)
    if listener is not None:
        chosen = _options(given)
        if posix.fork() == 0:
            try:
                _serve(listener, path, space, checked, chosen)
            except BaseException as error:  # an exception must not propagate to the caller's code
                from pyruntime.shim.service import warn

                warn(f"the shim cannot serve: {type(error).__name__}: {error}")
            finally:
                posix._exit(1)
    posix.write(1, _answer(f"unix://{path}").encode())
    return 0


def socket_path(address: str, namespace: str, group: str) -> str:
    """Return the socket path of the shim of a group of containers."""
    return f"{DIRECTORY}/{_sha256(f'{address}/{namespace}/{group}'.encode())}"


def _sha256(data: bytes) -> str:
    """Return the SHA-256 digest of data in hexadecimal. Avoids hashlib, which loads OpenSSL."""
    try:
        from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12 and later
    except ImportError:
        try:
            from _sha256 import sha256  # type: ignore[import-not-found]  # Python 3.11
        except ImportError:
            from hashlib import sha256  # an interpreter built without its own hash functions
    digest: str = sha256(data).hexdigest()
    return digest


def _group(id: str) -> str:
    """Return the group of a container: the id of its pod, or its own id."""
    try:
        config = fastjson.loads(read_file("config.json"))
        annotations = config.get("annotations") or {}
    except (OSError, ValueError, AttributeError):
        return id  # create reports the error
    return next((annotations[name] for name in _GROUPS if annotations.get(name)), id)


def _listen(path: str) -> _socket.socket | None:
    """Return a listening socket, None if a shim already listens."""
    if not posix.access(DIRECTORY, posix.F_OK):
        for directory, mode in ((DIRECTORY.rpartition("/")[0], 0o711), (DIRECTORY, 0o700)):
            try:
                posix.mkdir(directory, mode)
            except FileExistsError:
                pass  # it may have been created concurrently
    # Containers of a pod may be started concurrently: serialize test and bind(2).
    lock = posix.open(DIRECTORY, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return ttrpc.listen(path)
        except OSError as error:
            if error.errno != EADDRINUSE:
                raise
        if ttrpc.connects(path):
            return None
        posix.unlink(path)  # stale socket of a killed shim
        return ttrpc.listen(path)
    finally:
        posix.close(lock)


def _read_input() -> bytes:
    """Read the runtime options from standard input: an Any, BootstrapParams, or nothing."""
    data = b""
    try:
        while len(data) < _MAX_OPTIONS and (chunk := posix.read(0, 65536)):
            data += chunk
    except OSError:
        pass
    return data


def _options(given: bytes) -> Options:
    from pyruntime.shim import runtime_options

    any = None
    try:
        if is_bootstrap(given):
            params = wire.decode("BootstrapParams", given)
            any = next((one["value"] for one in params["extensions"] if one["value"]), None)
        elif given:
            any = wire.decode("Any", given)
        return runtime_options.options(any)
    except ValueError:
        return runtime_options.options(None)  # Create gets them, too, and reports the error


def is_bootstrap(given: bytes) -> bool:
    """Return whether data is BootstrapParams: fields 1 and 2 are id and namespace, and 3 is a number or 4 is set."""
    try:
        params = wire.decode("BootstrapParams", given)
    except ValueError:
        return False
    return bool(params["instance_id"] and params["namespace"] and params["containerd_version"])


def _answer(address: str) -> str:
    """Return the address in the format of this containerd: plain for 1.6, JSON for later ones. JSON has the version of
    the task service, at most MAX_SHIM_VERSION, which is 2, also in containerd 2."""
    if b"MAX_SHIM_VERSION" not in posix.environ:
        return address
    version = min(int(posix.environ[b"MAX_SHIM_VERSION"] or b"2"), _NEWEST)
    return fastjson.dumps({"version": version, "address": address, "protocol": "ttrpc"})


def _serve(listener: _socket.socket, path: str, namespace: Namespace, id: ContainerId, chosen: Options) -> None:
    """Run the shim."""
    posix.setpgid(0, 0)
    # containerd reads the output of `start` until end of file.
    null = posix.open("/dev/null", posix.O_RDWR)
    posix.dup2(null, 0)
    posix.dup2(null, 1)
    try:
        # O_RDWR: open(2) does not wait for a reader, and there is no SIGPIPE without one.
        log = posix.open("log", posix.O_RDWR | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:
        log = null
    posix.dup2(log, 2)
    for fd in {null, log}:
        posix.close(fd)
    _protect(chosen["shim_cgroup"])
    from pyruntime.shim.service import Service

    # The variables that systemd sets for containerd must not be inherited by containers.
    for name in (b"NOTIFY_SOCKET", b"LISTEN_FDS", b"LISTEN_PID", b"LISTEN_FDNAMES"):
        posix.environ.pop(name, None)
    events = posix.environ.get(b"TTRPC_ADDRESS", b"").decode("utf-8", "surrogateescape")
    service = Service(listener, path, namespace, events)
    service.tasks.prepare(id, posix.getcwd(), chosen)
    service.serve()
    posix._exit(0)


def _protect(cgroup: str) -> None:
    """Join the requested cgroup, and adjust oom_score_adj to that of containerd plus one."""
    pid = str(posix.getpid()).encode()
    if cgroup:
        for directory in _directories(cgroup):
            _write(f"{directory}/cgroup.procs", pid)
    try:
        score = int(read_file(f"/proc/{posix.getppid()}/oom_score_adj"))
    except (OSError, ValueError):
        return
    _write("/proc/self/oom_score_adj", str(min(1000, score + 1)).encode())


def _directories(cgroup: str) -> list[str]:
    from pyruntime.cgroupfs import layout

    return [f"{one.mount_point}/{cgroup.strip('/')}" for one in layout.find().hierarchies]


def _write(path: str, data: bytes) -> None:
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    except OSError:
        return
    try:
        posix.write(fd, data)
    except OSError:
        pass
    finally:
        posix.close(fd)
