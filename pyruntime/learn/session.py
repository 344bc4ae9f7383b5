"""learn: run a container as `run` does, watched, and report what it used."""

from __future__ import annotations

import json
import posix
import threading
import time

from pyruntime.cgroupfs import stats
from pyruntime.commands import create, delete, foreground, start
from pyruntime.commands import run as run_command
from pyruntime.errors import ConfigError, NotFound, UsageError
from pyruntime.kernel.constants import SIGKILL, SIGTERM
from pyruntime.kernel.pidfd import send_signal
from pyruntime.learn import profile, results, written
from pyruntime.learn.watch import Seen, Watch
from pyruntime.state.status import open_init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyruntime.commands.create import CreateOptions
    from pyruntime.commands.settings import Settings
    from pyruntime.learn.profile import Document
    from pyruntime.plan.request import Request
    from pyruntime.state.store import Record
    from pyruntime.util.ids import ContainerId

_INTERVAL = 0.1
_TICK = 0.01
_GRACE = 10.0  # seconds between SIGTERM and SIGKILL at the end of --for


class _Sampler(threading.Thread):
    """Looks at the cgroup now and then, and ends the container when its time is over."""

    def __init__(self, record: Record, pidfd: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self.cgroups = record.cgroups
        self.pidfd = pidfd
        self.seconds = seconds
        self.done = threading.Event()
        self.pids = self.memory = 0
        self.cpu = 0.0
        self.timed_out = False

    def run(self) -> None:
        began = last = time.monotonic()
        usage = self.look()
        signals = [(began + self.seconds, SIGTERM), (began + self.seconds + _GRACE, SIGKILL)] if self.seconds else []
        while not self.done.wait(_INTERVAL):
            now = time.monotonic()
            total = self.look()
            self.cpu = max(self.cpu, (total - usage) / 1e9 / (now - last))
            usage, last = total, now
            if signals and now >= signals[0][0]:
                self.timed_out = True
                try:
                    send_signal(self.pidfd, signals.pop(0)[1])
                except ProcessLookupError:
                    return

    def look(self) -> int:
        """Note what the cgroup has now: its CPU time in nanoseconds."""
        found = stats.read(self.cgroups)
        memory = found["memory"].get("usage") or {}
        self.memory = max(self.memory, memory.get("max", 0), memory.get("usage", 0))
        self.pids = max(self.pids, found["pids"].get("current", 0))
        return int((found["cpu"].get("usage") or {}).get("total", 0))


def learn(settings: Settings, id: ContainerId, options: CreateOptions, *, output: str, seconds: float) -> int:
    """Run the container of a bundle, watched, and write what it needs into a new directory: its exit status.

    seconds: end it by SIGTERM, and later by SIGKILL, after this time; 0: wait for its end. Raises PyruntimeError."""
    request, raw = create.request_of(settings, id, options)
    if request.process.get("terminal"):
        raise ConfigError(
            "learn runs without a terminal", pointer="/process/terminal", hint="set it to false, or leave it out"
        )
    if request.rootless:
        raise UsageError("learn needs root: programs on the kernel's tracepoints watch the container")
    results.make_directory(output)
    try:
        return _learn(settings, id, options, request, raw, output, seconds)
    except BaseException:
        if not posix.listdir(output):
            posix.rmdir(output)
        raise


def _learn(
    settings: Settings,
    id: ContainerId,
    options: CreateOptions,
    request: Request,
    raw: str,
    output: str,
    seconds: float,
) -> int:
    run_command.prepare_foreground(subreaper=True)
    record = create.create_from(settings, request, raw, options)
    try:
        # A file's times are those of the last tick: what create changed must be older than what the container changes.
        time.sleep(2 * _TICK)
        since = time.time_ns() - int(_TICK * 1e9)
        watch = Watch(record.pid)
        pidfd = open_init(record)
        sampler = _Sampler(record, pidfd, seconds)
        sampler.start()
        began = time.monotonic()
        start.start(record, settings.log)
    except BaseException as error:
        delete.undo_created(record, settings.log, error)
        raise
    try:
        status = foreground.attend(record.pid, pidfd)
        elapsed = time.monotonic() - began
        sampler.done.set()
        sampler.join()
        sampler.look()
        seen = watch.read()
    finally:
        posix.close(pidfd)
        try:
            delete.delete(record, force=True, log=settings.log)
        except NotFound:
            pass
    config = json.loads(raw)
    changed, directories, unread = written.changed(request.rootfs(), since)
    if unread:
        seen.notes.append(f"paths: {unread} directories of the rootfs could not be read")
    report = make_report(config, seen)
    report["run"] = {"id": str(id), "status": status, "seconds": round(elapsed, 3), "timed_out": sampler.timed_out}
    report["peaks"] = {
        "memory": sampler.memory,
        "pids": sampler.pids,
        "cpus": round(sampler.cpu, 2),
        "sampled_seconds": _INTERVAL,
    }
    report["paths"] |= {
        "root_changed": changed,
        "root_directories": directories,
        "root_seen": not unread,
    }
    results.write(output, config, report)
    return status


def make_report(config: Document, seen: Seen) -> Document:
    """Return the part of report.json that comes from the watch."""
    sets = (config.get("process") or {}).get("capabilities") or {}
    granted = sorted({name for names in sets.values() for name in names})
    # What the config does not grant was asked of other credentials: in a user namespace that the container made, or
    # while the runtime set up a process of exec.
    used = None if seen.used is None else [one for one in seen.used if one in granted]
    other = [one for one in seen.used or () if one not in granted]
    given = (config.get("linux") or {}).get("seccomp")
    opened = [(path, writes) for name, path, writes in seen.paths if name.startswith(("open", "creat"))]
    return {
        "version": results.VERSION,
        "syscalls": {"seen": seen.calls, "compat": seen.compat_calls, "runtime": profile.of_runtime(config)},
        "capabilities": {"granted": granted, "used": used, "other": other, "lacked": seen.lacked},
        "paths": {
            "written": sorted({path for _, path, writes in seen.paths if writes}),
        },
        "devices": sorted({path for path, _ in opened if path.startswith("/dev/")}),
        "sysctls": {
            "read": sorted({path for path, writes in opened if path.startswith("/proc/sys/") and not writes}),
            "written": sorted({path for path, writes in opened if path.startswith("/proc/sys/") and writes}),
        },
        "not_seen": [
            *seen.notes,
            *(["system calls that the given profile denied"] if given else []),
            "processes in a pid namespace that the container made itself",
            "arguments of system calls: a name is allowed with any arguments",
            "peaks of pids and CPU between two samples",
            "what no run has exercised",
        ],
    }
