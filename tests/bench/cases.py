"""What is measured: one class a case, with `prepare`, `once` (measured by its Runtime) and `finish`."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import bundles
from worker import Refused, Runtime

TRUE, SLEEP = ["/bin/true"], ["/bin/sleep", "1000"]


class Case:
    """A measurement of one Runtime. `label` is printed; `share` divides the wanted number of rounds."""

    label = ""
    share = 1
    by_default = True

    def __init__(self, runtime: Runtime, rootfs: Path) -> None:
        self.runtime, self.rootfs, self.count = runtime, rootfs, 0

    def name(self) -> str:
        """A container name that no earlier measurement had (a cgroup may outlive its container)."""
        self.count += 1
        return f"bench-{self.runtime.name}-{self.count}"

    def bundle(self, config: dict[str, object]) -> str:
        folder = self.runtime.home / f"bundle-{type(self).__name__}-{self.count}"
        return bundles.write(folder, config)

    def prepare(self) -> None:
        self.path = self.bundle(bundles.plain(self.rootfs, TRUE))

    def once(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        self.runtime.remove_all()


class Version(Case):
    label = "--version"

    def prepare(self) -> None:
        pass

    def once(self) -> None:
        self.runtime.call("--version")


class Run(Case):
    label = "run /bin/true"

    def once(self) -> None:
        self.runtime.call("run", "--bundle", self.path, self.name())


class RunDocker(Run):
    label = "run, docker's config"

    def prepare(self) -> None:
        name = f"bench-{self.runtime.name}-docker"
        config = bundles.docker(self.rootfs, TRUE, self.runtime.home / "binds", "/" + name)
        if isinstance(config, str):
            raise Refused(config)
        self.path = self.bundle(config)


class Lifecycle(Case):
    label = "create+start+delete"

    def once(self) -> None:
        name = self.name()
        pid = self.runtime.create(self.path, name)
        self.runtime.call("start", name)
        self.runtime.reap(pid)
        self.runtime.call("delete", name)


class Alive(Case):
    """Cases that ask something of a container that sleeps."""

    def prepare(self) -> None:
        self.sleeper = self.name()
        self.runtime.create(self.bundle(bundles.plain(self.rootfs, SLEEP)), self.sleeper)
        self.runtime.call("start", self.sleeper)


class State(Alive):
    label = "state"

    def once(self) -> None:
        self.runtime.call("state", self.sleeper)


class Kill(Alive):
    label = "kill"

    def once(self) -> None:
        # SIGWINCH: delivered, and ignored by a process 1 without a handler, so that the container lives on.
        self.runtime.call("kill", self.sleeper, "WINCH")


class Exec(Alive):
    label = "exec /bin/true"

    def once(self) -> None:
        self.runtime.call("exec", self.sleeper, "/bin/true")


class Parallel(Case):
    label = "50 run in parallel"
    share = 10

    def once(self) -> None:
        pids = [self.runtime.spawn("run", "--bundle", self.path, self.name()) for _ in range(50)]
        failed = sum(1 for pid in pids if self.runtime.reap(pid))
        if failed:
            raise Refused(f"{failed} of 50 failed: {self.runtime.last_line()}")


class Crowd(Case):
    """500 containers wait for `start` while the others are measured: what does not grow with their number?

    alone: the case that is the same without them."""

    by_default = False
    alive = 500
    alone = ""

    def prepare(self) -> None:
        super().prepare()
        for _ in range(self.alive):
            self.runtime.create(self.path, self.name())


class LifecycleInCrowd(Crowd, Lifecycle):
    label = "c+s+d, 500 alive"
    alone = "lifecycle"


class ParallelInCrowd(Crowd, Parallel):
    label = "50 run, 500 alive"
    alone = "parallel"


class ListCrowd(Crowd):
    label = "list, 500 alive"
    share = 3

    def once(self) -> None:
        self.runtime.call("list")


class Waiting(Case):
    """Not a time: the memory of an init that waits for `start`, after a moment of rest."""

    label = "memory of a waiting init"
    share = 30

    def once(self) -> None:
        name = self.name()
        pid = self.runtime.create(self.path, name)
        time.sleep(0.1)
        self.memory = memory(pid)
        self.runtime.call("delete", "--force", name)
        self.runtime.reap(pid)


class Limit(Case):
    """Not a time: the smallest memory limit, to 32 KiB, with which /bin/true runs three times."""

    label = "smallest memory limit"
    share = 30
    least, most, step = 64, 16384, 32  # KiB

    def prepare(self) -> None:
        self.config = bundles.plain(self.rootfs, TRUE)
        self.path = self.bundle(self.config)

    def once(self) -> None:
        low, high = self.least, self.most
        if not self._runs(high):
            raise Refused(self.runtime.last_line())
        while high - low > self.step:
            middle = (low + high) // 2
            if all(self._runs(middle) for _ in range(3)):
                high = middle
            else:
                low = middle
        self.memory = {"limit": high}

    def _runs(self, limit: int) -> bool:
        linux = self.config["linux"]
        assert isinstance(linux, dict)
        linux["resources"] = {**linux["resources"], "memory": {"limit": limit * 1024}}
        Path(self.path, "config.json").write_text(json.dumps(self.config))
        name = self.name()
        if self.runtime.reap(self.runtime.spawn("run", "--bundle", self.path, name)) == 0:
            return True
        self.runtime.reap(self.runtime.spawn("delete", "--force", name))
        return False


class Calls(Alive):
    """Not a time: how many system calls the commands take, by strace."""

    label = "system calls"
    share = 30

    def once(self) -> None:
        name = self.name()
        bundle = self.bundle(bundles.plain(self.rootfs, TRUE))
        run, execute = ["run", "--bundle", bundle, name], ["exec", self.sleeper, "/bin/true"]
        self.memory = {words[0]: self._count(words) for words in (run, ["state", self.sleeper], execute)}

    def _count(self, words: list[str]) -> int:
        trace = self.runtime.home / "trace"
        strace = shutil.which("strace")
        if strace is None:
            raise Refused("no strace: apt-get install strace")
        # A line a call; a call that was interrupted by another thread's has two, of which one is `resumed`.
        command = [strace, "-f", "-o", str(trace), self.runtime.path, "--root", self.runtime.root, *words]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        lines = trace.read_text(errors="replace").splitlines()
        return sum(1 for line in lines if "(" in line and " resumed>" not in line)


def memory(pid: int) -> dict[str, int]:
    """Resident, proportional and private memory of PID in KiB (proc_pid_smaps_rollup)."""
    rows: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, value = line.split(":")
        rows[key] = int(value.split()[0])
    return {"rss": rows["Rss"], "pss": rows["Pss"], "private": rows["Private_Clean"] + rows["Private_Dirty"]}


CASES: dict[str, type[Case]] = {
    "run": Run,
    "run-docker": RunDocker,
    "lifecycle": Lifecycle,
    "state": State,
    "version": Version,
    "kill": Kill,
    "exec": Exec,
    "parallel": Parallel,
    "lifecycle-500": LifecycleInCrowd,
    "parallel-500": ParallelInCrowd,
    "list-500": ListCrowd,
    "waiting": Waiting,
    "limit": Limit,
    "calls": Calls,
}


def measure(case: Case) -> dict[str, float]:
    """One measurement of CASE: its usage. What it left is reaped, and counted, after the watch stopped."""
    runtime = case.runtime
    runtime.start_measuring()
    case.once()
    runtime.stop_watch()
    runtime.reap_rest()
    result = runtime.used.as_dict()
    result.update(getattr(case, "memory", {}))
    return result


def answer(command: dict[str, str], runtime: Runtime, rootfs: Path, current: list[Case]) -> dict[str, object]:
    """Do what the benchmark asks of a worker: `prepare` a case, measure it `once`, or `finish` it."""
    try:
        if command["do"] == "prepare":
            current[:] = [CASES[command["case"]](runtime, rootfs)]
            current[0].prepare()
            measure(current[0])  # a warm-up that also finds out whether the runtime does this at all
        elif command["do"] == "once":
            return {"result": measure(current[0])}
        else:
            current[0].finish()
    except Refused as e:
        return {"refused": str(e)}
    except ChildProcessError:
        return {"refused": "the container's init was lost: it is no child of the benchmark's subreaper"}
    except OSError as e:
        return {"refused": f"{type(e).__name__}: {e}"}
    return {}
