"""The features of one more process in a container, in order: what build.py is for the first one.

Most planners are those of the first process and read the new one from `request.process`. The order is that of
libcontainer's init for a process that joins (docs/handshake.md, "exec").
"""

from __future__ import annotations

from pyruntime.cgroupfs.layout import Layout
from pyruntime.features.cgroups import enter
from pyruntime.features.namespaces import target
from pyruntime.features.process import affinity, capabilities, keyring, null_device, program, rlimits, user
from pyruntime.features.rare import rare
from pyruntime.plan.request import Request
from pyruntime.plan.step import BECOME, ENTER, EXECUTE, PHASES, PREPARE, READY, SETUP, SPAWNED, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyruntime.features.namespaces.target import Target
    from pyruntime.spec.sections import Config
    from pyruntime.util.ids import ContainerId

_oom = rare("/process/oomScoreAdj", "process.oom_score_adj")


def _plan_oom(request: ExecRequest) -> Iterable[Step]:
    """SETUP, unless the child does it (runtime/exec.py)."""
    return () if request.oom_by_child() else _oom(request)


FEATURES: tuple[tuple[str, Callable[[ExecRequest], Iterable[Step]]], ...] = (
    (PREPARE, rare("/linux/seccomp", "security.seccomp")),
    (PREPARE, affinity.plan_initial),
    (PREPARE, enter.plan_open),
    (SETUP, _plan_oom),
    (SETUP, rare("/linux/intelRdt", "rdt.resctrl", "plan_exec")),
    (ENTER, enter.plan),
    (ENTER, target.plan),
    (ENTER, null_device.plan),
    (ENTER, keyring.plan),
    (ENTER, rare("/process/terminal", "rootfs.console", "plan_exec")),
    (ENTER, user.plan_umask),
    (ENTER, user.plan_no_new_privileges),
    (ENTER, rare("/linux/personality", "process.personality")),
    (ENTER, rare("/linux/memoryPolicy", "process.mempolicy")),
    (ENTER, rare("/process/apparmorProfile", "security.apparmor")),
    (ENTER, rare("/process/selinuxLabel", "security.selinux")),
    (READY, affinity.plan_final),
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
    (EXECUTE, program.plan_execute),
)


class ExecRequest(Request):
    """What an exec is planned from: the container's config with the new process in place of the first.

    target:     the container's init (features/namespaces/target.py).
    cgroups:    hierarchy -> absolute directory that the process goes into.
    sub_cgroup: it is not the container's own, but one that was asked for.
    """

    __slots__ = ("cgroups", "sub_cgroup", "target")

    def __init__(
        self,
        config: Config,
        *,
        id: ContainerId,
        bundle: str,
        target: Target,
        cgroups: dict[str, str],
        sub_cgroup: bool = False,
        rootless: bool = False,
        new_keyring: bool = True,
        preserve_fds: int = 0,
        console_socket: str | None = None,
        detach: bool = True,
    ) -> None:
        super().__init__(
            config,
            id=id,
            bundle=bundle,
            layout=Layout(()),  # the container's cgroups are known, the host need not be looked at
            rootless=rootless,
            new_keyring=new_keyring,
            preserve_fds=preserve_fds,
            console_socket=console_socket,
            detach=detach,
        )
        self.target = target
        self.cgroups = cgroups
        self.sub_cgroup = sub_cgroup

    def oom_by_child(self) -> bool:
        """Return whether the child sets its oom_score_adj: an ordinary user may not write that of a process not
        dumpable."""
        return self.rootless and "user" in self.target.kinds

    def spawns(self) -> bool:
        """Return whether the program is executed by a clone of the process that does the steps: always."""
        return True


class ExecPlan:
    """Return the steps of each phase in order."""

    __slots__ = ("request", "steps")

    def __init__(self, request: ExecRequest) -> None:
        self.request = request
        self.steps: dict[str, list[Step]] = {phase: [] for phase in PHASES}
        for phase, planner in FEATURES:
            self.steps[phase].extend(planner(request))
