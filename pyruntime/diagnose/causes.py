"""Determine which of several causes an error has, by examining the host after a failure.

Each function takes the error and returns (why, hint), or None if the cause is unknown: diagnose/hints.py then
has the general reason. No function raises, and none is called by a command that succeeds.
"""

from __future__ import annotations

import posix

from pyruntime.errors import PyruntimeError
from pyruntime.util import mountinfo
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = tuple[str, str] | None

# CLONE_NEW* -> the kind in the name of the sysctl that limits how many there are (namespaces(7))
_NAMESPACES = {
    "CLONE_NEWUSER": "user",
    "CLONE_NEWPID": "pid",
    "CLONE_NEWNET": "net",
    "CLONE_NEWIPC": "ipc",
    "CLONE_NEWUTS": "uts",
    "CLONE_NEWCGROUP": "cgroup",
    "CLONE_NEWTIME": "time",
    "CLONE_NEWNS": "mnt",
}
# A limit that is no larger may well be used up; defaults are in the tens of thousands.
_SMALL = 100


def look(call: str, error: PyruntimeError) -> Answer:
    """Return (why, hint) for an error of this system call, None for the general reason."""
    find = SITUATIONS.get((call, error.errno or ""))
    try:
        return find(error) if find is not None else None
    except (OSError, ValueError):
        return None  # what was to be asked is not there


def _flags(error: PyruntimeError) -> list[str]:
    words = (error.syscall or "").partition('"')[2].partition('"')[0]
    return words.split("|")


def namespace_limits(error: PyruntimeError) -> Answer:
    """Return which limits on namespaces are small enough to have been met."""
    small = []
    for flag in _flags(error):
        if flag in _NAMESPACES:
            name = f"max_{_NAMESPACES[flag]}_namespaces"
            limit = int(read_file(f"/proc/sys/user/{name}"))
            if limit <= _SMALL:
                small.append(f"user.{name} = {limit}")
    if small:
        return (
            f"the limit on the number of namespaces is reached: {', '.join(small)}",
            f"raise it with sysctl -w {small[0].partition(' ')[0]}=N, or delete containers",
        )
    return None


def process_limits(error: PyruntimeError) -> Answer:
    """Return which cgroup has as many processes as it may have: the container's for exec, else the runtime's own."""
    full = _full_cgroup(_directory_of(error)) or _full_cgroup(_own_pids_cgroup())
    if full:
        directory, limit = full
        return (
            f"pids.max of {directory} is reached ({limit})",
            "raise it (linux.resources.pids.limit, pyruntime update --pids-limit), or end some of them",
        )
    return None


def _directory_of(error: PyruntimeError) -> str:
    words = (error.syscall or "").split('"')
    return next((word for word in words if word.startswith("/sys/fs/cgroup")), "")


def _own_pids_cgroup() -> str:
    from pyruntime.cgroupfs import layout

    found = layout.find()
    serving = found.serving("pids")
    for one in found.hierarchies:
        if one.name == serving:
            return one.mount_point + one.own.rstrip("/")
    return ""


def _full_cgroup(directory: str) -> tuple[str, int] | None:
    while directory.startswith("/sys/fs/cgroup/"):
        try:
            limit = int(read_file(f"{directory}/pids.max"))
            if int(read_file(f"{directory}/pids.current")) >= limit:
                return directory, limit
        except (OSError, ValueError):
            pass  # "max", or a cgroup without the controller
        directory = directory.rpartition("/")[0]
    return None


def forbidden_namespace(error: PyruntimeError) -> Answer:
    """Return the sysctl or chroot that prevents an unprivileged user namespace."""
    if "CLONE_NEWUSER" not in _flags(error):
        return None
    for path, value, why in (
        ("kernel/unprivileged_userns_clone", "0", "disables unprivileged user namespaces"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "makes AppArmor restrict unprivileged user namespaces"),
    ):
        try:
            found = read_file(f"/proc/sys/{path}").strip()
        except OSError:
            continue
        if found == value and posix.geteuid() != 0:
            name = path.replace("/", ".")
            return f"{name} = {value} on this host {why}", f"sysctl -w {name}={1 - int(value)}, or run as root"
    if in_chroot():
        return "user namespaces cannot be created in a chroot (user_namespaces(7))", "run outside of the chroot"
    return None


