"""The usual reason of a failed system call, and a hint: TABLE maps (system call, errno) to both.

Looked up when the command line prints an error, never in init. If an error has several causes,
pyruntime/diagnose/causes.py examines the host first.
tests/linux/test_reasons.py provokes each row.
"""

from __future__ import annotations

from pyruntime.errors import PyruntimeError

# (system call, errno) -> (why, hint)
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
    ("clone3", "ENOSYS"): (
        "the kernel is older than 5.3, or a seccomp filter around the runtime hides the call",
        "when the runtime is itself in a container, give that one a newer seccomp profile",
    ),
    ("unshare", "ENOSPC"): (
        "a limit on the number of namespaces is reached",
        "raise user.max_*_namespaces with sysctl(8), or delete containers",
    ),
    ("unshare", "EPERM"): (
        "making this namespace takes CAP_SYS_ADMIN",
        'run as root, or add {"type": "user"} with mappings to linux.namespaces',
    ),
    ("fsmount", "EPERM"): (
        "the kernel allows proc and sysfs in a user namespace only when the host's are fully visible, and the "
        "pid or network namespace is the container's own",
        "give the container its own pid and network namespaces, or bind the host's /sys",
    ),
    ("mount_setattr", "EPERM"): (
        "a mount of a more privileged mount namespace has its attributes locked",
        "leave the option out: ro, nosuid, nodev and noexec of the host's mounts stay",
    ),
    ("setns", "EPERM"): (
        "the namespace belongs to a user namespace over which this process has no rights",
        "run as root, or join the user namespace that owns it",
    ),
    ("setns", "EINVAL"): (
        "a process cannot join its own user namespace, nor a pid namespace outside its own",
        "leave the path out of linux.namespaces, or correct it",
    ),
    ("open_tree", "ENOENT"): ("the source of the mount is missing", "create it on the host, or correct the source"),
    ("open_tree", "EACCES"): (
        "permission to search a directory above the source is denied",
        "in a user namespace root is an ordinary user to the host: chmod o+x the directories above, or move the source",
    ),
    ("open_tree", "EINVAL"): (
        "the source has submounts that a user namespace must not hide, or it is unbindable",
        "use rbind, or choose another source",
    ),
    ("move_mount", "ENOTDIR"): (
        "the source is a file, the destination a directory",
        "correct the source or the destination",
    ),
    ("fsopen", "ENODEV"): (
        "unknown filesystem type",
        "correct the type, or load the filesystem's module (modprobe)",
    ),
    ("fsconfig", "EINVAL"): (
        "the filesystem does not take this option or value",
        "correct the options of the mount",
    ),
    ("fsconfig", "EPERM"): (
        "only root of the host may mount a filesystem of this type",
        "mount it on the host and bind it, or do without a user namespace",
    ),
    ("fsconfig", "ENOENT"): (
        "the source, or a directory that the options name, is missing",
        "create it on the host, or correct source and options",
    ),
    ("fsconfig", "ENOTBLK"): (
        "a filesystem of this type needs a block device as its source",
        "correct the source; a directory is mounted with type bind",
    ),
    ("fsconfig", "EBUSY"): (
        "the device or directory is in use by another mount",
        "unmount it there, or give an overlay an upperdir and workdir of its own",
    ),
    ("pivot_root", "EINVAL"): (
        "the host's root is a ramfs (an initrd), or a hook has made the container's mounts shared",
        "use --no-pivot on a ramfs, and leave the propagation of the container's mounts alone in hooks",
    ),
    ("mkdirat", "EACCES"): (
        "the directory is not owned by the uid that linux.uidMappings maps to container root",
        "create the directory in the image, or chown the rootfs to that uid",
    ),
    ("mkdirat", "EROFS"): (
        "the rootfs, or the mount that the directory is on, is read-only",
        "make the directory before, in the image or in what is mounted there",
    ),
    ("keyctl", "EDQUOT"): (
        "the key quota of the user is exhausted (keyrings(7))",
        "raise kernel.keys.maxkeys with sysctl(8), or use --no-new-keyring",
    ),
    ("mkdir", "EROFS"): (
        "the cgroup hierarchy is mounted read-only, as in most containers",
        "run the outer container with a writable /sys/fs/cgroup (--privileged, or --cgroupns=private)",
    ),
    ("mkdir", "EACCES"): (
        "this user does not own this part of the cgroup hierarchy",
        "run as root, or give a linux.cgroupsPath below a cgroup that was delegated to you",
    ),
    ("mkdir", "EAGAIN"): (
        "cgroup.max.descendants or cgroup.max.depth of a cgroup above is reached",
        "raise the limit, or remove unused cgroups",
    ),
    ("execve", "E2BIG"): (
        "an argument is limited to 128 KiB, arguments and environment to a quarter of RLIMIT_STACK",
        "shorten process.args and process.env, or raise RLIMIT_STACK",
    ),
}


def add(error: PyruntimeError) -> None:
    """Set `why` and `hint` of an error without a reason, by its system call and errno."""
    from pyruntime.diagnose import causes

    call = (error.syscall or "").partition("(")[0]
    found = causes.look(call, error) or TABLE.get((call, error.errno or ""))
    if found:
        error.why = error.why or found[0]
        error.hint = error.hint or found[1]
