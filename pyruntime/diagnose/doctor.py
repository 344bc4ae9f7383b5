"""Can this host run containers? What is there, what is missing, what follows from that, and the hint."""

from __future__ import annotations

import posix

from pyruntime.boot import snapshot
from pyruntime.cgroupfs.layout import Layout
from pyruntime.diagnose import host_checks, host_facts
from pyruntime.features.namespaces.namespaces import KINDS
from pyruntime.features.process import capabilities
from pyruntime.kernel import files, mount, process
from pyruntime.kernel.constants import CLONE_THREAD, ENOSYS
from pyruntime.util import mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What engines put limits on; of v2, io and blkio are one.
_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")
_FILESYSTEMS = {
    "proc": "error",
    "tmpfs": "error",
    "sysfs": "error",
    "devpts": "error",
    "mqueue": "warning",
    "overlay": "warning",
}
_NODES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx")


class Check:
    """One thing that was looked at.

    status:  "ok"; "warning": some containers cannot run, or not fully; "error": none can.
    found:   what is there. follows: what that means, when it is not in order. hint: what to do."""

    __slots__ = ("follows", "found", "hint", "status", "subject")

    def __init__(self, subject: str, status: str, found: str, follows: str = "", hint: str = "") -> None:
        self.subject = subject
        self.status = status
        self.found = found
        self.follows = follows if status != "ok" else ""
        self.hint = hint if status != "ok" else ""

    def to_json(self) -> dict[str, str]:
        """Return its parts by name."""
        return {name: getattr(self, name) for name in ("subject", "status", "found", "follows", "hint")}


def examine(layout: Layout, root: str, rootless: bool, *, no_root: str = "") -> Iterator[Check]:
    """Look at everything.

    root: where the containers' state would be; no_root: why that is unknown.
    rootless: the caller is not root of the host."""
    yield _kernel()
    yield from _system_calls()
    yield from _namespaces()
    if rootless:
        yield from _rootless()
    else:
        yield _capabilities()
    yield from _cgroups(layout, rootless)
    yield from _filesystems()
    yield from _root_directory()
    yield _nodes()
    yield _seccomp()
    yield _security_modules()
    yield _state(root, no_root)
    yield _snapshot()
    yield from _others(rootless)


def _kernel() -> Check:
    version = host_facts.kernel_version()
    return Check(
        "kernel",
        "ok" if version >= host_checks.OLDEST_KERNEL else "error",
        f"Linux {posix.uname().release}, {posix.uname().machine}",
        "no container can be made: mounts take mount_setattr(2), of Linux 5.12",
        "use Linux 5.12 or newer",
    )


def _system_calls() -> Iterator[Check]:
    """Check whether the calls that everything is made of are there: a seccomp filter around us may hide them."""
    hidden = []
    # Arguments that no kernel accepts: the error is EINVAL or EBADF, and nothing happens.
    calls: tuple[tuple[str, Callable[[], object]], ...] = (
        ("clone3", lambda: process.clone(CLONE_THREAD)),
        ("openat2", lambda: files.open_resolved(-1, "x", 0, 0)),
        ("mount_setattr", lambda: mount.set_attributes(-1, set=1)),
        ("open_tree", lambda: mount.clone_tree("x", dirfd=-1)),
        ("fsopen", lambda: mount.new_filesystem("", "", [], 0)),
        ("pidfd_open", lambda: posix.pidfd_open(-1)),
    )
    for name, call in calls:
        try:
            call()
        except OSError as error:
            if error.errno == ENOSYS:
                hidden.append(name)
    names = ", ".join(name for name, _ in calls)
    yield Check(
        "system calls",
        "error" if hidden else "ok",
        f"not there: {', '.join(hidden)}" if hidden else names,
        "no container can be made: the kernel is too old, or a seccomp filter around this process hides them",
        "inside another container: give that one a newer seccomp profile (docker: --security-opt seccomp=FILE)",
    )


def _namespaces() -> Iterator[Check]:
    absent = [kind for kind, (_, name) in KINDS.items() if not host_facts.exists(f"/proc/self/ns/{name}")]
    yield Check(
        "namespaces",
        "error" if "mount" in absent or "pid" in absent else "warning" if absent else "ok",
        f"this kernel has no {', '.join(absent)}" if absent else " ".join(KINDS),
        "containers that ask for one of these cannot be made",
        "leave it out of linux.namespaces, or use a kernel that has it",
    )
    low = []
    for name in host_facts.names("/proc/sys/user"):
        limit = host_facts.text(f"/proc/sys/user/{name}")
        if name.endswith("_namespaces") and limit.isdigit() and int(limit) < 100:
            low.append(f"user.{name} = {limit}")
    yield Check(
        "namespace limits",
        "warning" if low else "ok",
        ", ".join(low) or "none is low",
        "a container beyond the limit fails with ENOSPC",
        f"sysctl -w {low[0].partition(' ')[0]}=10000" if low else "",
    )


