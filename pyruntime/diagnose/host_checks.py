"""Check a config against the kernel and the administration of this host."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import processes
from pyruntime.diagnose import host_facts
from pyruntime.diagnose.finding import Finding, near, of_error
from pyruntime.errors import PyruntimeError, StateError
from pyruntime.features.cgroups import place
from pyruntime.features.namespaces.namespaces import KINDS
from pyruntime.features.process.capabilities import NUMBERS
from pyruntime.kernel.constants import CAP_SYS_RESOURCE
from pyruntime.util import ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.plan.request import Request
    from pyruntime.spec.sections import IdMapping

OLDEST_KERNEL = (5, 12)  # mount_setattr(2)
_LIMITS = {"network": "net", "mount": "mnt"}


def check(request: Request) -> Iterator[Finding]:
    """Return the findings of all checks of this module."""
    for one in CHECKS:
        yield from one(request)


def check_kernel(request: Request) -> Iterator[Finding]:
    """Check the kernel's version."""
    version = host_facts.kernel_version()
    if version < OLDEST_KERNEL:
        yield Finding(
            "error",
            "",
            f"Linux {version[0]}.{version[1]} is too old",
            why="mounts are made with mount_setattr(2), of Linux 5.12",
            hint="use a newer kernel",
            rule="kernel",
        )


def check_namespaces(request: Request) -> Iterator[Finding]:
    """Report unsupported kinds, limits of 0, and paths that are missing or of another kind."""
    for index, entry in enumerate(request.linux.get("namespaces") or ()):
        kind, path = entry["type"], entry.get("path") or ""
        pointer, name = f"/linux/namespaces/{index}", KINDS[kind][1]
        if host_facts.exists("/proc/self/ns") and not host_facts.exists(f"/proc/self/ns/{name}"):
            yield Finding(
                "error", pointer, f"this kernel has no {kind} namespaces", hint="leave it out", rule="namespace"
            )
        elif not path:
            sysctl = f"max_{_LIMITS.get(kind, kind)}_namespaces"
            if host_facts.text(f"/proc/sys/user/{sysctl}") == "0":
                hint = f"sysctl -w user.{sysctl}=10000"
                yield Finding("error", pointer, f"user.{sysctl} is 0 on this host", hint=hint, rule="namespace")
        elif not host_facts.exists(path):
            why = "the process that it belonged to may be gone" if path.startswith("/proc/") else ""
            yield Finding("error", f"{pointer}/path", f"{path} is missing", why=why, rule="namespace")
        else:
            yield from _check_kind(pointer, kind, path)


def _check_kind(pointer: str, kind: str, path: str) -> Iterator[Finding]:
    try:
        found = posix.readlink(path).partition(":[")[0]
    except OSError:
        return  # a bind of it, or not for this user's eyes: known when it is joined
    wanted = KINDS[kind][1]
    if found in {name for _, name in KINDS.values()} and found != wanted:
        message = f"{path} is a {found} namespace, not a {kind} namespace"
        yield Finding("error", f"{pointer}/path", message, hint=f"give .../ns/{wanted}", rule="namespace")


def check_user_namespace(request: Request) -> Iterator[Finding]:
    """Check whether a user namespace can be created here with these mappings."""
    if not request.has_new("user"):
        if request.rootless and posix.geteuid() != 0 and not request.namespace("user")[0]:
            yield Finding(
                "warning",
                "/linux/namespaces",
                "without a user namespace only root can run this",
                hint='add {"type": "user"} with mappings, or run it as root (see: pyruntime spec --rootless)',
                rule="rootless",
            )
        return
    if posix.geteuid() != 0:
        for name, value in (("unprivileged_userns_clone", "0"), ("apparmor_restrict_unprivileged_userns", "1")):
            if host_facts.text(f"/proc/sys/kernel/{name}") == value:
                yield Finding(
                    "error",
                    "/linux/namespaces",
                    f"kernel.{name} is {value}: unprivileged user namespaces are disabled",
                    hint=f"sysctl -w kernel.{name}={1 - int(value)}, or run as root",
                    rule="rootless",
                )
    for field, own in (("uidMappings", posix.geteuid()), ("gidMappings", posix.getegid())):
        yield from _check_maps(request, field, own)


