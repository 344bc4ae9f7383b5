"""NOTIFY_SOCKET (sd_notify(3)): the directory of the container's own socket, and its mount.

The caller's socket is never the container's. `start` and `run` listen in ROOT/ID/notify
(commands/readiness.py), which the container sees read-only as /run/notify.
"""

from __future__ import annotations

import posix

from pyruntime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import ParentActor
    from pyruntime.plan.request import Request

DIRECTORY = "notify"  # below ROOT/ID
NAME = "notify.sock"
_INSIDE = "/run/notify"


def show(request: Request, root: str) -> None:
    """Mount the directory into the container, and set NOTIFY_SOCKET for its process."""
    request.config["mounts"] = [
        *(request.config.get("mounts") or ()),
        {
            "destination": _INSIDE,
            "type": "bind",
            "source": f"{root}/{request.id}/{DIRECTORY}",
            "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
        },
    ]
    if request.process:
        request.process["env"] = [*(request.process.get("env") or ()), f"NOTIFY_SOCKET={_INSIDE}/{NAME}"]
    request.notify = True


def plan(request: Request) -> Iterator[Step]:
    """PREPARE: the directory is there before it is mounted."""
    if request.notify:
        yield Step("", make_directory)


def make_directory(parent: ParentActor) -> None:
    """make the directory of the notify socket"""
    posix.mkdir(parent.record.path(DIRECTORY), 0o755)