def _rootless() -> Iterator[Check]:
    """Check what an ordinary user needs."""
    forbidden = [
        f"kernel.{name} = {value}"
        for name, value in (("unprivileged_userns_clone", "0"), ("apparmor_restrict_unprivileged_userns", "1"))
        if host_facts.text(f"/proc/sys/kernel/{name}") == value
    ]
    yield Check(
        "user namespaces",
        "error" if forbidden else "ok",
        ", ".join(forbidden) or "available to unprivileged users",
        "an unprivileged user cannot create containers",
        "change it as root with sysctl(8), or run pyruntime as root",
    )
    for kind, helper in (("subuid", "newuidmap"), ("subgid", "newgidmap")):
        granted = host_facts.subordinate(f"/etc/{kind}")
        program = host_facts.program(helper)
        hints = [] if granted else [f"usermod --add-{kind}s 100000-165535 USER"]
        if not program:
            hints.append(f"install {helper} (package uidmap)")
        yield Check(
            kind,
            "ok" if granted and program else "warning",
            f"{', '.join(f'{first}+{count}' for first, count in granted) or 'none'}; {program or 'no ' + helper}",
            "containers can have one id only: images with several users fail to unpack or to run",
            ", and ".join(hints),
        )


def _capabilities() -> Check:
    permitted, bounding = host_facts.capabilities()
    lacking = [name for name, number in capabilities.NUMBERS.items() if not (permitted & bounding) >> number & 1]
    vital = "CAP_SYS_ADMIN" in lacking
    return Check(
        "capabilities",
        "error" if vital else "warning" if lacking else "ok",
        f"root lacks {' '.join(lacking)}" if lacking else "all",
        "no container can be made"
        if vital
        else "containers that ask for these run without them; limits above the host's own cannot be set",
        "run the outer container with --privileged, or on the host",
    )


def _cgroups(layout: Layout, rootless: bool) -> Iterator[Check]:
    missing = [one for one in _CONTROLLERS if not layout.serving(one) and not (one == "io" and layout.serving("blkio"))]
    yield Check(
        "cgroups",
        "warning" if layout.kind == "none" or missing else "ok",
        f"{layout.kind}: {' '.join(one.name for one in layout.hierarchies) or 'nothing is mounted'}"
        + (f"; no {' '.join(missing)}" if missing else ""),
        "containers run, but one with such a limit is refused",
        "mount or enable the controllers (systemd: Delegate=, kernel: cgroup_disable=), or leave the limits out",
    )
    closed = [one.name for one in layout.hierarchies if not posix.access(one.mount_point + one.own, posix.W_OK)]
    yield Check(
        "cgroup rights",
        "warning" if closed else "ok",
        f"not writable: {' '.join(closed)}" if closed else "writable",
        "containers get no cgroup of their own there" + ("" if rootless else ", and creating them fails"),
        "loginctl enable-linger, and start from a systemd user session (Delegate=yes)"
        if rootless
        else "mount /sys/fs/cgroup writable",
    )
    if layout.serving("memory"):
        where = next(one for one in layout.hierarchies if one.name == layout.serving("memory"))
        file = "memory.memsw.limit_in_bytes" if "memory" in where.name else ""
        if file:
            counted = host_facts.exists(f"{where.mount_point}/{file}")
            yield Check(
                "swap accounting",
                "ok" if counted else "warning",
                "on" if counted else "off",
                "a container with linux.resources.memory.swap is refused",
                "boot with swapaccount=1",
            )


def _filesystems() -> Iterator[Check]:
    known = host_facts.filesystems()
    absent = [name for name in _FILESYSTEMS if name not in known and not host_facts.is_module(name)]
    worst = "error" if any(_FILESYSTEMS[name] == "error" for name in absent) else "warning"
    yield Check(
        "filesystems",
        worst if absent else "ok",
        f"the kernel has no {' '.join(absent)}" if absent else " ".join(_FILESYSTEMS),
        "containers that mount these cannot be made",
        "modprobe " + " ".join(absent) if absent else "",
    )