def _mappings(request: Request, field: str) -> list[IdMapping]:
    linux = request.linux
    return (linux.get("uidMappings") if field == "uidMappings" else linux.get("gidMappings")) or []


def _check_maps(request: Request, field: str, own: int) -> Iterator[Finding]:
    entries = _mappings(request, field)
    file = "/etc/subuid" if field == "uidMappings" else "/etc/subgid"
    if posix.geteuid() == 0 and not host_facts.initial_user_namespace():
        outer = host_facts.text("/proc/self/uid_map" if field == "uidMappings" else "/proc/self/gid_map")
        words = [int(word) for word in outer.split()]
        granted = [(words[at], words[at + 2]) for at in range(0, len(words), 3)]
        why, hint = f"this user namespace has only {outer!r}", "map ids that are in it"
    elif posix.geteuid() != 0:
        granted = host_facts.subordinate(file)
        why, hint = (
            f"{file} grants {granted or 'nothing'} to this user",
            f"usermod --add-sub{field[:3]}s FIRST-LAST USER",
        )
        single = len(entries) == 1 and entries[0]["hostID"] == own and entries[0]["size"] == 1
        if not single and not host_facts.program(f"new{field[:3]}map"):
            message = f"new{field[:3]}map is not installed"
            install = "install the package uidmap, or map only your own id"
            yield Finding("error", f"/linux/{field}", message, hint=install, rule="rootless")
        granted = [(own, 1), *granted]
    else:
        return
    for index, entry in enumerate(entries):
        first, size = entry["hostID"], entry["size"]
        if not any(begin <= first and first + size <= begin + count for begin, count in granted):
            message = f"ids {first} to {first + size - 1} are not granted to this user"
            yield Finding("error", f"/linux/{field}/{index}", message, why=why, hint=hint, rule="rootless")


def check_ids(request: Request) -> Iterator[Finding]:
    """Ids of the process that are not in the maps: setuid(2) would say EINVAL."""
    user = request.process.get("user") or {}
    groups = request.linux.get("gidMappings") or []
    asked = [
        ("uid", user.get("uid") or 0, "uidMappings", request.linux.get("uidMappings") or []),
        ("gid", user.get("gid") or 0, "gidMappings", groups),
    ]
    for index, gid in enumerate(user.get("additionalGids") or ()):
        asked.append((f"additionalGids/{index}", gid, "gidMappings", groups))
    for name, number, field, maps in asked:
        covered = any(one["containerID"] <= number < one["containerID"] + one["size"] for one in maps)
        if request.has_new("user") and maps and not covered:
            yield Finding(
                "error",
                f"/process/user/{name}",
                f"the container's user namespace has no id {number}",
                hint=f"extend linux.{field}, or choose an id that it covers",
                rule="user",
            )


def check_labels(request: Request) -> Iterator[Finding]:
    """Report security modules that are not enabled, and AppArmor profiles that are not loaded."""
    modules = host_facts.security_modules()
    profile = request.process.get("apparmorProfile")
    pointer = "/process/apparmorProfile"
    if profile and profile != "unconfined":
        if "apparmor" not in modules:
            message = f"AppArmor is not enabled: the profile {profile} is not applied"
            yield Finding("warning", pointer, message, hint="boot with lsm=…,apparmor, or leave it out", rule="lsm")
        else:
            lines = host_facts.text("/sys/kernel/security/apparmor/profiles").splitlines()
            loaded = [line.rpartition(" (")[0] for line in lines]
            if not loaded:
                yield Finding(
                    "note",
                    pointer,
                    "cannot read the list of loaded profiles: it takes root and securityfs",
                    rule="lsm",
                )
            elif profile not in loaded:
                hint = near(profile, loaded, "load it with apparmor_parser -r FILE")
                yield Finding("error", pointer, f"the profile {profile} is not loaded", hint=hint, rule="lsm")
    for pointer, label in (
        ("/process/selinuxLabel", request.process.get("selinuxLabel")),
        ("/linux/mountLabel", request.linux.get("mountLabel")),
    ):
        if label and "selinux" not in modules:
            message = f"SELinux is not enabled: the label {label} is not applied"
            yield Finding("warning", pointer, message, hint="leave it out, or enable SELinux", rule="lsm")


