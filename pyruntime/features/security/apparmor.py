"""process.apparmorProfile: the AppArmor profile that the next execve takes on (apparmor(7))."""

from __future__ import annotations

from pyruntime.errors import KernelError, StepError
from pyruntime.features.security import labels
from pyruntime.kernel.constants import EINVAL, ENOENT
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request


def plan(request: Request) -> Iterator[Step]:
    """ENTER: after the pivot, as long as init holds the host's /proc."""
    profile = request.process.get("apparmorProfile")
    if profile:
        yield Step("/process/apparmorProfile", set_profile, profile=profile)


def set_profile(init: InitActor, profile: str) -> None:
    """take on the AppArmor profile {profile} at execve"""
    try:
        labels.write(init.proc_fd, "apparmor/exec", f"exec {profile}")
        return
    except OSError as error:
        # No such file: no AppArmor in the kernel, or one before 5.8. EINVAL: built in, but not switched on.
        failure = error
    if failure.errno == ENOENT and not isinstance(failure, KernelError):
        raise StepError(
            f"take on the AppArmor profile {profile}: no such file or directory (ENOENT)",
            why="the profile is not loaded into the kernel",
            hint="load it with apparmor_parser -r FILE (aa-status lists those that are loaded)",
            errno="ENOENT",
        )
    if failure.errno not in (ENOENT, EINVAL):
        raise failure
    # runc refuses, crun continues. A profile is the choice of the host's administrator: where AppArmor is off
    # there is none to be had for anybody.
    init.warn(f"AppArmor is not enabled on this host: the profile {profile} is not applied")
