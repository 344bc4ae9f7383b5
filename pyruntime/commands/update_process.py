"""update of the attributes of the processes that run: limits, out-of-memory score, I/O priority, scheduler, CPUs."""

from __future__ import annotations

import posix

from pyruntime.cgroupfs import freezer, processes
from pyruntime.cgroupfs.layout import Layout
from pyruntime.errors import PyruntimeError
from pyruntime.features.process import affinity, ioprio, oom_score_adj, rlimits, scheduler
from pyruntime.kernel import process as calls
from pyruntime.kernel import scheduling
from pyruntime.kernel.constants import ESRCH
from pyruntime.plan.request import Request
from pyruntime.plan.step import Step, execute
from pyruntime.spec import check
from pyruntime.state import cgroup_identity, store
from pyruntime.util import fastjson
from pyruntime.util.fileio import read_file, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime.spec.sections import Config, Process
    from pyruntime.state.store import Record
    from pyruntime.util.log import Log

FIELDS = ("rlimits", "oomScoreAdj", "ioPriority", "scheduler", "execCPUAffinity")

# Attributes of a thread; the others are those of the whole process.
_OF_A_THREAD = ("ioprio.set_priority", "scheduler.set_policy", "affinity.set_final")


class _Task:
    """A process or thread, as the actor of steps that are made for the parent (plan/actors.py, ParentActor)."""

    def __init__(self, pid: int, request: Request, record: Record, log: Log) -> None:
        self.pid = pid
        self.request = request
        self.record = record
        self.log = log
        self.trace: Callable[[Step], None] | None = None
        self.warn = log.warning


def change(record: Record, given: Process, log: Log, *, rootless: bool) -> None:
    """Set attributes, members of `process` of config.json, of all processes of a container. Raises PyruntimeError;
    then they have the old ones again.

    execCPUAffinity: `final` holds for the processes that run, and for those of `exec` as well."""
    config: Config = fastjson.loads(read_file(record.path(store.CONFIG)))
    own = config.get("process") or {}
    merged: Process = {**own, **given}
    if "rlimits" in given:
        kinds = {entry["type"] for entry in given["rlimits"]}
        merged["rlimits"] = [one for one in own.get("rlimits") or () if one["type"] not in kinds] + given["rlimits"]
    problems = check.check({**config, "process": merged})
    check.without_errors([one for one in problems if one.pointer.startswith("/process")], "update")
    request = Request(
        {"process": given, "ociVersion": config["ociVersion"]},
        id=record.id,
        bundle=record.bundle,
        layout=Layout(()),
        rootless=rootless,
    )
    steps = _plan(request)
    cgroups = cgroup_identity.own(record)
    frozen = bool(cgroups) and not freezer.is_frozen(cgroups)
    if frozen:
        freezer.freeze(cgroups)  # so that no process is cloned meanwhile, and misses it
    elif not cgroups:
        log.warning("the container has no cgroup of its own: only its first process is changed")
    undo: list[Callable[[], object]] = []
    try:
        pids = processes.of(cgroups) if cgroups else []
        for step in steps:
            for pid in [record.pid, *(pid for pid in pids if pid != record.pid)]:
                try:
                    _apply(pid, step, request, record, log, undo)
                except (ProcessLookupError, FileNotFoundError):
                    if pid == record.pid:
                        raise
                except PyruntimeError as error:
                    if pid == record.pid or error.errno != "ESRCH":
                        raise
    except BaseException:
        for back in reversed(undo):
            try:
                back()
            except OSError:
                continue  # it has ended
        raise
    finally:
        if frozen:
            freezer.thaw(cgroups)
    config["process"] = merged
    write_atomically(record.directory, store.CONFIG, fastjson.dumps(config))


def _plan(request: Request) -> list[Step]:
    """Return the steps. Limits come last: without CAP_SYS_RESOURCE a hard one can be lowered, and not raised again."""
    given = request.process
    steps = list(affinity.plan_final(request)) if given.get("execCPUAffinity") else []
    steps += ioprio.plan(request)
    if given.get("scheduler"):
        steps += scheduler.plan(request)
    return [*steps, *oom_score_adj.plan(request), *rlimits.plan(request)]


def _apply(pid: int, step: Step, request: Request, record: Record, log: Log, undo: list[Callable[[], object]]) -> None:
    tasks = [int(name) for name in posix.listdir(f"/proc/{pid}/task")] if step.name in _OF_A_THREAD else [pid]
    for task in tasks:
        try:
            back = _restorer(task, step)
            execute([step], _Task(task, request, record, log))
        except (OSError, PyruntimeError) as error:
            if task != pid and error.errno in (ESRCH, "ESRCH"):
                continue  # a thread that has ended
            raise
        undo.append(back)


def _restorer(pid: int, step: Step) -> Callable[[], object]:
    """Return a function that sets again what a step will change."""
    if step.name == "rlimits.set_limit":
        import resource

        number = rlimits.RESOURCES[step.args["limit"]]
        soft, hard = resource.prlimit(pid, number)
        return lambda: calls.set_limit(pid, number, soft % (1 << 64), hard % (1 << 64))
    if step.name == "oom_score_adj.set_score":
        text = read_file(f"/proc/{pid}/oom_score_adj")

        def back() -> None:
            with open(f"/proc/{pid}/oom_score_adj", "w") as file:
                file.write(text)

        return back
    if step.name == "affinity.set_final":
        cpus = posix.sched_getaffinity(pid)
        return lambda: posix.sched_setaffinity(pid, cpus)
    if step.name == "scheduler.set_policy":
        policy, parameter = posix.sched_getscheduler(pid), posix.sched_getparam(pid)
        nice = posix.getpriority(posix.PRIO_PROCESS, pid)

        def restore() -> None:
            posix.sched_setscheduler(pid, policy, parameter)
            posix.setpriority(posix.PRIO_PROCESS, pid, nice)

        return restore
    io = scheduling.io_priority(pid)
    return lambda: scheduling.set_io_priority(pid, *io)
