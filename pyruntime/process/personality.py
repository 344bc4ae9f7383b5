"""linux.personality: the execution domain, as `uname -m` shows it (personality(2))."""

from __future__ import annotations

from pyruntime.errors import ConfigError
from pyruntime.kernel import process
from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyruntime.plan.request import Request

# runtime-spec config-linux.md, "Personality": these two, and no flags are defined yet.
DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}


def plan(request: Request) -> Iterator[Step]:
    """ENTER: the last steps before `procReady`; a personality survives execve."""
    personality = request.linux.get("personality")
    if not personality:
        return
    domain = personality.get("domain", "LINUX")
    if domain not in DOMAINS:
        raise ConfigError(
            f"{domain} is not a personality",
            pointer="/linux/personality/domain",
            mend=f"use one of {', '.join(DOMAINS)}",
        )
    if personality.get("flags"):
        request.warn("/linux/personality/flags: none is defined by the specification; they are ignored")
    yield Step("/linux/personality", set_domain, domain=domain)


def set_domain(init: Any, domain: str) -> None:
    """set the personality {domain}"""
    process.set_personality(DOMAINS[domain])
