"""process.selinuxLabel, the SELinux label that the next execve takes on, and linux.mountLabel, that of new mounts."""

from __future__ import annotations

from pyruntime.errors import StepError
from pyruntime.features.security import labels
from pyruntime.kernel.constants import EACCES, EINVAL
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request

_LABELLED_BY_POLICY = ("proc", "sysfs", "mqueue")


def plan(request: Request) -> Iterator[Step]:
    """ENTER: after the pivot, as long as init holds the host's /proc."""
    label = request.process.get("selinuxLabel")
    if label:
        yield Step("/process/selinuxLabel", set_label, label=label)


def plan_mount_label(request: Request) -> Iterator[Step]:
    """BUILD: before the mounts, which take the label by themselves."""
    label = request.linux.get("mountLabel")
    if label:
        yield Step("/linux/mountLabel", check_mount_label, label=label)


def check_mount_label(init: InitActor, label: str) -> None:
    """see whether mounts can get the SELinux label {label}"""
    if not labels.has_filesystem(init.proc_fd, "selinuxfs"):
        init.warn(f"SELinux is not enabled on this host: the label {label} is not given to mounts")


def mount_context(init: InitActor, type: str, label: str) -> list[str]:
    """Return the word that gives a new filesystem its label: none where the policy labels each file by itself."""
    if type in _LABELLED_BY_POLICY or not labels.has_filesystem(init.proc_fd, "selinuxfs"):
        return []
    return [f"context={label}"]


def set_label(init: InitActor, label: str) -> None:
    """take on the SELinux label {label} at execve"""
    # With another security module in place of SELinux the same file is that one's.
    if not labels.has_filesystem(init.proc_fd, "selinuxfs"):
        init.warn(f"SELinux is not enabled on this host: the label {label} is not applied")
        return
    try:
        labels.write(init.proc_fd, "exec", label)
    except OSError as error:
        if error.errno not in (EACCES, EINVAL):
            raise
        raise StepError(
            f"take on the SELinux label {label}: {error.strerror}",
            why="the policy has no such label, or does not allow this process to use it",
            hint="see the audit log: ausearch -m AVC,SELINUX_ERR",
        ) from error
