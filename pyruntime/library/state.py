"""The class State."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class State:
    """The state of a container (runtime-spec runtime.md, "State").

    status: "creating", "created", "running", "paused" or "stopped". pid: init's on the host, 0 when stopped.
    created: RFC 3339 time, "" while it is being created."""

    id: str
    status: str
    pid: int
    bundle: str
    rootfs: str
    oci_version: str
    created: str
    annotations: dict[str, str] = field(default_factory=dict)
