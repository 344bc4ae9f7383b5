"""Private network namespaces, and daemons in them that are ended by their pid."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from support import leaks, proc

from engines.command import ENVIRONMENT, PATH, run


class Network:
    """A network namespace with its loopback device up, held by a process that sleeps in it.

    It is entered by nsenter, not by `ip netns exec`, which mounts a new /sys without the cgroups.
    """

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && echo ready && exec sleep infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n", "no network namespace"

    @property
    def pid(self) -> int:
        return self._holder.pid

    @property
    def enter(self) -> list[str]:
        """The words before a command that run it in the namespace."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--"]

    def close(self) -> None:
        """Give the namespace up; the kernel removes it when the last process in it has ended."""
        self._holder.kill()
        self._holder.communicate()


def join(first: Network, second: Network, addresses: tuple[str, str]) -> None:
    """Join two network namespaces by a cable; each end gets an address such as 10.0.0.1/24."""
    ends = [(first, addresses[0]), (second, addresses[1])]
    words = ["ip", "link", "add", "cable", "netns", str(first.pid), "type", "veth"]
    run([*words, "peer", "name", "cable", "netns", str(second.pid)])
    for network, address in ends:
        run([*network.enter, "ip", "address", "add", address, "dev", "cable"])
        run([*network.enter, "ip", "link", "set", "cable", "up"])


class Daemon:
    """A process that serves until it is stopped; its output is in `log`."""

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str] = ENVIRONMENT) -> None:
        self._command = command
        self.log = log
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self, ready: Callable[[], bool], timeout: float = 30.0) -> None:
        """Start it, and return once `ready()` is true."""
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while not ready():
            assert self._process.poll() is None, f"{self._command[0]} has ended:\n{self.tail()}"
            assert time.monotonic() < deadline, f"not ready after {timeout} s:\n{self.tail()}"
            time.sleep(0.05)

    def tail(self, lines: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> None:
        """End it by a signal, by SIGKILL when it does not listen, and reap it."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None


def below(folder: Path) -> dict[int, str]:
    """pid -> command line of all processes that name a directory in it.

    Shims and conmons are nobody's children; they are told by the directory of this session in their arguments.
    """
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            command = proc.read(name, "cmdline")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder) in command:
            found[int(name)] = command.replace("\0", " ")[:200]
    return found


def end_below(folder: Path) -> list[str]:
    """Kill the processes of `below()`, and returns what they were."""
    found = below(folder)
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return [f"process {pid}: {command}" for pid, command in found.items()]


def remove_cgroups() -> list[str]:
    """Remove all cgroups of this session; returns those of containers.

    The parent of all of an engine's containers is the engine's; so are podman's for conmon and for pods, and
    BuildKit's.
    """
    found = leaks.cgroups()
    parents = {f"{top}/{name}" for top in leaks.hierarchies() for name in os.listdir(top)}
    for path in found:
        try:
            os.rmdir(path)
        except OSError:
            continue
    podman = f"{leaks.PREFIX}-podman/"
    parents |= {path for path in found if path.endswith("/buildkit") or (podman in path and "/libpod-" not in path)}
    return [path for path in found if path not in parents]


def missing(programs: tuple[str, ...]) -> str:
    """The first of some programs that is not installed, or ""."""
    for program in programs:
        if shutil.which(program, path=PATH) is None:
            return program
    return ""
