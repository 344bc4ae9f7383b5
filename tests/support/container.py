"""One container of the runtime under test, driven by its commands and looked at from outside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from support import proc
from support.bundle import Bundle
from support.runtime import TIMEOUT, Command, Result, Runtime


class Container:
    """A bundle and an id. The commands check their exit status unless told otherwise."""

    def __init__(self, runtime: Runtime, bundle: Bundle, name: str) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.id = name
        self.pid_file = runtime.folder / f"{name}.pid"
        self.created: Result | None = None

    @property
    def config(self) -> dict[str, Any]:
        return self.bundle.config

    @property
    def process(self) -> dict[str, Any]:
        return self.bundle.config["process"]

    @property
    def rootfs(self) -> Path:
        return self.bundle.rootfs

    def _make(self, verb: str, flags: tuple[str, ...]) -> list[str]:
        self.bundle.save()
        return [verb, "--bundle", str(self.bundle.path), *flags, self.id]

    def create(self, *flags: str, **options: Any) -> Result:
        self.created = self.runtime.run(*self._make("create", ("--pid-file", str(self.pid_file), *flags)), **options)
        return self.created

    def run(self, *flags: str, **options: Any) -> Result:
        """`run` in the foreground, to its end (with `--detach` among the flags, until it has detached)."""
        return self.runtime.run(*self._make("run", flags), **options)

    def spawn_run(self, *flags: str, **options: Any) -> Command:
        """`run` in the foreground, not waited for."""
        return self.runtime.spawn(*self._make("run", ("--pid-file", str(self.pid_file), *flags)), **options)

    def start(self, **options: Any) -> Result:
        return self.runtime.run("start", self.id, **options)

    def kill(self, *words: str, **options: Any) -> Result:
        return self.runtime.run("kill", self.id, *words, **options)

    def delete(self, *flags: str, **options: Any) -> Result:
        return self.runtime.run("delete", *flags, self.id, **options)

    def state(self) -> dict[str, Any]:
        return json.loads(self.runtime.run("state", self.id).stdout)

    def status(self) -> str:
        return self.state()["status"]

    @property
    def pid(self) -> int:
        """Init's pid as the pid-file has it."""
        return int(self.pid_file.read_text())

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Reap a detached init, which is our child now; returns its exit status, 128+N for a signal."""
        done = proc.wait_until(lambda: _reap(self.pid), f"{self.id} ends", timeout)
        return done[0]

    def output(self) -> str:
        """What the created container has written to its standard output so far."""
        assert self.created is not None
        return self.created.stdout

    def await_output(self, text: str) -> str:
        """Wait until the created container has written `text`."""
        proc.wait_until(lambda: text in self.output(), f"{self.id} writes {text!r}")
        return self.output()

    def proc(self, name: str) -> str:
        """The text of a file of /proc/PID of init."""
        return proc.read(self.pid, name)

    def process_status(self) -> dict[str, str]:
        return proc.parse_status(self.proc("status"))

    def namespace(self, kind: str) -> str:
        return proc.namespace(self.pid, kind)

    def mounts(self) -> list[proc.Mount]:
        return proc.parse_mountinfo(self.proc("mountinfo"))

    @property
    def root(self) -> Path:
        """The container's root directory as init sees it."""
        return Path(f"/proc/{self.pid}/root")


def _reap(pid: int) -> list[int]:
    """[exit status] when the child has ended, else []."""
    found, status = os.waitpid(pid, os.WNOHANG)
    if not found:
        return []
    code = os.waitstatus_to_exitcode(status)
    return [128 - code if code < 0 else code]
