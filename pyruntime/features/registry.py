"""The features in order: the one place that says when each is done.

To add a field of config.json: write a module with a planner and its steps, and a line here. Within a phase
the order is that of the lines; docs/architecture.md says why for each that is not free.
What few containers ask for is `rare`: its module is imported only for a config that has the field.
"""

from __future__ import annotations

from pyruntime.features.cgroups import limits, place
from pyruntime.features.namespaces import hostname, namespaces
from pyruntime.features.network import loopback
from pyruntime.features.process import affinity, capabilities, keyring, null_device, program, rlimits, user
from pyruntime.features.rare import notify, rare
from pyruntime.features.rootfs import devices, masks, mounts, root
from pyruntime.plan.step import (
    BECOME,
    BUILD,
    ENTER,
    EXECUTE,
    HOOKS,
    PHASES,
    PREPARE,
    READY,
    SETUP,
    SPAWNED,
    Step,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyruntime.plan.request import Request


FEATURES: tuple[tuple[str, Callable[[Request], Iterable[Step]]], ...] = (
    (PREPARE, place.plan_create),
    (PREPARE, rare("/linux/seccomp", "security.seccomp")),
    (PREPARE, notify),
    (SETUP, place.plan_start),
    (SETUP, affinity.plan_reset),
    (SETUP, rare("/linux/intelRdt", "rdt.resctrl")),
    (SETUP, rare("/linux/netDevices", "network.netdevices")),
    (SETUP, namespaces.plan_maps),
    (SETUP, rare("/process/oomScoreAdj", "process.oom_score_adj")),
    (BUILD, place.plan_join),
    (BUILD, namespaces.plan),
    (BUILD, keyring.plan),
    (BUILD, loopback.plan),
    (BUILD, root.plan_prepare),
    (BUILD, rare("/linux/mountLabel", "security.selinux", "plan_mount_label")),
    (BUILD, mounts.plan),
    (BUILD, devices.plan),
    (HOOKS, limits.plan),
    (HOOKS, rare("/hooks", "hooks", "plan_runtime")),
    (ENTER, rare("/hooks", "hooks", "plan_create_container")),
    (ENTER, program.plan_cwd),
    (ENTER, rare("/process/terminal", "rootfs.console")),
    (ENTER, rare("/linux/sysctl", "sysctl")),
    (ENTER, hostname.plan),
    (ENTER, mounts.plan_readonly),
    (ENTER, masks.plan),
    (ENTER, null_device.plan),
    (ENTER, root.plan_enter),
    (ENTER, root.plan_propagation),
    (ENTER, root.plan_readonly),
    (ENTER, user.plan_umask),
    (ENTER, user.plan_no_new_privileges),
    (ENTER, rare("/linux/personality", "process.personality")),
    (ENTER, rare("/linux/memoryPolicy", "process.mempolicy")),
    (ENTER, rare("/process/apparmorProfile", "security.apparmor")),
    (ENTER, rare("/process/selinuxLabel", "security.selinux")),
    (READY, rare("/process/scheduler", "process.scheduler")),
    (READY, rare("/process/ioPriority", "process.ioprio")),
    (READY, user.plan_stdio),
    (READY, rlimits.plan),
    (BECOME, rlimits.plan_spawned),
    (BECOME, program.plan_descriptors),
    (BECOME, program.plan_signals),
    (BECOME, program.plan_environment),
    (BECOME, program.plan_chdir),
    (BECOME, rare("/linux/seccomp", "security.seccomp", "plan_privileged")),
    (BECOME, capabilities.plan),
    (BECOME, user.plan),
    (BECOME, program.plan_chdir_as_user),
    (BECOME, capabilities.plan_apply),
    (BECOME, program.plan_home),
    (BECOME, program.plan_find),
    (BECOME, rare("/annotations/org.pyruntime.landlock", "security.landlock")),
    (BECOME, rare("/linux/seccomp", "security.seccomp", "plan_unprivileged")),
    (SPAWNED, rare("/process/scheduler", "process.scheduler", "plan_spawned")),
    (EXECUTE, rare("/hooks", "hooks", "plan_start_container")),
    (EXECUTE, program.plan_execute),
)


class Plan:
    """Return the steps of each phase in order."""

    __slots__ = ("namespaces", "request", "steps")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.namespaces = namespaces.arrange(request)
        self.steps: dict[str, list[Step]] = {phase: [] for phase in PHASES}
        for phase, planner in FEATURES:
            self.steps[phase].extend(planner(request))
        if any(name.startswith("run.oci.") for name in request.config.get("annotations") or ()):
            from pyruntime.features import crun_annotations

            crun_annotations.warn(request)


def build(request: Request) -> Plan:
    """Plan a container from a checked config. Raises ConfigError for what cannot be done."""
    return Plan(request)
