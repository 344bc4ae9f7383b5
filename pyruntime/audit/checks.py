"""Tables of the checks of an audit: each step of the plan is in one of three, or reported as unchecked.

CHECKS: the step has a visible effect, which is compared with its arguments.
UNSEEN: the step has an effect that the kernel does not show, with the reason.
MEANS:  the step has no effect of its own on the running container.
"""

from __future__ import annotations

from pyruntime.audit import devices, limits, mounts, namespaces, process, sysctls
from pyruntime.audit.comparison import CANNOT_SEE, Comparison, cannot_see
from pyruntime.errors import PyruntimeError
from pyruntime.features import registry
from pyruntime.features.cgroups import place
from pyruntime.plan.step import PHASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.audit.view import View
    from pyruntime.plan.request import Request
    from pyruntime.plan.step import Step

CHECKS: dict[str, Callable[..., Iterator[Comparison]]] = {
    "id_maps.require_map": namespaces.written_map,
    "id_maps.write_map": namespaces.written_map,
    "netdevices.move": namespaces.joined_devices,
    "root.prepare": namespaces.rootfs,
    "root.make_readonly": namespaces.root_readonly,
    "root.set_propagation": mounts.propagation,
    "mounts.mount_filesystem": mounts.filesystem,
    "mounts.bind": mounts.bind,
    "mounts.make_readonly": mounts.made_readonly,
    "by_string.remount": mounts.remount,
    "cgroup_mounts.mount_hierarchies": mounts.cgroups_v1,
    "cgroup_mounts.mount_unified": mounts.cgroups_v2,
    "masks.mask": mounts.masked,
    "masks.make_readonly": mounts.readonly,
    "console.make": mounts.terminal,
    "devices.make": devices.node,
    "devices.make_link": devices.link,
    "devices.set_v1": devices.rules_v1,
    "devices.set_v2": devices.rules_v2,
    "sysctl.write": sysctls.sysctl,
    "hostname.set_hostname": sysctls.hostname,
    "hostname.set_domainname": sysctls.domainname,
    "user.set_uid": process.uid,
    "user.set_gid": process.gid,
    "user.set_groups": process.groups,
    "user.set_umask": process.umask,
    "user.set_no_new_privileges": process.no_new_privileges,
    "capabilities.limit": process.bounding,
    "capabilities.apply": process.capabilities,
    "seccomp.load": process.seccomp,
    "apparmor.set_profile": process.apparmor,
    "selinux.set_label": process.selinux,
    "rlimits.set_limit": process.rlimit,
    "oom_score_adj.set_score": process.oom_score,
    "personality.set_domain": process.personality,
    "scheduler.set_policy": process.scheduler,
}

UNSEEN = {
    "hooks.run": "a hook leaves nothing that the kernel knows",
    "program.execute": "a process may write its own arguments, and may have become another program since",
    "program.set_environment": "the environment is memory of the process, which it may change",
    "program.set_home": "the environment is memory of the process, which it may change",
    "landlock.restrict": "the kernel does not show the Landlock rules of a process",
    "ioprio.set_priority": "the I/O priority is not looked at",
    "mempolicy.set_policy": "the kernel shows it for each piece of memory only",
    "selinux.check_mount_label": "labels of mounts are not looked at",
    "resctrl.enter": "groups of resctrl are not looked at",
    "resctrl.monitor": "groups of resctrl are not looked at",
    "memory.require_room": "it was looked at once, before the limit was set",
}

MEANS = frozenset(
    """
    affinity.reset devices.link_ptmx directories.create keyring.join namespaces.join
    namespaces.make_cgroup_namespace loopback.raise_loopback notify_socket.make_directory null_device.reopen
    place.join
    program.change_directory program.change_directory_as_user program.find program.keep_descriptors program.make_cwd
    program.reset_signals
    rlimits.leave_limit root.change_root no_pivot.move_root root.pivot seccomp.prepare user.give_stdio user.own_stdio
    systemd.note systemd.set_properties systemd.start
    """.split()
)


def audit(view: View, request: Request) -> list[Comparison]:
    """Return all comparisons, in the order of the plan. Raises PyruntimeError if init exits during the audit."""
    directories = _directories(request)
    comparisons = [*namespaces.audit(view, request), *limits.place(view, request, directories)]
    checks = CHECKS | limits.Limits(view, request, directories).checks()
    plan = registry.build(request)
    for step in (step for phase in PHASES for step in plan.steps[phase]):
        comparisons += _look(view, step, checks)
    comparisons += mounts.unasked(view, request)
    # Values read while init was exiting are invalid.
    view.require_life()
    return _without_repeated(comparisons)


def _look(view: View, step: Step, checks: dict[str, Callable[..., Iterator[Comparison]]]) -> list[Comparison]:
    check = checks.get(step.name)
    if check is not None:
        try:
            return list(check(view, step.pointer, **step.args))
        except ProcessLookupError:
            view.require_life()
            raise
        except OSError as error:
            return [cannot_see(step.pointer, step.describe(), f"{error.strerror}")]
    if step.name in MEANS:
        return []
    return [cannot_see(step.pointer, step.describe(), UNSEEN.get(step.name, "nothing looks at this"))]


def _directories(request: Request) -> dict[str, str]:
    """Return hierarchy -> requested cgroup; empty if config.json has no cgroupsPath."""
    path: str = request.linux.get("cgroupsPath") or ""
    if not path.startswith("/") and not request.systemd_cgroup:
        return {}
    try:
        return place.directories_of(request)
    except PyruntimeError:
        return {}


def _without_repeated(comparisons: list[Comparison]) -> list[Comparison]:
    """Keep one `cannot see` comparison per field and kind: there may be many hooks and arguments."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for comparison in comparisons:
        key = (comparison.pointer, comparison.what)
        if comparison.verdict == CANNOT_SEE and key in seen:
            continue
        seen.add(key)
        kept.append(comparison)
    return kept
