"""Image directories, and the criu options shared by checkpoint and restore."""

from __future__ import annotations

import posix

from pyruntime.criu import messages
from pyruntime.errors import StateError, UsageError, errno_name, strerror
from pyruntime.kernel.constants import CLONE_NEWNET, ENOENT, O_PATH, S_IFMT, S_IFREG
from pyruntime.util import fastjson, mountinfo, procfs
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.criu.options import ImageOptions
    from pyruntime.plan.request import Request

# Where standard input, output and error led to: runc's name and form, so that its images can be restored, too.
DESCRIPTORS = "descriptors.json"
_CONFIG = "/etc/criu/runc.conf"
_ANNOTATION = "org.criu.config"
# Namespaces that config.json has by path: criu leaves them alone, and joins those of the restored container's.
EXTERNAL_NAMESPACES = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY
_LOG_LEVEL = 4
_LARGEST = 64 << 10


class Directories:
    """The directories of images and of logs, open for criu (inheritable). paths are absolute."""

    def __init__(self, asked: ImageOptions, log: str, *, make: bool) -> None:
        here = posix.getcwd()
        self.images = _absolute(asked.image_path or "checkpoint", here)
        self.work = _absolute(asked.work_path, here) if asked.work_path else self.images
        self.log = f"{self.work}/{log}"
        self.fds: list[int] = []
        for path in (self.images, self.work):
            if make or path != self.images:
                _make(path)
            try:
                fd = posix.open(path, _DIRECTORY)
            except OSError as error:
                self.close()
                raise StateError(
                    f"{path}: {strerror(error.errno)} ({errno_name(error.errno)})",
                    why="the images of a checkpoint are looked for there" if error.errno == ENOENT else None,
                    hint="give --image-path DIR",
                ) from None
            posix.set_inheritable(fd, True)
            self.fds.append(fd)

    def paths(self) -> dict[int, str]:
        """Return descriptor -> path of each."""
        return dict(zip(self.fds, (self.images, self.work), strict=True))

    def close(self) -> None:
        """Close them."""
        for fd in self.fds:
            posix.close(fd)
        self.fds = []


def _absolute(path: str, here: str) -> str:
    return path if path.startswith("/") else f"{here}/{path}"


def _make(path: str) -> None:
    missing = []
    while not posix.access(path, posix.F_OK):
        missing.append(path)
        path = path.rpartition("/")[0] or "/"
    for one in reversed(missing):
        posix.mkdir(one, 0o755)


def common(asked: ImageOptions, directories: Directories, log: str) -> dict[str, object]:
    """Return the options that dump and restore share, from the flags of the command line. Raises UsageError."""
    mode = asked.manage_cgroups_mode
    if mode not in messages.CGROUP_MODES:
        raise UsageError(f"invalid manage-cgroups-mode: {mode!r}", hint="give soft, full, strict or ignore")
    return {
        "images_dir_fd": directories.fds[0],
        "work_dir_fd": directories.fds[1],
        "log_level": _LOG_LEVEL,
        "log_file": log,
        "manage_cgroups": mode != "ignore",
        "manage_cgroups_mode": [messages.CGROUP_MODES[mode]],
        "notify_scripts": True,
        "tcp_established": asked.tcp_established,
        "ext_unix_sk": asked.ext_unix_sk,
        "shell_job": asked.shell_job,
        "file_locks": asked.file_locks,
        "empty_ns": empty_namespaces(asked.empty_ns),
        "auto_dedup": asked.auto_dedup,
        "lazy_pages": asked.lazy_pages,
        "orphan_pts_master": True,
    }


def empty_namespaces(kinds: tuple[str, ...]) -> int:
    """Return the flags of the namespaces of --empty-ns. Raises UsageError."""
    for kind in kinds:
        if kind not in ("network", "net"):
            raise UsageError(f"--empty-ns: namespace {kind!r} is not supported", hint="give network")
    return CLONE_NEWNET if kinds else 0


def config_file(request: Request) -> str:
    """Return the file of criu's own options: of the annotation org.criu.config, or runc's when it is there."""
    wanted: str | None = (request.config.get("annotations") or {}).get(_ANNOTATION)
    if wanted is not None:
        return wanted
    return _CONFIG if posix.access(_CONFIG, posix.R_OK) else ""


def joined(request: Request, kind: str) -> str:
    """Return the path by which config.json has a namespace of a kind, "" for none."""
    return request.namespace(kind)[1]


def descriptors_of(pid: int) -> list[str]:
    """Return where a process's standard input, output and error lead to: a path or `pipe:[INODE]`.

    What was opened outside of the container's mounts criu cannot find again: it is called `file[MOUNT:INODE]`, in
    hexadecimal, as criu calls a file that is to be given to it."""
    mounts = {str(one.id) for one in mountinfo.of(pid)}
    found = []
    for number in range(3):
        try:
            link = posix.readlink(f"/proc/{pid}/fd/{number}")
            fields = procfs.status(read_file(f"/proc/{pid}/fdinfo/{number}"))
        except OSError:
            found.append("")  # closed
            continue
        if link.startswith("/") and fields["mnt_id"] not in mounts:
            link = _name(fields["mnt_id"], posix.stat(f"/proc/{pid}/fd/{number}"))
        found.append(link)
    return found


def _name(mount: str, status: posix.stat_result) -> str:
    return f"file[{int(mount):x}:{status.st_ino:x}]"


def descriptor_for(path: str) -> str:
    """Return what `descriptors_of` finds of a file of the host's that was opened by a path. Raises OSError."""
    fd = posix.open(path, O_PATH | posix.O_CLOEXEC)
    try:
        fields = dict(line.split(":\t", 1) for line in read_file(f"/proc/self/fdinfo/{fd}").splitlines())
        return _name(fields["mnt_id"], posix.fstat(fd))
    finally:
        posix.close(fd)


def write_descriptors(directory: str, links: list[str]) -> None:
    """Note what `descriptors_of` found beside the images."""
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW | posix.O_CLOEXEC
    fd = posix.open(f"{directory}/{DESCRIPTORS}", flags, 0o600)
    posix.write(fd, fastjson.dumps(links).encode("utf-8", "surrogateescape"))
    posix.close(fd)


def read_descriptors(directory: str) -> list[str]:
    """Return what `write_descriptors` noted. Raises StateError."""
    path = f"{directory}/{DESCRIPTORS}"
    try:
        found = fastjson.loads(_read_bounded(path))
        if not isinstance(found, list):
            raise ValueError("it is not a JSON array")
    except (OSError, ValueError) as error:
        said = strerror(error.errno) if isinstance(error, OSError) else error
        raise StateError(
            f"{path}: {said}", why="the directory has no images of a container", hint="give --image-path DIR"
        ) from None
    return [str(link) for link in found]


def _read_bounded(path: str) -> str:
    """Read a small regular file, not through a link: the images may have come from elsewhere. Raises OSError and
    ValueError."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC)
    try:
        status = posix.fstat(fd)
        if status.st_mode & S_IFMT != S_IFREG:
            raise ValueError("it is not a regular file")
        if status.st_size > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST >> 10} KiB")
        data = posix.read(fd, _LARGEST + 1)
    finally:
        posix.close(fd)
    return data.decode("utf-8", "surrogateescape")
