"""Publish events to containerd in order; an event is sent again until it is acknowledged, at most 5 times.

By containerd.services.events.ttrpc.v1.Events/Forward at the address TTRPC_ADDRESS.
"""

from __future__ import annotations

import time

from pyruntime.shim import wire
from pyruntime.shim.event_loop import Loop, Timer
from pyruntime.shim.ttrpc import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime.shim.wire import Message

_SERVICE = "containerd.services.events.ttrpc.v1.Events"
_SECONDS = 5.0
_TRIES = 5


def timestamp(nanoseconds: int) -> dict[str, int]:
    """Return a google.protobuf.Timestamp. nanoseconds: time after 1970."""
    return {"seconds": nanoseconds // 10**9, "nanos": nanoseconds % 10**9}


class Publisher:
    """The queue of events.

    idle: called whenever the queue becomes empty."""

    def __init__(self, loop: Loop, address: str, namespace: str, warn: Callable[[str], None]) -> None:
        self.loop = loop
        self.namespace = namespace
        self.warn = warn
        self.idle: Callable[[], None] | None = None
        self._client = Client(loop, address.removeprefix("unix://")) if address else None
        self._queue: list[tuple[str, bytes]] = []
        self._busy = False
        self._tries = 0
        self._timer: Timer | None = None

    def publish(self, topic: str, name: str, values: Message) -> None:
        """Queue an event. topic: such as "/tasks/exit"; name: of its message, such as "TaskExit"."""
        if self._client is None:
            return
        envelope = {
            "timestamp": timestamp(time.time_ns()),
            "namespace": self.namespace,
            "topic": topic,
            "event": wire.any_of(f"containerd.events.{name}", name, values),
        }
        self._queue.append((topic, wire.encode("ForwardRequest", {"envelope": envelope})))
        self._next()

    def empty(self) -> bool:
        """Return whether the queue is empty."""
        return not self._queue

    def _next(self) -> None:
        if self._busy or self._client is None:
            return
        if not self._queue:
            if self.idle is not None:
                self.idle()
            return
        self._busy = True
        self._timer = self.loop.later(_SECONDS, self._client.drop)
        metadata = {"containerd-namespace-ttrpc": self.namespace}
        self._client.call(_SERVICE, "Forward", self._queue[0][1], metadata, self._answered)

    def _answered(self, response: Message | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._tries += 1
        if response is None and self._tries < _TRIES:
            self.loop.later(0.1 * self._tries**2, self._again)  # containerd may be restarting
            return
        topic, _ = self._queue.pop(0)
        if response is None:
            self.warn(f"event {topic} is lost: no answer from containerd")
        elif response["status"] is not None and response["status"]["code"]:
            self.warn(f"event {topic} was refused: {response['status']['message']}")
        self._tries = 0
        self._again()

    def _again(self) -> None:
        self._busy = False
        self._next()