def check_rights(request: Request) -> Iterator[Finding]:
    """Report what requires capabilities that root lacks here. For root only: a user's depend on the mappings."""
    if posix.geteuid() != 0:
        return
    permitted, bounding = host_facts.capabilities()
    wanted = request.process.get("capabilities") or {}
    if not request.namespace("user")[0]:
        lacking = [
            name for name in wanted.get("bounding") or () if name in NUMBERS and not bounding >> NUMBERS[name] & 1
        ]
        if lacking:
            message = f"root lacks {' '.join(lacking)}: left out"
            yield Finding("warning", "/process/capabilities", message, rule="capability")
    if permitted >> CAP_SYS_RESOURCE & 1:
        return
    import resource

    for index, entry in enumerate(request.process.get("rlimits") or ()):
        number = getattr(resource, entry["type"], None)
        hard = resource.getrlimit(number)[1] if number is not None else resource.RLIM_INFINITY
        if hard != resource.RLIM_INFINITY and not 0 <= entry["hard"] <= hard:
            message = f"{entry['type']} of {entry['hard']} is above the hard limit of this runtime, {hard}"
            why = "raising it takes CAP_SYS_RESOURCE"
            yield Finding("error", f"/process/rlimits/{index}", message, why=why, hint="ask for less", rule="rlimit")
    score, own = request.process.get("oomScoreAdj"), host_facts.text("/proc/self/oom_score_adj")
    if score is not None and own and score < int(own):
        message = f"oom_score_adj is {own} here, and lowering it to {score} may take CAP_SYS_RESOURCE"
        why = "only the kernel knows whether it was that low before (oom_score_adj_min)"
        hint = f"ask for {own} or more"
        yield Finding("warning", "/process/oomScoreAdj", message, why=why, hint=hint, rule="oom")


def check_sysctl(request: Request) -> Iterator[Finding]:
    """Report unknown kernel parameters."""
    for name in request.linux.get("sysctl") or {}:
        path = name.replace(".", "/") if "/" not in name.partition(".")[0] else name
        if host_facts.exists(f"/proc/sys/{path}") or "/conf/" in path or "/neigh/" in path:
            continue  # those of one network interface are there once it is
        directory = path.rpartition("/")[0]
        pointer = "/linux/sysctl/" + name.replace("~", "~0").replace("/", "~1")
        hint = near(
            path.rpartition("/")[2], host_facts.names(f"/proc/sys/{directory}"), "load the module that it belongs to"
        )
        yield Finding("error", pointer, f"unknown kernel parameter {name}", hint=hint, rule="sysctl")


def check_cgroup(request: Request) -> Iterator[Finding]:
    """Check the container's place in the hierarchies, and what its limits speak of: CPUs, nodes, devices, page
    sizes."""
    resources = request.linux.get("resources") or {}
    if request.systemd_cgroup and not host_facts.exists("/run/systemd/system"):  # sd_booted(3)
        yield Finding("error", "", "systemd is not running", hint="leave --systemd-cgroup out", rule="cgroup")
    if request.layout.kind == "none":
        yield Finding("warning", "/linux/cgroupsPath", "no cgroup hierarchy is mounted", rule="cgroup")
    else:
        try:
            directories = list(place.directories_of(request).values())
        except PyruntimeError:
            directories = []  # the plan has said so
        yield from _check_place(request, directories)
    processor = resources.get("cpu") or {}
    for kind, field, words in (("cpu", "cpus", processor.get("cpus")), ("node", "mems", processor.get("mems"))):
        there = host_facts.online(kind)
        try:
            absent = sorted(set(ranges.parse(words or "")) - there) if there else []
        except ValueError:
            continue
        if absent:
            message = f"{words}: this host has no {'CPU' if kind == 'cpu' else 'memory node'} {absent[0]}"
            hint = f"it has {host_facts.text(f'/sys/devices/system/{kind}/online')}"
            yield Finding("error", f"/linux/resources/cpu/{field}", message, hint=hint, rule="cgroup")
    sizes = {
        name.removeprefix("hugepages-").removesuffix("kB") for name in host_facts.names("/sys/kernel/mm/hugepages")
    }
    for index, entry in enumerate(resources.get("hugepageLimits") or ()):
        size = entry["pageSize"]
        number = int("".join(letter for letter in size if letter.isdigit()) or 0)
        number *= {"K": 1, "M": 1 << 10, "G": 1 << 20}.get(size.strip("0123456789")[:1], 1)
        if str(number) not in sizes:
            message = f"this host has no huge pages of {size}"
            hint = f"it has those of {', '.join(sorted(sizes))} kB" if sizes else "leave it out"
            yield Finding("error", f"/linux/resources/hugepageLimits/{index}", message, hint=hint, rule="cgroup")
    for member, entries in (resources.get("blockIO") or {}).items():
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            device = f"{entry['major']}:{entry['minor']}"
            if not host_facts.exists(f"/sys/dev/block/{device}"):
                where = f"/linux/resources/blockIO/{member}/{index}"
                yield Finding(
                    "error", where, f"this host has no block device {device}", hint="see lsblk", rule="cgroup"
                )


