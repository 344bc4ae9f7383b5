"""The library for asyncio: the same classes, whose methods are awaited and do not block the loop.

    async with pyruntime.aio.Container("box", bundle) as box:
        await box.create()
        await box.start()
        status = await box.wait()

No threads: the answer of the helper process (library/helper.py) is a descriptor that becomes readable. A cancelled
`wait` returns; a cancelled operation is completed, and its result is dropped.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from types import TracebackType
from typing import Any

from pyruntime.library import container as blocking
from pyruntime.library import process as blocking_process
from pyruntime.library.bundle import Bundle
from pyruntime.library.helper import Call
from pyruntime.library.state import State
from pyruntime.library.stdio import Stream, Streams

__all__ = ["Container", "Process"]


async def _answer(call: Call) -> Any:
    try:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def done() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(call.fileno(), done)
        try:
            await ready
        finally:
            loop.remove_reader(call.fileno())
        return call.answer()
    finally:
        call.close()


class Process:
    """One more process in a container. process: its blocking twin, with pid and pipes, which the end of an
    `async with` closes."""

    def __init__(self, process: blocking_process.Process) -> None:
        self.process = process
        self.pid = process.pid

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its pipes and terminal; the process keeps its ends, and runs on."""
        self.process.close()

    async def wait(self) -> int:
        """Return its exit status, 128 + N when signal N ended it."""
        return int(await _answer(self.process.wait_call()))

    def kill(self, signal: int | str = "TERM") -> None:
        """Send it a signal; does not wait for anything."""
        self.process.kill(signal)


class Container:
    """pyruntime.Container for asyncio. blocking: its blocking twin; the arguments are that one's."""

    def __init__(self, id: str, bundle: Bundle | str | os.PathLike[str] | None = None, **options: Any) -> None:
        self.blocking = blocking.Container(id, bundle, **options)

    async def __aenter__(self) -> Container:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.delete(force=True)
        finally:
            self.close()

    def close(self) -> None:
        """Close the pipes and the terminal that `create` has opened. The container keeps its ends."""
        self.blocking.close()

    async def create(
        self, *, stdin: Stream = None, stdout: Stream = None, stderr: Stream = None, terminal: bool = False
    ) -> None:
        """Make the container; its init then waits for `start`."""
        streams = Streams(stdin, stdout, stderr, terminal=terminal)
        try:
            call = self.blocking.create_request(streams)
            streams.sent()
            await _answer(call)
            self.blocking.adopt(streams)
        except BaseException:
            streams.close()
            raise

    async def start(self) -> None:
        """Start the user's process."""
        await _answer(self.blocking.request("start"))

    async def exec(
        self,
        args: list[str],
        *,
        env: dict[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        terminal: bool = False,
    ) -> Process:
        """Run one more process in the container."""
        streams = Streams(stdin, stdout, stderr, terminal=terminal)
        try:
            call = self.blocking.exec_request(streams, args, env=env, cwd=cwd, user=user)
            streams.sent()
            identity = await _answer(call)
            streams.take_terminal()
        except BaseException:
            streams.close()
            raise
        return Process(blocking_process.Process(identity, streams))

    async def kill(self, signal: int | str = "TERM", *, all: bool = False) -> None:
        """Send a signal to init, or to every process."""
        number = blocking_process.number(signal)
        await _answer(self.blocking.request("kill", signal=number, everything=all))

    async def wait(self) -> int:
        """Init's exit status, 128 + N when signal N ended it; asyncio.timeout limits the wait."""
        return int(await _answer(self.blocking.wait_request()))

    async def delete(self, *, force: bool = False) -> None:
        """Remove the container."""
        await _answer(self.blocking.request("delete", force=force))

    async def pause(self) -> None:
        """Freeze all processes."""
        await _answer(self.blocking.request("pause"))

    async def resume(self) -> None:
        """Resume all processes."""
        await _answer(self.blocking.request("resume"))

    async def update(self, resources: dict[str, object], process: dict[str, object] | None = None) -> None:
        """Change limits."""
        await _answer(self.blocking.request("update", resources=resources, process=process))

    async def add_mounts(self, mounts: list[dict[str, object]]) -> None:
        """Mount into the running container: entries of `mounts` in config.json. If one fails, none is made."""
        await _answer(self.blocking.request("add_mounts", mounts=mounts))

    async def remove_mounts(self, *destinations: str) -> None:
        """Unmount what `add_mounts` has mounted at these places of the container."""
        await _answer(self.blocking.request("remove_mounts", destinations=list(destinations)))

    # Reads of a few small files: not worth a task.

    def state(self) -> State:
        """Return what is known of it now."""
        return self.blocking.state()

    def stats(self) -> dict[str, object]:
        """Return what it uses."""
        return self.blocking.stats()

    def processes(self) -> list[int]:
        """Return the pids of all its processes, on the host."""
        return self.blocking.processes()
