"""Why an init that was created did not become the user's process."""

from __future__ import annotations

from pyruntime.errors import PyruntimeError, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.state.store import Record


def cause(record: Record, error: PyruntimeError) -> PyruntimeError:
    """Return the error for an init that did not become the user's process: that given, with what the config has to
    do with it, or an OOM kill."""
    from pyruntime.cgroupfs import oom
    from pyruntime.features.security import seccomp_blame

    killed = oom.init_killed(record.cgroups)
    if killed is not None and isinstance(error, StateError):  # any other is reported by init itself
        return killed
    seccomp_blame.explain_of(record, error)
    return error
