"""Why a system call usually fails, and what to do: what years of bug reports of container runtimes come down to.

Looked up at the edge of the command line, where a person waits; never in init. Where the same error has several
causes, the host is asked which of them it is (pyruntime/diagnose/causes.py); what is known without asking is in TABLE.
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
        "nobody can join the user namespace that he is in, nor a pid namespace that is not below his own",
        "leave the path out of linux.namespaces, or correct it",
    ),
    ("open_tree", "ENOENT"): ("the source of the mount is missing", "make it on the host, or correct the source"),
    ("open_tree", "EACCES"): (
        "a directory above the source may not be entered by this user",
        "in a user namespace root is an ordinary user to the host: chmod o+x the directories above, or move the source",
    ),
    ("open_tree", "EINVAL"): (
        "the source has mounts below it, which a user namespace may not take away; or it is unbindable",
        "use rbind, or choose another source",
    ),
    ("move_mount", "ENOTDIR"): (
        "the source is a file, the destination a directory",
        "correct the source or the destination",
    ),
    ("fsopen", "ENODEV"): (
        "the kernel knows no filesystem of this type",
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
        "make it on the host, or correct source and options",
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
        "the directory does not belong to the container's root, whom linux.uidMappings makes an ordinary user",
        "make the directory in the image, or give the rootfs to that user (chown)",
    ),
    ("mkdirat", "EROFS"): (
        "the rootfs, or the mount that the directory is on, is read-only",
        "make the directory before, in the image or in what is mounted there",
    ),
    ("keyctl", "EDQUOT"): (
        "the user has as many keys as the kernel allows (keyrings(7))",
        "raise kernel.keys.maxkeys with sysctl(8), or use --no-new-keyring",
    ),
    ("mkdir", "EROFS"): (
        "the hierarchy of cgroups is mounted read-only here, as it is inside most containers",
        "run the outer container with a writable /sys/fs/cgroup (--privileged, or --cgroupns=private)",
    ),
    ("mkdir", "EACCES"): (
        "this part of the hierarchy of cgroups belongs to somebody else",
        "run as root, or give a linux.cgroupsPath below a cgroup that was delegated to you",
    ),
    ("mkdir", "EAGAIN"): (
        "cgroup.max.descendants or cgroup.max.depth of a cgroup above is reached",
        "raise it, or remove cgroups that nobody uses",
    ),
    ("execve", "E2BIG"): (
        "one argument may have 128 KiB, all arguments and the environment a quarter of the stack's rlimit",
        "shorten process.args and process.env, or raise RLIMIT_STACK",
    ),
}


def add(error: PyruntimeError) -> None:
    """Add to an error that has no reason yet the usual one for its system call and errno, if there is one."""
    from pyruntime.diagnose import causes

    call = (error.syscall or "").partition("(")[0]
    found = causes.look(call, error) or TABLE.get((call, error.errno or ""))
    if found:
        error.why = error.why or found[0]
        error.hint = error.hint or found[1]
