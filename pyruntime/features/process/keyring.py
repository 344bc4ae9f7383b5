"""A session keyring of the container's own, so that the host's keys are not the container's (keyrings(7))."""

from __future__ import annotations

from pyruntime.errors import KernelError
from pyruntime.kernel import process
from pyruntime.kernel.constants import ENOSYS
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request

# What a new session keyring has (possessor everything, user view, read, link), and search for the user: else
# a process that changes its user could not find the keys.
_PERMISSIONS = 0x3F1B0000


def plan(request: Request) -> Iterator[Step]:
    """BUILD: unless --no-new-keyring."""
    if request.new_keyring:
        yield Step("", join, name=f"_ses.{request.id}")


def join(init: InitActor, name: str) -> None:
    """join the session keyring {name}"""
    try:
        process.set_keyring_permissions(process.join_session_keyring(name), _PERMISSIONS)
    except KernelError as error:
        if error.errno != ENOSYS:  # a kernel without keys has none to hide
            raise