def _check_place(request: Request, directories: list[str]) -> Iterator[Finding]:
    from pyruntime.features.cgroups.directories import require_unused

    for directory in directories:
        if not host_facts.exists(directory):
            continue
        try:
            require_unused(directory)
        except StateError as error:
            yield of_error(error, "cgroup", pointer="/linux/cgroupsPath")
            return
        except OSError:
            continue
    if request.layout.kind == "v2" and directories and not request.systemd_cgroup:
        above = directories[0].rpartition("/")[0]
        pids = processes.inside(above) if host_facts.exists(above) else []
        if pids and request.linux.get("resources") and host_facts.exists(f"{above}/cgroup.type"):
            yield Finding(
                "error",
                "/linux/cgroupsPath",
                f"{above} holds processes, so that no cgroup below it can have limits",
                why=processes.shown(pids),
                hint="move them into a cgroup below it, or give another linux.cgroupsPath",
                rule="cgroup",
            )


def check_seccomp(request: Request) -> Iterator[Finding]:
    """Check whether the filter can be compiled, what libseccomp leaves out of it, actions that the kernel has not."""
    section = request.linux.get("seccomp")
    if not section:
        return
    from pyruntime.features.security import seccomp_profile

    try:
        compiled = seccomp_profile.compile_profile(section)
    except PyruntimeError as error:
        yield of_error(error, "seccomp", pointer="/linux/seccomp")
        return
    for note in compiled.notes:
        yield Finding("note", "/linux/seccomp", note, rule="seccomp")
    if section.get("listenerPath") and not host_facts.exists(section["listenerPath"]):
        message = f"no listener at {section['listenerPath']}"
        hint = "start the seccomp agent first"
        yield Finding("error", "/linux/seccomp/listenerPath", message, hint=hint, rule="seccomp")


def check_devices(request: Request) -> Iterator[Finding]:
    """Network devices of the host, nodes that must be bound, resctrl."""
    there = host_facts.names("/sys/class/net")
    for name in request.linux.get("netDevices") or {}:
        if name not in there:
            hint = near(name, there, f"this host has {' '.join(there)}")
            message = f"this host has no network device {name}"
            yield Finding("error", f"/linux/netDevices/{name}", message, hint=hint, rule="device")
    if request.namespace("user")[0]:
        for index, device in enumerate(request.linux.get("devices") or ()):
            if device["type"] != "p" and not host_facts.exists(device["path"]):
                message = f"{device['path']} is missing on the host"
                why = "in a user namespace nodes are bound, since they cannot be made"
                yield Finding("error", f"/linux/devices/{index}", message, why=why, rule="device")
    if request.linux.get("intelRdt") and not host_facts.exists("/sys/fs/resctrl/schemata"):
        hint = "mount -t resctrl resctrl /sys/fs/resctrl, on a CPU that has it"
        yield Finding("error", "/linux/intelRdt", "resctrl is not mounted", hint=hint, rule="device")


CHECKS: tuple[Callable[[Request], Iterator[Finding]], ...] = (
    check_kernel,
    check_namespaces,
    check_user_namespace,
    check_ids,
    check_labels,
    check_rights,
    check_sysctl,
    check_cgroup,
    check_seccomp,
    check_devices,
)
