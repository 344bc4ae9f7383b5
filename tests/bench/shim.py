"""containerd with our shim, and with containerd's shim for runc and for crun, in turn: times and memory.

    python tests/bench/shim.py [--rounds N] [--counts 1,10,50] [--only times,tasks,memory]        (root)

One containerd for all. Times are of whole `ctr` commands, medians, and the median of the ratios of neighbours in
time. Memory is proportional (Pss of smaps_rollup) of all shims, by the number of containers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests")]

from engines import image, machine  # noqa: E402
from engines.candidate import Candidate  # noqa: E402
from engines.containerd import ShimContainerd  # noqa: E402
from support import kernel, leaks, proc  # noqa: E402
from support.bundle import make_base  # noqa: E402
from support.runtime import DEFAULT  # noqa: E402
from support.shim import PROGRAM, Client, Containerd  # noqa: E402

from pyruntime.shim import wire  # noqa: E402
from pyruntime.spec.sample import sample  # noqa: E402

PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
UNIFIED = "/sys/fs/cgroup/unified"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--counts", default="1,10,50")
    parser.add_argument("--only", default="times,tasks,memory")
    options = parser.parse_args()
    machine.cover()
    if os.path.ismount(UNIFIED):
        kernel.umount(UNIFIED, kernel.MNT_DETACH)  # crun refuses v1 with cgroup2 beside it
    folder = Path(tempfile.mkdtemp(prefix=leaks.PREFIX, dir="/tmp"))
    folder.chmod(0o711)
    ours = Candidate("pyruntime", str(DEFAULT))
    found = [(name, shutil.which(name)) for name in ("runc", "crun")]
    candidates = [ours, *(Candidate(name, path) for name, path in found if path)]
    engine = ShimContainerd(folder / "containerd", ours)
    try:
        engine.start()
        engine.load(image.write(folder / "image.tar"))
        if "times" in options.only:
            times(engine, candidates, options.rounds)
        if "tasks" in options.only:
            tasks(folder, candidates, options.rounds)
        if "memory" in options.only:
            memory(engine, candidates, [int(word) for word in options.counts.split(",")])
    finally:
        engine.stop()
        for line in machine.clear(folder):
            print("left behind:", line)


def times(engine: ShimContainerd, candidates: list[Candidate], rounds: int) -> None:
    """`ctr run --rm … true` and `ctr task exec … true`."""
    names = {one: engine.run_detached(candidate=one) for one in candidates}
    compare(
        "ctr run --rm … true",
        [lambda one=one: engine.run("true", candidate=one) for one in candidates],  # type: ignore[misc]
        candidates,
        rounds,
    )
    compare(
        "ctr task exec … true",
        [lambda one=one: engine.exec(names[one], "true") for one in candidates],  # type: ignore[misc]
        candidates,
        rounds,
    )
    # ctr itself: what is below is not the shim's.
    compare("ctr task ls (for comparison)", [lambda: engine.tasks()], candidates[:1], rounds)
    for name in names.values():
        engine.remove(name)


def compare(title: str, actions: list[Callable[[], object]], candidates: list[Candidate], rounds: int) -> None:
    """Do each in turn, and print medians and ratios."""
    for action in actions:
        action()
    taken: list[list[float]] = [[] for _ in actions]
    for number in range(rounds):
        order = list(range(len(actions)))
        for index in order if number % 2 else reversed(order):
            start = time.perf_counter()
            actions[index]()
            taken[index].append((time.perf_counter() - start) * 1000)
    words = [f"{one.name} {statistics.median(ms):.1f} ms" for one, ms in zip(candidates, taken, strict=False)]
    ratios = [
        f"{statistics.median(a / b for a, b in zip(taken[0], other, strict=True)):.2f} x {one.name}"
        for one, other in zip(candidates[1:], taken[1:], strict=False)
    ]
    print(f"{title}: {', '.join(words)}; ours is {', '.join(ratios)}" if ratios else f"{title}: {words[0]}", flush=True)


METHODS = ("start", "Create", "Start", "Create + Start", "Exec + Start", "Exec to its end", "Delete", "delete")


def tasks(folder: Path, candidates: list[Candidate], rounds: int) -> None:
    """The requests themselves, without ctr and containerd: what a container of an overlay costs the shim."""
    base = make_base(folder / "base")
    taken: dict[str, list[list[float]]] = {name: [[] for _ in candidates] for name in METHODS}
    ends = []
    for candidate in candidates:
        place = folder / f"tasks-{candidate.name}"
        place.mkdir()
        program = str(PROGRAM) if candidate == candidates[0] else shutil.which("containerd-shim-runc-v2")
        ends.append(Containerd(place, f"{leaks.PREFIX}-{candidate.name}", str(program)))
    for number in range(rounds):
        order = list(range(len(candidates)))
        for index in order if number % 2 else reversed(order):
            for name, milliseconds in task(ends[index], candidates[index], base, number).items():
                taken[name][index].append(milliseconds)
    for name in METHODS:
        pairs = zip(candidates, taken[name], strict=True)
        medians = [f"{one.name} {statistics.median(ms):.1f} ms" for one, ms in pairs]
        ratios = [
            f"{statistics.median(a / b for a, b in zip(taken[name][0], other, strict=True)):.2f} x {one.name}"
            for one, other in zip(candidates[1:], taken[name][1:], strict=True)
        ]
        print(f"{name}: {', '.join(medians)}; ours is {', '.join(ratios)}", flush=True)
    for end in ends:
        end.close()


def task(end: Containerd, candidate: Candidate, base: Path, number: int) -> dict[str, float]:
    """One container's life: milliseconds of each request."""
    id = f"{leaks.PREFIX}-{candidate.name}-{number}"
    bundle = end.folder / id
    for name in ("rootfs", "upper", "work"):
        (bundle / name).mkdir(parents=True)
    config = sample(rootless=False)
    config["ociVersion"] = "1.0.2"  # crun 1.8 knows no newer one
    config["process"].update(args=["/bin/sleep", "100"], terminal=False)
    config["linux"]["cgroupsPath"] = f"/{leaks.PREFIX}-tasks/{id}"
    (bundle / "config.json").write_text(json.dumps(config))
    layers = [f"lowerdir={base}", f"upperdir={bundle}/upper", f"workdir={bundle}/work"]
    rootfs = [{"type": "overlay", "source": "overlay", "options": layers}]
    os.mkfifo(bundle / "log")
    log = os.open(bundle / "log", os.O_RDWR | os.O_NONBLOCK)
    found: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        found[name] = (now - clock) * 1000
        clock = time.perf_counter()

    address = end.start(bundle, id)
    lap("start")
    client = Client(address)
    request: dict[str, Any] = {"id": id, "bundle": str(bundle), "rootfs": rootfs}
    if "runc-v2" in end.program:
        options = {"binary_name": candidate.path, "root": str(end.folder / "root")}
        request["options"] = wire.any_of("containerd.runc.v1.Options", "Options", options)
    clock = time.perf_counter()
    client.call("Create", "CreateTaskRequest", "PidResponse", **request)
    lap("Create")
    client.call("Start", "ProcessRequest", "PidResponse", id=id)
    lap("Start")
    found["Create + Start"] = found["Create"] + found["Start"]
    spec = {"args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    any = {"type_url": PROCESS, "value": json.dumps(spec).encode()}
    clock = begin = time.perf_counter()
    client.call("Exec", "ExecProcessRequest", id=id, exec_id="one", spec=any)
    client.call("Start", "ProcessRequest", "PidResponse", id=id, exec_id="one")
    lap("Exec + Start")
    client.call("Wait", "ProcessRequest", "WaitResponse", id=id, exec_id="one")
    client.call("Delete", "ProcessRequest", "DeleteResponse", id=id, exec_id="one")
    found["Exec to its end"] = (time.perf_counter() - begin) * 1000
    client.call("Kill", "KillRequest", id=id, signal=9)
    client.call("Wait", "ProcessRequest", "WaitResponse", id=id)
    clock = time.perf_counter()
    client.call("Delete", "ProcessRequest", "DeleteResponse", id=id)
    lap("Delete")
    try:
        client.call("Shutdown", "ShutdownRequest", id=id)
    except ConnectionResetError:
        pass  # the runc shim ends before it answers
    client.close()
    clock = time.perf_counter()
    end.delete(bundle, id)
    lap("delete")
    os.close(log)
    return found


def memory(engine: ShimContainerd, candidates: list[Candidate], counts: list[int]) -> None:
    """Pss a container of all shims, with so many containers."""
    for count in counts:
        for candidate in candidates[:2]:
            names = [engine.run_detached(candidate=candidate) for _ in range(count)]
            time.sleep(0.5)
            shims = {engine.shim(name) for name in names}
            total = sum(pss(shim) for shim in shims)
            kind = "our shim" if candidate == candidates[0] else "containerd's shim"
            print(f"memory, {count} containers, {kind}: {total / count / 1024:.2f} MiB each", flush=True)
            for name in names:
                engine.remove(name)


def pss(pid: int) -> int:
    """The proportional memory of a process in KiB."""
    lines = proc.read(pid, "smaps_rollup").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
