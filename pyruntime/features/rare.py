"""Planners of what few containers ask for: their modules are imported only for a config that has the field."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pyruntime.plan.request import Request
    from pyruntime.plan.step import Step


def rare(pointer: str, module: str, planner: str = "plan") -> Callable[[Request], Iterable[Step]]:
    """Return the planner of a module that is imported when config.json has something at `pointer`, and not before."""
    section, _, field = pointer[1:].partition("/")

    def plan(request: Request) -> Iterable[Step]:
        found: Any = request.config.get(section)
        if found is None or (field and found.get(field) is None):
            return ()
        name = f"pyruntime.features.{module}"
        __import__(name)
        steps: Iterable[Step] = getattr(sys.modules[name], planner)(request)
        return steps

    return plan


def notify(request: Request) -> Iterable[Step]:
    """Return the planner of features/notify_socket.py: the caller's environment asks for it, not config.json."""
    if not request.notify:
        return ()
    from pyruntime.features import notify_socket

    return notify_socket.plan(request)
