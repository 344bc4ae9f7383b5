"""One attempt: prepare a container, let a fault hit a command, delete it by force, and look for what is left."""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import kernel, leaks, ordinary, proc
from support.attack import site
from support.bundle import Bundle, make_base
from support.runtime import CHECKOUT, ENVIRONMENT, Executable

from faults import driver, scenarios
from faults.scenarios import Scenario

PYTHON = os.path.realpath("/usr/bin/python3")
SECONDS = 30.0  # no command may take longer, however busy the machine is
PARENT, INIT, BOTH = "parent", "init", "both"
# What `exec` gives back for a process that was killed. Between the last message of the handshake and execve(2) nobody
# can tell whether that was the program already.
KILLED = 128 + signal.SIGKILL
# What an error line says when it is no answer but a bug.
BUGS = ("Traceback", "bug in pyruntime", "unknown error", "Exception ignored")


@dataclass(frozen=True)
class Fault:
    """A point, and what happens there: SIGKILL for a victim, or an error number in place of the call."""

    key: str
    victim: str = ""
    errno: int = 0

    def __str__(self) -> str:
        what = f"SIGKILL of {self.victim}" if self.victim else f"error {errno_name(self.errno)}"
        return f"{what} at: {self.key}"


@dataclass
class Outcome:
    """What came of an attempt: problems are what must not be."""

    scenario: str
    fault: Fault
    reached: bool = False
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit status and what it said; code None: it did not end."""

    words: list[str]
    code: int | None
    said: str


class Control:
    """The harness's side of the file that driver.py describes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(driver.SIZE))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), driver.SIZE)

    def arm(self, mode: int, key: str = "", errno: int = 0) -> None:
        self.map[: driver.LOGS] = bytes(driver.LOGS)
        self.map[driver.MODE] = mode
        self.map[driver.ERRNO] = errno
        self.map[driver.KEY : driver.KEY + len(key)] = key.encode()

    def reached(self) -> bool:
        return bool(self.map[driver.REACHED])

    def go(self) -> None:
        self.map[driver.GO] = 1

    def points(self) -> list[str]:
        """The points that were written down, role after role, each in order."""
        found: list[str] = []
        for role in range(len(driver.ROLES)):
            start = driver.LOGS + role * driver.ROOM
            found += self.map[start : start + driver.ROOM].partition(b"\0")[0].decode().splitlines()
        self.map[driver.LOGS :] = bytes(driver.SIZE - driver.LOGS)
        return found


