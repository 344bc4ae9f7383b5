"""Why a system call usually fails, and what to do: what years of bug reports of container runtimes come down to.

Looked up at the edge of the command line, where a person waits; never in init.
"""

from __future__ import annotations

from pyruntime.errors import PyruntimeError

# (system call, errno) -> (why, mend)
TABLE = {
    ("clone3", "ENOSPC"): (
        "a limit on the number of namespaces is reached",
        "raise user.max_*_namespaces with sysctl(8), or delete containers",
    ),
    ("clone3", "EAGAIN"): (
        "a limit on the number of processes is reached",
        "raise pids.max of the runtime's cgroup, RLIMIT_NPROC or kernel.pid_max",
    ),
    ("clone3", "EPERM"): (
        "an ordinary user may make namespaces only inside a user namespace",
        'add {"type": "user"} with mappings to linux.namespaces, or run as root',
    ),
    ("fsmount", "EPERM"): (
        "the kernel allows proc and sysfs in a user namespace only when the host's are fully visible, and the "
        "pid or network namespace is the container's own",
        "give the container its own pid and network namespaces, or bind the host's /sys",
    ),
    ("mount_setattr", "EINVAL"): (
        "the filesystem may not support this attribute (idmap needs FS_ALLOW_IDMAP in this kernel)",
        "use another filesystem, or leave the option out",
    ),
    ("mount_setattr", "EPERM"): (
        "a mount of a more privileged mount namespace has its attributes locked",
        "leave the option out: ro, nosuid, nodev and noexec of the host's mounts stay",
    ),
    ("setns", "EPERM"): (
        "the namespace belongs to a user namespace over which this process has no rights",
        "run as root, or join the user namespace that owns it",
    ),
    ("setns", "EINVAL"): ("the path is a namespace of another kind", "correct the path in linux.namespaces"),
    ("open_tree", "ENOENT"): ("the source of the mount is missing", "make it on the host, or correct the source"),
    ("open_tree", "EINVAL"): (
        "the source is an unbindable mount, or one with locked mounts below it in a user namespace",
        "use rbind, or choose another source",
    ),
    ("fsopen", "ENODEV"): (
        "the kernel knows no filesystem of this type",
        "correct the type, or load the filesystem's module (modprobe)",
    ),
    ("fsconfig", "EINVAL"): (
        "the filesystem does not take this option or value",
        "correct the options of the mount",
    ),
}


def add(error: PyruntimeError) -> None:
    """Add to an error that has no reason yet the usual one for its system call and errno, if there is one."""
    call = (error.syscall or "").partition("(")[0]
    why, mend = TABLE.get((call, error.errno or ""), (None, None))
    error.why = error.why or why
    error.mend = error.mend or mend
