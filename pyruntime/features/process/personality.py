"""linux.personality: the execution domain, as `uname -m` shows it (personality(2))."""

from __future__ import annotations

from pyruntime.kernel import process
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request

# runtime-spec config-linux.md, "Personality": these two, and no flags are defined yet.
DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}


def plan(request: Request) -> Iterator[Step]:
    """ENTER: among the last steps before `procReady`; a personality survives execve."""
    personality = request.linux.get("personality")
    if personality:
        yield Step("/linux/personality", set_domain, domain=personality["domain"])


def set_domain(init: InitActor, domain: str) -> None:
    """set the personality {domain}"""
    process.set_personality(DOMAINS[domain])
