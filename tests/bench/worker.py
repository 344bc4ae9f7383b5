"""One process a runtime under test: it runs the runtime's commands in a mount namespace of its own.

The worker is a subreaper, as a containerd shim is: every process that a command leaves behind becomes its
child, and the rusage of everything it reaps is added up. Without that, the container's init, which a runtime
orphans on purpose, would be missing from the runtime's CPU time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

CLONE_NEWNS, MS_REC, MS_PRIVATE, MNT_DETACH = 0x20000, 0x4000, 0x40000, 2
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
CGROUP_ROOT = "/sys/fs/cgroup"
libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The runtime's command did not exit as it should; the message is its last line on stderr."""


class Usage:
    """What a measurement took: wall, CPU (user + system) in s, page faults, largest resident size in KiB."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self.faults = self.rss = 0

    def as_dict(self) -> dict[str, float]:
        return {"wall": self.wall, "cpu": self.cpu, "faults": self.faults, "rss": self.rss}


def separate() -> None:
    """Give this process a private mount namespace without the unified cgroup mount, and make it a subreaper.

    crun 1.8.1 refuses a hybrid cgroup layout, so that the v2 mount is taken away for all, here and only here
    (umount2(2) acts on this mount namespace alone, as the propagation is made private first).
    """
    for result, call in (
        (libc.unshare(CLONE_NEWNS), "unshare"),
        (libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount"),
        (libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl"),
        (libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0), "prctl"),
    ):
        if result:
            errno = ctypes.get_errno()
            raise OSError(errno, f"{call}: {os.strerror(errno)} (the benchmark needs root)")
    if os.path.exists(CGROUP_ROOT + "/unified/cgroup.controllers"):
        libc.umount2((CGROUP_ROOT + "/unified").encode(), MNT_DETACH)


class Runtime:
    """Runs one runtime's commands, with its state below HOME/root, and reaps all that they leave."""

    def __init__(self, name: str, path: str, home: Path) -> None:
        self.name, self.path, self.home = name, path, home
        home.mkdir()
        self.root = str(home / "root")
        os.mkdir(self.root)
        # As /run is. ext4 does not give an inode away again for five seconds, and looks at each that was freed.
        if libc.mount(b"none", self.root.encode(), b"tmpfs", 0, None) != 0:
            raise OSError(ctypes.get_errno(), f"mount a tmpfs on {self.root}")
        self.pid_file = str(home / "pid")
        self.stderr = str(home / "stderr")
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "FLOOR_ROOTFS": os.environ["FLOOR_ROOTFS"]}
        self.statuses: dict[int, int] = {}
        self.used = Usage()

    def spawn(self, *args: str) -> int:
        """Start `RUNTIME --root ROOT ARGS...`; returns its pid. stdin, stdout: /dev/null; stderr: a file."""
        argv = [self.path, *args] if args[0] == "--version" else [self.path, "--root", self.root, *args]
        files = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, self.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        ]
        return os.posix_spawn(self.path, argv, self.environment, file_actions=files)

    def reap(self, pid: int) -> int:
        """Wait for PID (a child or an orphan given to us) and return its exit status."""
        while pid not in self.statuses:
            self._wait(pid)
        return self.statuses.pop(pid)

    def reap_rest(self) -> None:
        """Reap whatever is already dead, so that its CPU time is in the measurement that caused it."""
        while self._wait(-1, os.WNOHANG):
            pass
        self.statuses.clear()

    def _wait(self, pid: int, flags: int = 0) -> int:
        try:
            pid, status, usage = os.wait4(pid, flags)
        except ChildProcessError:
            if flags:
                return 0
            raise
        if pid:
            self.statuses[pid] = os.waitstatus_to_exitcode(status)
            self.used.cpu += usage.ru_utime + usage.ru_stime
            self.used.faults += usage.ru_minflt
            self.used.rss = max(self.used.rss, usage.ru_maxrss)
        return pid

    def call(self, *args: str) -> None:
        """Run one command to its end; Refused if its exit status is not 0."""
        status = self.reap(self.spawn(*args))
        if status:
            raise Refused(self.last_line() or f"{args[0]}: exit status {status}")

    def last_line(self) -> str:
        try:
            lines = Path(self.stderr).read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def start_measuring(self) -> None:
        self.used = Usage()
        if os.path.exists(self.stderr):
            os.truncate(self.stderr, 0)
        self._begin = time.perf_counter()

    def stop_watch(self) -> None:
        self.used.wall = time.perf_counter() - self._begin

    def create(self, bundle: str, name: str) -> int:
        """`create` a container; returns the pid of its init."""
        self.call("create", "--bundle", bundle, "--pid-file", self.pid_file, name)
        with open(self.pid_file) as f:
            return int(f.read())

    def remove_all(self) -> None:
        """Delete every container that a failed measurement left, then our cgroups."""
        names = os.listdir(self.root) if os.path.isdir(self.root) else []
        for name in names:
            if name.startswith("bench-"):
                self.reap(self.spawn("delete", "--force", name))
        self.reap_rest()
        for hierarchy in os.listdir(CGROUP_ROOT):
            for folder, _, _ in os.walk(f"{CGROUP_ROOT}/{hierarchy}", topdown=False):
                if os.path.basename(folder).startswith(f"bench-{self.name}-"):
                    try:
                        os.rmdir(folder)
                    except OSError:
                        pass
