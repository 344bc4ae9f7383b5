"""The rules of config.json that look at several members at once.

What a single value may be is in oci-spec/config.schema.json. The rules see a config whose values have the
right types, but required members may be missing and words may be unknown: that has been reported already.
"""

from __future__ import annotations

from pyruntime.util import ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from pyruntime.spec.sections import (
        Config,
        Hook,
        Linux,
        Mount,
        Namespace,
        NetDevice,
        Process,
        Resources,
        Seccomp,
        TimeOffset,
    )

    class Report(Protocol):
        """Called with the keys that lead to the place, and the problem."""

        def __call__(
            self,
            *keys: str | int,
            message: str,
            why: str | None = None,
            hint: str | None = None,
            warning: bool = False,
        ) -> None: ...


HOOK_KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
CAPABILITY_SETS = frozenset(("bounding", "effective", "inheritable", "permitted", "ambient"))

# capabilities(7), in the order of their numbers.
KNOWN_CAPABILITIES = frozenset(
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
        "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
        "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
        "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
        "PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)

# Kernel parameters of the ipc namespace; those of fs.mqueue belong to it as well (ipc_namespaces(7)).
IPC_SYSCTLS = (
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
)

BAD_VARIABLE = "is not NAME=value"

OTHER_PLATFORMS = {
    "windows": "Windows",
    "solaris": "Solaris",
    "freebsd": "FreeBSD",
    "zos": "z/OS",
    "vm": "virtual machines",
}

ERRNO_ACTIONS = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")

UTS_LENGTH = 64  # __NEW_UTS_LEN (sethostname(2))
NGROUPS_MAX = 65536  # setgroups(2)
MAX_EXTENTS = 340  # UID_GID_MAP_MAX_EXTENTS in linux/user_namespace.h
ID_LIMIT = 2**32 - 1  # no range of ids goes beyond 4294967294: 4294967295 is -1, "no id" (credentials(7))


def check_config(config: Config, report: Report) -> None:
    """Report what does not go together in a whole config.json."""
    for section, platform in OTHER_PLATFORMS.items():
        if section in config:
            report(
                section,
                message=f"is for {platform}, not for this platform (Linux), and has no effect",
                warning=True,
            )
    if "" in config.get("annotations", ()):
        report("annotations", "", message="has an empty name", why="an annotation needs a name")
    linux = config.get("linux", {})
    namespaces = _namespaces(linux.get("namespaces", ()), report)
    for name, value in (("hostname", config.get("hostname", "")), ("domainname", config.get("domainname", ""))):
        if value and "uts" not in namespaces:
            report(
                name,
                message="would change the host's",
                why="the container has no uts namespace of its own",
                hint='add {"type": "uts"} to /linux/namespaces',
            )
        length = len(value.encode("utf-8", "replace"))  # half a pair was reported
        if length > UTS_LENGTH:
            report(name, message=f"is {length} bytes long, the kernel allows at most {UTS_LENGTH}", hint="shorten it")
    _mounts(config.get("mounts", ()), namespaces, report)
    for kind, hooks in config.get("hooks", {}).items():
        if kind in HOOK_KINDS:  # what an unknown one holds was not checked
            _hooks(kind, hooks, report)
    if "process" in config:
        check_process(config["process"], report, ("process",))
    if linux:
        _linux(linux, namespaces, report)


def check_process(process: Process, report: Report, above: tuple[str, ...] = ()) -> None:
    """Report what does not go together in a process object that is found below the keys `above`."""
    for index, entry in enumerate(process.get("env", ())):
        if entry.find("=") <= 0:
            report(*above, "env", index, message=BAD_VARIABLE, hint="write it as NAME=value")
    user = process.get("user", {})
    if user.get("umask", 0) > 0o777:
        report(
            *above,
            "user",
            "umask",
            message=f"only the lower nine bits of {user['umask']} ({user['umask']:#o}) have an effect",
            hint="write the octal number 0022 as 18",
            warning=True,
        )
    groups = user.get("additionalGids", ())
    if len(groups) > NGROUPS_MAX and len(set(groups)) > NGROUPS_MAX:
        report(*above, "user", "additionalGids", message=too_many_groups(len(set(groups))))
    for name in ("initial", "final"):
        if name in process.get("execCPUAffinity", ()):
            _numbers(process["execCPUAffinity"][name], report, *above, "execCPUAffinity", name)
    for owner, keys, name in (
        (process, (), "commandLine"),
        (process.get("user", {}), ("user",), "username"),
    ):
        if name in owner:
            report(
                *above,
                *keys,
                name,
                message="is for Windows, not for this platform (Linux), and has no effect",
                warning=True,
            )
    size = process.get("consoleSize")
    if size and process.get("terminal"):
        for name, value in (("height", size.get("height", 0)), ("width", size.get("width", 0))):
            if value > 65535:
                report(*above, "consoleSize", name, message=f"must be at most 65535, is {value}")
    seen: dict[str, int] = {}
    for index, limit in enumerate(process.get("rlimits", ())):
        kind = limit.get("type", "")
        if kind in seen:
            report(*above, "rlimits", index, message=f"is a second limit for {kind}, after item {seen[kind]}")
        elif kind:
            seen[kind] = index
        if limit.get("soft", 0) > limit.get("hard", limit.get("soft", 0)):
            report(
                *above,
                "rlimits",
                index,
                message=f"the soft limit of {kind} ({limit['soft']}) is above the hard one ({limit['hard']})",
            )
    for kind, names in process.get("capabilities", {}).items():
        if kind in CAPABILITY_SETS and not KNOWN_CAPABILITIES.issuperset(names):
            for index, name in enumerate(names):
                if name not in KNOWN_CAPABILITIES:
                    report(
                        *above,
                        "capabilities",
                        kind,
                        index,
                        message=f"unknown capability {name}: it has no effect",
                        hint="capabilities(7) lists them; they are written CAP_NET_RAW",
                        warning=True,
                    )


def too_many_groups(count: int) -> str:
    """Return the message for more supplementary groups than a process can have."""
    return f"has {count} groups, the kernel takes at most {NGROUPS_MAX}"


def _hooks(kind: str, hooks: list[Hook], report: Report) -> None:
    for index, hook in enumerate(hooks):
        for number, entry in enumerate(hook.get("env", ())):
            equals = entry.find("=")
            if equals <= 0:
                report(
                    "hooks",
                    kind,
                    index,
                    "env",
                    number,
                    message=BAD_VARIABLE,
                    hint="write it as NAME=value",
                    warning=equals < 0,
                )


def _numbers(text: str, report: Report, *keys: str | int) -> None:
    """Report items that are not ranges in a list of CPUs or memory nodes."""
    if not text or text.strip("0123456789, -"):
        return  # reported by its shape
    for part in text.split(","):
        try:
            ranges.parse_range(part)
        except ValueError as error:
            report(*keys, message=str(error), hint="write the list as 0-3,7")


def check_resources(resources: Resources, report: Report, above: tuple[str, ...] = ()) -> None:
    """Report what does not go together in a resources object that is found below the keys `above`."""
    cpu = resources.get("cpu", {})
    if "burst" in cpu and 0 < cpu.get("quota", -1) < cpu["burst"]:
        report(*above, "cpu", "burst", message=f"is larger than the quota ({cpu['burst']} > {cpu['quota']})")
    for index, device in enumerate(resources.get("blockIO", {}).get("weightDevice", ())):
        if "weight" not in device and "leafWeight" not in device:
            report(*above, "blockIO", "weightDevice", index, message="needs weight or leafWeight")
    for name, limits in resources.get("rdma", {}).items():
        if "hcaHandles" not in limits and "hcaObjects" not in limits:
            report(*above, "rdma", name, message="needs hcaHandles or hcaObjects")


def _namespaces(entries: Iterable[Namespace], report: Report) -> dict[str, str]:
    """Return the types of namespaces that the container does not share with the host; the path to join by or ""."""
    types: dict[str, str] = {}
    for index, entry in enumerate(entries):
        kind = entry.get("type", "")
        if kind in types:
            report("linux", "namespaces", index, message=f"is a second {kind} namespace; there can be only one")
        elif kind:
            types[kind] = entry.get("path", "")
    return types


def _mounts(mounts: Iterable[Mount], namespaces: dict[str, str], report: Report) -> None:
    for index, mount in enumerate(mounts):
        destination = mount.get("destination", "/")
        if destination[:1] != "/":
            report(
                "mounts",
                index,
                "destination",
                message=f"is relative ({destination})",
                why="the specification wants an absolute path",
                hint=f"it is taken as /{destination}",
                warning=True,
            )
        for name, other in (("uidMappings", "gidMappings"), ("gidMappings", "uidMappings")):
            if mount.get(name) and not mount.get(other):
                report("mounts", index, name, message=f"needs {other} beside it")
        _mappings(mount, report, ("mounts", index))
        if not mount.get("uidMappings") and "user" not in namespaces:
            for number, option in enumerate(mount.get("options", ())):
                if option in ("idmap", "ridmap"):
                    report(
                        "mounts",
                        index,
                        "options",
                        number,
                        message=f"{option} has no mappings to use",
                        hint="give the mount uidMappings and gidMappings, or the container a user namespace",
                    )


def _mappings(owner: Mount | Linux, report: Report, above: tuple[str | int, ...]) -> None:
    """Report what the kernel refuses in a map of ids, with EINVAL for all of it (user_namespaces(7))."""
    for name, mappings in (("uidMappings", owner.get("uidMappings")), ("gidMappings", owner.get("gidMappings"))):
        if not mappings:
            continue
        for index, mapping in enumerate(mappings):
            size = mapping.get("size", 1)
            if size == 0:
                report(*above, name, index, "size", message="must be at least 1, is 0")
            for side, first in (("containerID", mapping.get("containerID", 0)), ("hostID", mapping.get("hostID", 0))):
                if first < ID_LIMIT < first + size:
                    report(
                        *above,
                        name,
                        index,
                        "size",
                        message=f"{side} {first} and size {size} go beyond the highest id, {ID_LIMIT - 1}",
                    )
        if len(mappings) > MAX_EXTENTS:
            report(
                *above,
                name,
                message=f"has {len(mappings)} ranges, the kernel takes at most {MAX_EXTENTS}",
                hint="join neighbouring ranges",
            )
        elif len(mappings) > 1:
            sizes = [mapping.get("size", 0) for mapping in mappings]
            inside = [mapping.get("containerID", 0) for mapping in mappings]
            outside = [mapping.get("hostID", 0) for mapping in mappings]
            _overlaps(inside, sizes, "containerID", report, above, name)
            _overlaps(outside, sizes, "hostID", report, above, name)


def _overlaps(
    starts: list[int], sizes: list[int], side: str, report: Report, above: tuple[str | int, ...], name: str
) -> None:
    before, end = -1, 0
    for index in sorted(range(len(starts)), key=starts.__getitem__):
        first, size = starts[index], sizes[index]
        if first < end and size:
            report(*above, name, index, message=f"its range of {side} overlaps that of item {before}")
        if first + size > end:
            before, end = index, first + size


def _linux(linux: Linux, namespaces: dict[str, str], report: Report) -> None:
    for name in ("uidMappings", "gidMappings"):
        if linux.get(name) and "user" not in namespaces:
            report(
                "linux",
                name,
                message="has nothing to apply to",
                why="the container has no user namespace of its own",
                hint='add {"type": "user"} to /linux/namespaces',
            )
    _mappings(linux, report, ("linux",))
    if "timeOffsets" in linux:
        _time_offsets(linux["timeOffsets"], namespaces, report)
    if "sysctl" in linux:
        for name in linux["sysctl"]:
            _sysctl(name, namespaces, report)
    for index, device in enumerate(linux.get("devices", ())):
        for number in ("major", "minor"):
            if number not in device and device.get("type") in ("b", "c", "u"):
                report("linux", "devices", index, number, message="is required for a device that is not a FIFO")
    if "nodes" in linux.get("memoryPolicy", ()):
        _numbers(linux["memoryPolicy"]["nodes"], report, "linux", "memoryPolicy", "nodes")
    if "netDevices" in linux:
        _net_devices(linux["netDevices"], namespaces, report)
    if "seccomp" in linux:
        _seccomp(linux["seccomp"], report)
    if "resources" in linux:
        check_resources(linux["resources"], report, ("linux", "resources"))
    if linux.get("personality", {}).get("flags"):
        report(
            "linux",
            "personality",
            "flags",
            message="has no effect",
            why="the specification defines no flag of personality",
            warning=True,
        )
    rdt = linux.get("intelRdt", {})
    for name in ("enableCMT", "enableMBM"):
        if rdt.get(name):
            report(
                "linux",
                "intelRdt",
                name,
                message="has no effect",
                why="version 1.3 of the specification took it away",
                hint="use enableMonitoring",
                warning=True,
            )
    directory = rdt.get("closID", "")
    if directory != "/" and ("/" in directory or directory in (".", "..")):
        report("linux", "intelRdt", "closID", message=f"must be the name of one directory, is {directory}")


def _time_offsets(offsets: dict[str, TimeOffset], namespaces: dict[str, str], report: Report) -> None:
    if offsets and namespaces.get("time", "/") != "":
        joined = "time" in namespaces
        report(
            "linux",
            "timeOffsets",
            message="has no new time namespace to apply to",
            why="the clocks of a namespace that is joined are set already" if joined else None,
            hint="take its path away" if joined else 'add {"type": "time"} to /linux/namespaces',
        )
    for clock, offset in offsets.items():
        if clock not in ("monotonic", "boottime"):
            report(
                "linux",
                "timeOffsets",
                clock,
                message="is not a clock of a time namespace",
                hint="there are monotonic and boottime",
            )
        if offset.get("nanosecs", 0) > 999_999_999:
            report("linux", "timeOffsets", clock, "nanosecs", message="must be less than a second (1000000000)")


def _sysctl(given: str, namespaces: dict[str, str], report: Report) -> None:
    """Report a kernel parameter that would change more than the container.

    When its first separator is a slash, dots and slashes have changed places, as in net/ipv4/conf/eth0.1/mtu
    (sysctl.d(5)).
    """
    name = given
    slash, dot = given.find("/"), given.find(".")
    if slash >= 0 and (dot < 0 or slash < dot):
        name = given.translate({46: "/", 47: "."})
    if name.startswith("net."):
        kind = "network"
    elif name in IPC_SYSCTLS or name.startswith("fs.mqueue."):
        kind = "ipc"
    elif name == "kernel.domainname":
        kind = "uts"
    elif name.startswith("user."):
        kind = "user"
    elif name == "kernel.hostname":
        report("linux", "sysctl", given, message="is set by another member", hint="use /hostname in its place")
        return
    else:
        report(
            "linux",
            "sysctl",
            given,
            message="would change the host",
            why="the kernel has one value for all containers",
            hint="set it on the host, with sysctl(8)",
        )
        return
    parts = name.replace("/", ".").split(".")
    if ".." in name.split("/") or "" in parts:
        report("linux", "sysctl", given, message="is not the name of a kernel parameter")
    elif kind not in namespaces:
        report(
            "linux",
            "sysctl",
            given,
            message="would change the host",
            why=f"it belongs to the {kind} namespace, and the container has none of its own",
            hint=f'add {{"type": "{kind}"}} to /linux/namespaces',
        )


def _net_devices(devices: dict[str, NetDevice], namespaces: dict[str, str], report: Report) -> None:
    if devices and "network" not in namespaces:
        report(
            "linux",
            "netDevices",
            message="has no network namespace to move devices to",
            hint='add {"type": "network"} to /linux/namespaces',
        )
    taken: dict[str, str] = {}
    for name, device in devices.items():
        inside = device.get("name") or name
        for text, keys in ((name, ()), (inside, ("name",))):
            if not _is_interface(text):
                report(
                    "linux",
                    "netDevices",
                    name,
                    *keys,
                    message=f"{text!r} is not a valid name of a network interface",
                    why="it has 1 to 15 characters, no slash, colon or space, and is not . or ..",
                )
                break
        if inside in taken:
            report("linux", "netDevices", name, message=f"would be called {inside} inside, as {taken[inside]}")
        taken[inside] = name


def _is_interface(name: str) -> bool:
    """Return whether the kernel takes `name` for an interface (dev_valid_name in net/core/dev.c; IFNAMSIZ is 16)."""
    return (
        0 < len(name.encode("utf-8", "replace")) < 16
        and name not in (".", "..")
        and "/" not in name
        and ":" not in name
        and not any(letter.isspace() for letter in name)
    )


def _seccomp(seccomp: Seccomp, report: Report) -> None:
    above = ("linux", "seccomp")
    default = seccomp.get("defaultAction", "")
    if "defaultErrnoRet" in seccomp and default not in ERRNO_ACTIONS:
        report(*above, "defaultErrnoRet", message=f"has no meaning with the action {default}")
    notify = default == "SCMP_ACT_NOTIFY"
    for index, rule in enumerate(seccomp.get("syscalls", ())):
        action = rule.get("action", "")
        if "errnoRet" in rule and action not in ERRNO_ACTIONS:
            report(*above, "syscalls", index, "errnoRet", message=f"has no meaning with the action {action}")
        notify = notify or action == "SCMP_ACT_NOTIFY"
    if notify and not seccomp.get("listenerPath"):
        report(*above, "listenerPath", message="is required for SCMP_ACT_NOTIFY")
    if seccomp.get("listenerMetadata") and not seccomp.get("listenerPath"):
        report(*above, "listenerMetadata", message="needs listenerPath beside it")
