"""/process/capabilities: the five sets (capabilities(7)).

What is asked for is cut to what this process has: a runtime without CAP_SYS_RESOURCE (in a container, in
some CI) still starts a container that asks for everything, and says what is missing. Nothing is ever made
inheritable for a process that joins a container (CVE-2022-29162).
"""

from __future__ import annotations

from pyruntime import version
from pyruntime.errors import ConfigError
from pyruntime.kernel import process
from pyruntime.kernel.constants import PR_CAPBSET_DROP, PR_CAPBSET_READ, PR_SET_KEEPCAPS
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request

# In the kernel's order: the index is the number (linux/capability.h).
NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
).split()
NUMBERS = {f"CAP_{name}": number for number, name in enumerate(NAMES)}
SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")


def plan(request: Request) -> Iterator[Step]:
    """BECOME: the bounding set before the user changes, the others after (`plan_apply`)."""
    _refuse_unknown(request)
    masks = _masks(request)
    yield Step(
        "/process/capabilities/bounding" if masks["bounding"] else "/process/capabilities",
        limit,
        mask=masks["bounding"],
    )


def plan_apply(request: Request) -> Iterator[Step]:
    """BECOME: after the user has changed."""
    masks = _masks(request)
    yield Step(
        "/process/capabilities",
        apply,
        effective=masks["effective"],
        permitted=masks["permitted"],
        inheritable=masks["inheritable"],
        ambient=masks["ambient"],
    )


def _masks(request: Request) -> dict[str, int]:
    asked = request.process.get("capabilities") or {}
    masks = {}
    for kind in SETS:
        masks[kind] = 0
        for name in asked.get(kind) or ():
            if name in NUMBERS:
                masks[kind] |= 1 << NUMBERS[name]
    return masks


def _refuse_unknown(request: Request) -> None:
    """An unknown capability is a warning (spec/rules.py); up to version 1.0 of the specification it is an error."""
    if version.of_spec(request.config["ociVersion"]) >= (1, 1):
        return
    asked = request.process.get("capabilities") or {}
    for kind in SETS:
        for name in asked.get(kind) or ():
            if name not in NUMBERS:
                raise ConfigError(
                    f"unknown capability {name}",
                    pointer=f"/process/capabilities/{kind}",
                    hint="correct the name, or set ociVersion to 1.1.0 or later, where it is a warning",
                )


def names(mask: int) -> str:
    """Return the capabilities of a bit mask by name."""
    return " ".join(name for name, number in NUMBERS.items() if mask >> number & 1)


def limit(init: InitActor, mask: int) -> None:
    """cut the bounding set to the wanted capabilities"""
    missing = 0
    for number in range(len(NAMES)):
        if not mask >> number & 1:
            process.prctl(PR_CAPBSET_DROP, number)
        elif not process.prctl(PR_CAPBSET_READ, number):
            missing |= 1 << number
    # A newer kernel may have capabilities that we know no name for.
    last = len(NAMES)
    while last < 64 and _drop_unknown(last):
        last += 1
    if missing:
        init.warn(f"this machine has not all capabilities that were asked for, left out: {names(missing)}")
    # Else setuid(2) to an ordinary user would clear the permitted set before `apply`.
    process.prctl(PR_SET_KEEPCAPS, 1)


def _drop_unknown(number: int) -> bool:
    try:
        process.prctl(PR_CAPBSET_DROP, number)
    except (OSError, ValueError):
        return False
    return True


def apply(init: InitActor, effective: int, permitted: int, inheritable: int, ambient: int) -> None:
    """set the capabilities"""
    process.prctl(PR_SET_KEEPCAPS, 0)
    _, have, _ = process.get_capabilities()
    permitted &= have
    inheritable &= have
    effective &= permitted
    keep = 0
    if init.spawn is not None and init.spawn.keep:
        keep = init.spawn.keep & have
        init.spawn.capabilities = (effective, permitted, inheritable)
    process.set_capabilities(effective | keep, permitted | keep, inheritable)
    process.set_ambient(ambient & permitted & inheritable)