def in_chroot() -> bool:
    """Return whether this process's root is not a mount point: that of a chroot."""
    return not any(one.place == "/" for one in mountinfo.of("self"))


def refused_attribute(error: PyruntimeError) -> Answer:
    """Return why attributes of a mount are not changed: a root without a mount, or owners it cannot map."""
    words = error.syscall or ""
    if words.startswith('mount_setattr("/"') and in_chroot():
        return (
            "the runtime is in a chroot whose root is not a mount point",
            "mount --bind the directory on itself before the chroot",
        )
    if "set=0x100000" in words:  # MOUNT_ATTR_IDMAP
        return (
            "the filesystem of the source does not allow mapped mounts on this kernel (it needs FS_ALLOW_IDMAP)",
            "use a source on ext4, xfs, btrfs, tmpfs (Linux 6.3), …, or leave out idmap and the mappings",
        )
    return None


def refused_option(error: PyruntimeError) -> Answer:
    """Return why a filesystem does not take an option: in a user namespace its uid= and gid= must be mapped."""
    word = (error.syscall or "").partition('"')[2].partition('"')[0]
    key, _, value = word.partition("=")
    if key in ("uid", "gid") and value.isdigit():
        return (
            f"the container's user namespace has no {key} {value}: linux.{key}Mappings does not cover it",
            f"extend linux.{key}Mappings, or choose an id that it covers",
        )
    return None


def refused_mapping(error: PyruntimeError) -> Answer:
    """Return why a uid_map or gid_map is not taken, or a sysctl's value."""
    path = (error.syscall or "").partition('"')[2].partition('"')[0]
    name = path.rpartition("/")[2]
    if name in ("uid_map", "gid_map"):
        if error.errno == "EINVAL":
            return "the ranges overlap, or have more than 340 lines", f"correct linux.{name[:3]}Mappings"
        own = " ".join(read_file(f"/proc/self/{name}").split()[:3])
        return (
            f"the mapping contains ids that are not mapped in this user namespace: its {name} is {own!r}"
            if own != "0 0 4294967295"
            else "mapping other ids takes CAP_SETUID and CAP_SETGID, which this process lacks",
            f"map ids that are there, or grant them in /etc/sub{name[:3]} and install newuidmap (package uidmap)",
        )
    if path.startswith("/proc/sys/") and error.errno == "EINVAL":
        return "the kernel does not take this value", f"sysctl {path[10:].replace('/', '.')} on the host shows one"
    return None


def unreachable(error: PyruntimeError) -> Answer:
    """Return which sysctl is not there: a misspelt one, one of a module, or one of the host only."""
    path = (error.syscall or error.message).partition("sys/")[2].partition('"')[0].partition(":")[0]
    if not path or posix.access(f"/proc/sys/{path}", posix.F_OK):
        return None
    return "this kernel has no such parameter", "correct its name, or load the module that it belongs to (modprobe)"


def not_a_directory(error: PyruntimeError) -> Answer:
    """Return which path has a file where a directory must be."""
    if (error.pointer or "").startswith("/mounts/"):
        return (
            "the source is a directory and the destination a file, or a component of the destination is a file",
            "correct the source or the destination",
        )
    return "a component of the path is a file", "correct the path"


SITUATIONS: dict[tuple[str, str], Callable[[PyruntimeError], Answer]] = {
    ("clone3", "ENOSPC"): namespace_limits,
    ("unshare", "ENOSPC"): namespace_limits,
    ("clone3", "EAGAIN"): process_limits,
    ("clone3", "EPERM"): forbidden_namespace,
    ("mount_setattr", "EINVAL"): refused_attribute,
    ("fsconfig", "EINVAL"): refused_option,
    ("write", "EPERM"): refused_mapping,
    ("write", "EINVAL"): refused_mapping,
    ("openat2", "ENOENT"): unreachable,
    ("openat2", "ENOTDIR"): not_a_directory,
}