def _root_directory() -> Iterator[Check]:
    own = [one for one in mountinfo.of("self") if one.place == "/"]
    kind = own[-1].fstype if own else ""
    problem = "a chroot, and no mount point" if not own else "a ramfs" if kind in ("rootfs", "ramfs") else ""
    yield Check(
        "root directory",
        "ok" if not problem else "error" if not own else "warning",
        problem or f"on {kind}",
        "mounts of the container cannot be kept apart" if not own else "pivot_root(2) is refused",
        "mount --bind DIR DIR before chroot DIR" if not own else "create with --no-pivot",
    )


def _nodes() -> Check:
    absent = [name for name in _NODES if not host_facts.exists(f"/dev/{name}")]
    return Check(
        "devices",
        "warning" if absent else "ok",
        f"no /dev/{', /dev/'.join(absent)}" if absent else f"/dev/{', '.join(_NODES)}",
        "a container with a user namespace gets its devices from here, and lacks these",
        "mount a full /dev (devtmpfs), or make the nodes with mknod",
    )


def _seccomp() -> Check:
    actions = host_facts.text("/proc/sys/kernel/seccomp/actions_avail")
    try:
        from pyruntime.kernel import libseccomp

        library = libseccomp.library()
    except (ImportError, OSError) as error:
        library = ""
        reason = str(error)
    if not library:
        return Check(
            "seccomp",
            "warning",
            f"libseccomp cannot be loaded: {reason}",
            "containers with linux.seccomp (all of docker's) are refused",
            "install libseccomp2",
        )
    return Check(
        "seccomp",
        "ok" if actions else "warning",
        f"{library}; {actions or 'the kernel has none'}",
        "containers with linux.seccomp are refused",
        "use a kernel with CONFIG_SECCOMP_FILTER",
    )


def _security_modules() -> Check:
    modules = host_facts.security_modules()
    fences = [one for one in modules if one in ("apparmor", "selinux")]
    return Check(
        "security modules",
        "ok" if fences else "warning",
        " ".join(modules) or "none enabled",
        "neither AppArmor nor SELinux confines containers: profiles and labels are left out with a warning",
        "boot with lsm=…,apparmor or SELinux, where the distribution has it",
    )


def _state(root: str, no_root: str) -> Check:
    if no_root:
        return Check(
            "state",
            "error",
            no_root,
            "no container's state can be kept",
            "set XDG_RUNTIME_DIR (pam_systemd(8) does so at login), or give a directory with --root",
        )
    place = root
    while not host_facts.exists(place):
        place = place.rpartition("/")[0] or "/"
    writable = posix.access(place, posix.W_OK | posix.X_OK)
    return Check(
        "state",
        "ok" if writable else "error",
        root if writable else f"{place} is not writable for this user",
        "no container's state can be kept",
        "give another directory with --root, or set XDG_RUNTIME_DIR",
    )


def _snapshot() -> Check:
    """Return the one of this very process: another command may be the first after an update of the interpreter."""
    if snapshot.started_from:
        return Check("snapshot", "ok", "commands start from a snapshot of the interpreter")
    if host_facts.exists(snapshot.TURNED_OFF) or posix.environ.get(b"PYRUNTIME_SNAPSHOT") == b"0":
        return Check("snapshot", "ok", "commands start the interpreter: the snapshot is turned off")
    return Check(
        "snapshot",
        "ok" if posix.uname().machine != "x86_64" else "warning",
        "commands start the interpreter",
        "everything works, but each command takes some milliseconds longer",
        "run pyruntime snapshot make, as root with --shared for all users; pyruntime snapshot status says why",
    )


def _criu(rootless: bool) -> Check:
    program = host_facts.program("criu")
    failure = host_facts.failure_of(program, "check") if program and not rootless else ""
    return Check(
        "criu",
        "ok" if program and not failure else "warning",
        f"{program}: criu check fails: {failure}" if failure else program or "is not installed",
        "checkpoint and restore do not work",
        "install a newer criu, or a kernel that this one supports" if failure else "install criu, if you need them",
    )


def _others(rootless: bool) -> Iterator[Check]:
    """Check systemd, which only --systemd-cgroup needs; never an error."""
    systemd = host_facts.exists("/run/systemd/system")
    yield Check(
        "systemd",
        "ok" if systemd else "warning",
        "is running" if systemd else "is not running",
        "--systemd-cgroup is refused",
        "leave --systemd-cgroup out (docker: native.cgroupdriver=cgroupfs)",
    )
    yield _criu(rootless)


def can_run(checks: list[Check]) -> bool:
    """Return whether no check has found an error."""
    return all(one.status != "error" for one in checks)