class Harness:
    """A place for attempts, of a process that is a subreaper in a mount namespace of its own."""

    def __init__(self, executable: Executable, folder: Path, *, rootless: bool = False) -> None:
        kernel.become_subreaper()
        kernel.enter_private_mounts()
        ordinary.admit(CHECKOUT)
        self.executable = executable
        self.folder = folder
        self.wrap = ordinary.BECOME if rootless else []
        self.root = folder / "root"
        # Two containers at once: the sandbox of a pod, and the one of the attempt.
        self.id = f"pyrt{os.getpid()}"
        self.cgroup_parent = f"/{self.id}-faults"
        folder.mkdir(parents=True)
        folder.chmod(0o711)
        self.devices = own_devices(folder)
        self.base = make_base(folder / "base")
        self.control = Control(folder / "control")
        self.bundles: dict[str, Bundle] = {}
        self.socket: socket.socket | None = None
        self.device = f"pyrt{os.getpid()}"
        self.covered: list[str] = []
        self.sandbox = 0
        if rootless:
            self._make_user()
        else:
            self.sandbox = self._make_sandbox()
        self.children = set(proc.children())
        self.mounts = proc.read("self", "mountinfo")

    def close(self) -> list[str]:
        """Delete the sandbox: what is left of everything after that."""
        left = self._leftovers()
        if self.sandbox:
            self._command("delete", "--force", f"{self.id}-pod", root=self.folder / "pod")
        ordinary.uncover(self.covered)
        self._listen("")
        self._make_device("")
        left += leaks.processes(set())
        leaks.remove_cgroup_parent(self.cgroup_parent)
        left += [f"cgroup {path}" for top in leaks.hierarchies() for path in Path(top).glob(f"{self.id}*")]
        for name in os.listdir(self.folder / "nodes"):
            kernel.umount(f"/dev/{name}", kernel.MNT_DETACH)
        leaks.remove_tree(self.folder)
        return left

    def points(self, scenario: Scenario) -> list[str]:
        """Every point of the scenario's command. Twice, because the first run fills caches."""
        found: list[str] = []
        for _ in range(2):
            self._prepare(scenario)
            self.control.arm(driver.RECORD)
            done = self._wait(self._spawn_driver(scenario), scenario.command.split())
            assert done.code == 0, f"{scenario.name}: {done}"
            found = self.control.points()
            done = self._delete()
            assert done.code == 0, f"{scenario.name}: {done}"
            assert not (left := self._leftovers()), f"{scenario.name} leaves: {left}"
        return found

    def attempt(self, scenario: Scenario, fault: Fault) -> Outcome:
        """Let the fault hit the scenario's command."""
        outcome = Outcome(scenario.name, fault)
        problems = outcome.problems
        self._prepare(scenario)
        self.control.arm(driver.STOP if fault.victim else driver.FAIL, fault.key, fault.errno)
        process = self._spawn_driver(scenario)
        deadline = time.monotonic() + SECONDS
        while process.poll() is None and not self.control.reached() and time.monotonic() < deadline:
            time.sleep(0.0005)
        outcome.reached = self.control.reached()
        if fault.victim and outcome.reached:
            self._kill(process, fault.victim)
            self.control.go()
        done = self._wait(process, scenario.command.split())
        self._judge(done, problems, may_fail=True)
        killed = fault.victim in (PARENT, BOTH)
        if scenario.command.startswith(("create", "run")) and not killed and done.code:
            # It failed and it lives: it cleans up itself.
            leaks.reap()
            problems += [f"{what} (before delete)" for what in self._leftovers()]
        self._judge(self._command("state", self.id), problems, may_fail=True)
        self._judge(self._delete(), problems, may_fail=False)
        # Errors in place of a hook are hooks that fail.
        if fault.victim and scenario.prepare and not (self.bundle.path / scenarios.POSTSTOP).exists():
            problems.append("the poststop hooks were lost")
        problems += self._leftovers()
        return outcome

    def try_bundle(self, bundle: Bundle) -> tuple[list[str], str]:
        """Create, start and delete whatever the bundle has: (problems, how far it came)."""
        self.bundle = bundle
        problems: list[str] = []
        done = self._command(*self._words(scenarios.CREATE))
        self._judge(done, problems, may_fail=True)
        if done.code:
            leaks.reap()
            problems += self._leftovers()
            (bundle.path / "pid").unlink(missing_ok=True)
            return problems, "refused"
        done = self._command("start", self.id)
        self._judge(done, problems, may_fail=True)
        self._judge(self._command("state", self.id), problems, may_fail=False)
        self._judge(self._delete(), problems, may_fail=False)
        problems += self._leftovers()
        return problems, "created, not started" if done.code else "started"

    def try_process(self, bundle: Bundle, process: Any) -> tuple[list[str], str]:
        """Run a made-up process.json in a container: (problems, whether it ran)."""
        self.bundle = bundle
        problems: list[str] = []
        bundle.save()
        done = self._command(*self._words(scenarios.RUN))
        assert done.code == 0, done
        file = self.folder / "process.json"
        file.write_text(json.dumps(process))
        done = self._command("exec", "--detach", "--process", str(file), self.id)
        self._judge(done, problems, may_fail=True)
        state = self._command("state", self.id)
        if '"running"' not in state.said:
            problems.append(f"after exec: {state}")
        self._judge(self._delete(), problems, may_fail=False)
        problems += self._leftovers()
        return problems, "refused" if done.code else "ran"

    def _prepare(self, scenario: Scenario) -> None:
        if scenario.name not in self.bundles:
            path = self.folder / f"bundle{len(self.bundles)}"
            cgroup = f"{self.cgroup_parent}/box"
            words = {"sandbox": str(self.sandbox), "device": self.device}
            self.bundles[scenario.name] = scenarios.make_bundle(scenario, path, self.base, cgroup, **words)
            scenarios.mark_poststop(self.bundles[scenario.name])
        self.bundle = self.bundles[scenario.name]
        (self.bundle.path / scenarios.POSTSTOP).unlink(missing_ok=True)
        self._listen("".join((*scenario.prepare, scenario.command)))
        self._make_device(json.dumps(self.bundle.config))
        for words in scenario.prepare:
            done = self._command(*self._words(words))
            assert done.code == 0, f"{scenario.name}: {done}"
            if words.startswith("kill"):
                leaks.processes(self.children)

    def _words(self, text: str) -> list[str]:
        names = {
            "id": self.id,
            "bundle": self.bundle.path,
            "pidfile": self.bundle.path / "pid",
            "socket": self.folder / "console.sock",
        }
        return text.format(**names).split()

    def _spawn_driver(self, scenario: Scenario) -> subprocess.Popen[bytes]:
        flags = ["-I", "-S", "-X", "utf8", driver.__file__, str(self.control.path), str(CHECKOUT), site()]
        return self._spawn([PYTHON, *flags, "--root", str(self.root), *self._words(scenario.command)])

    def _command(self, *words: str, root: Path | None = None) -> Done:
        command = [self.executable.path, "--root", str(root or self.root), *words]
        return self._wait(self._spawn(command), list(words))

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        # A file and no pipe: an init that lives on would hold a pipe open. A new one: it may have more to say, too.
        (self.folder / "said").unlink(missing_ok=True)
        command = [*self.wrap, *command]
        with open(self.folder / "said", "wb") as said:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=ENVIRONMENT, cwd=self.folder
            )

    def _wait(self, process: subprocess.Popen[bytes], words: list[str]) -> Done:
        deadline = time.monotonic() + SECONDS
        while (code := process.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.001)
            self._reap_all_but(process.pid)
        if code is None:
            for pid in (*self._children_of(process.pid), process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait()
        return Done(words, code, (self.folder / "said").read_text(errors="replace"))

    def _reap_all_but(self, kept: int) -> None:
        """As a good parent of orphans does: init cannot die before the dead of its pid namespace are reaped."""
        for pid in self._children_of(os.getpid()):
            if pid != kept:
                os.waitpid(pid, os.WNOHANG)

    def _delete(self) -> Done:
        done = self._command("delete", "--force", self.id)
        leaks.reap()
        (self.bundle.path / "pid").unlink(missing_ok=True)
        return done

    def _judge(self, done: Done, problems: list[str], *, may_fail: bool) -> None:
        name = done.words[0]
        if done.code is None:
            problems.append(f"{name} did not end within {SECONDS} s")
        elif done.code > 0:
            lines = [line for line in done.said.splitlines() if "level=error" in line or "level=" not in line]
            if not may_fail:
                problems.append(f"{name} failed: {done.said}")
            elif len(lines) != 1 and done.code != KILLED:
                problems.append(f"{name} said {len(lines)} lines and not one: {done.said}")
        for word in BUGS:
            if word in done.said:
                problems.append(f"{name} said: {done.said}")

    def _kill(self, process: subprocess.Popen[bytes], victim: str) -> None:
        """Kill a command, the processes that it has cloned, or both."""
        children = self._children_of(process.pid)
        if victim in (PARENT, BOTH):
            process.kill()
        if victim in (INIT, BOTH):
            for pid in children:
                os.kill(pid, signal.SIGKILL)

    @staticmethod
    def _children_of(pid: int) -> list[int]:
        try:
            return [int(word) for word in proc.read(pid, f"task/{pid}/children").split()]
        except (FileNotFoundError, ProcessLookupError):
            return []

    def _leftovers(self) -> list[str]:
        """What is there and should not be; it is taken away."""
        left = self._processes()
        mounts = proc.read("self", "mountinfo")
        if mounts != self.mounts:
            known = self.mounts.splitlines()
            more = [line for line in mounts.splitlines() if line not in known]
            escaped = proc.parse_mountinfo("\n".join(more))
            mine = [one for one in escaped if one.target.startswith(str(self.folder))]
            left += leaks.detach(mine) + [f"changed mount {one}" for one in escaped if one not in mine]
            self.mounts = proc.read("self", "mountinfo")
        for top in leaks.hierarchies():
            parent = Path(top + self.cgroup_parent)
            for path in sorted(parent.glob("**/"), reverse=True) if parent.exists() else ():
                if path != parent and path.name != "pod":
                    left.append(f"cgroup {path}")
                    os.rmdir(path)
        for path in (*self.root.glob("*"), *self.root.glob(".cache/*/.*")):
            if path.name != ".cache":
                left.append(f"state {path}")
                leaks.remove_tree(path) if path.is_dir() else path.unlink()
        for path in self.bundle.path.iterdir() if self.bundles else ():
            if path.name not in ("rootfs", "config.json", "source", "pid", scenarios.POSTSTOP):
                left.append(f"file {path}")
                path.unlink()
        return left + leaks.restore_devices(self.devices)

    def _processes(self) -> list[str]:
        pids = set(self._children_of(os.getpid())) - self.children
        return leaks.processes(self.children) if pids else []

    def _listen(self, words: str) -> None:
        """Be there for a terminal's master: it stays with the socket, unread, until the next attempt."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
            (self.folder / "console.sock").unlink()
        if "{socket}" in words:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.bind(str(self.folder / "console.sock"))
            (self.folder / "console.sock").chmod(0o666)
            self.socket.listen()

    def _make_device(self, config: str) -> None:
        """A new pair of network devices, if the config wants one; the last ones go, or have gone with a container."""
        if os.path.exists(f"/sys/class/net/{self.device}p"):
            # It may be going this very moment: the kernel ends a container's network namespace in its own time.
            subprocess.run(["ip", "link", "del", f"{self.device}p"], stderr=subprocess.DEVNULL, check=False)
        if f'"{self.device}"' in config:
            words = ["ip", "link", "add", self.device, "type", "veth", "peer", "name", f"{self.device}p"]
            subprocess.run(words, check=True)

    def _make_user(self) -> None:
        """Let an ordinary user find his place: one cgroup hierarchy is delegated to him, with ids beside his own."""
        place = self.folder / "etc"
        place.mkdir()
        self.covered = ordinary.cover(place)
        assert ordinary.has_ranges(self.covered), "newuidmap, or a file of /etc, is missing"
        self.root.mkdir()
        os.chown(self.root, ordinary.UID, ordinary.UID)
        self.control.path.chmod(0o666)
        pids = Path("/sys/fs/cgroup/pids")
        if pids.is_dir():
            (pids / self.cgroup_parent.lstrip("/")).mkdir()
            os.chown(pids / self.cgroup_parent.lstrip("/"), ordinary.UID, ordinary.UID)

    def _make_sandbox(self) -> int:
        """The container whose namespaces a pod shares: its pid."""
        scenario = Scenario("user namespace of a pod", scenarios.guarded_user_namespace, "")
        path = self.folder / "pod-bundle"
        bundle = scenarios.make_bundle(scenario, path, self.base, f"{self.cgroup_parent}/pod")
        bundle.config["process"]["args"] = ["/bin/sleep", "100000"]
        bundle.save()
        self.bundle = bundle
        flags = ("--detach", "--bundle", str(path), "--pid-file", str(path / "pid"))
        done = self._command("run", *flags, f"{self.id}-pod", root=self.folder / "pod")
        assert done.code == 0, done
        return int((path / "pid").read_text())


def own_devices(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Device nodes of the harness's own in place of the machine's, which other tests and runtimes use meanwhile."""
    nodes = folder / "nodes"
    nodes.mkdir()
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        status = os.stat(f"/dev/{name}")
        os.mknod(nodes / name, status.st_mode, status.st_rdev)
        os.chmod(nodes / name, 0o666)
        kernel.mount(str(nodes / name), f"/dev/{name}", None, kernel.MS_BIND)
    return leaks.device_nodes()


def errno_name(number: int) -> str:
    import errno

    return errno.errorcode[number]
