#!/usr/bin/env python3
"""Compare the speed of this runtime with runc and crun on one bundle.

Every runtime has a worker process (worker.py) in a mount namespace of its own. A round measures each runtime
once, in an order that turns from round to round, so that a slow moment of the machine meets all alike. Times
are medians in milliseconds; what matters are the ratios, which are of medians of one run.

Needs root, busybox-static and at least one runtime. Leaves nothing behind.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import bundles
from cases import CASES, Case, Crowd, answer
from worker import Runtime, separate

HERE = Path(__file__).resolve().parent
OURS = "pyruntime"

TIMES = ("wall", "cpu", "faults")
HAVE_A_FLOOR = {"run", "parallel", "limit"}  # cases that floor.c does, too

# What is asked of the ratio ours / other: (case, wall or cpu, other, at most).
GOALS = [
    ("run", "wall", "runc", 0.55),
    ("run", "cpu", "runc", 0.45),
    ("run", "wall", "crun", 1.3),
    ("run-docker", "wall", "runc", 0.5),
    ("lifecycle", "wall", "runc", 0.75),
    ("state", "wall", "runc", 1.2),
    ("exec", "wall", "runc", 0.6),
    ("parallel", "wall", "runc", 0.6),
]
# What this case may take with 500 containers alive, of what it takes alone.
GROWTH_CASE, GROWTH = "lifecycle", 1.1
# What ours may take at most, in KiB: (case, what, at most).
SIZES = [("waiting", "private", 1024), ("limit", "limit", 1229)]

Rows = list[dict[str, float]]  # measurements, see worker.Usage
Samples = dict[str, dict[str, Rows]]  # by case and runtime


class Worker:
    """The benchmark's end of a worker process: one JSON line to it, one line back."""

    def __init__(self, name: str, path: str, home: Path, rootfs: Path) -> None:
        self.name = name
        ask_read, ask_write = os.pipe()
        tell_read, tell_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ask_write)
            os.close(tell_read)
            self._serve(name, path, home, rootfs, ask_read, tell_write)
        os.close(ask_read)
        os.close(tell_write)
        self.ask, self.tell = open(ask_write, "w"), open(tell_read)

    def _serve(self, name: str, path: str, home: Path, rootfs: Path, ask: int, tell: int) -> None:
        """The worker itself. Never returns."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent closes the pipe, and we clean up
        runtime, current = None, list[Case]()
        try:
            separate()
            runtime = Runtime(name, path, home)
            with open(ask) as questions, open(tell, "w") as answers:
                for line in questions:
                    reply = answer(json.loads(line), runtime, rootfs, current)
                    print(json.dumps(reply), file=answers, flush=True)
        except (OSError, KeyboardInterrupt) as e:
            print(f"bench: {name}: {e}", file=sys.stderr)
        finally:
            if runtime is not None:
                runtime.remove_all()
            os._exit(0)

    def do(self, what: str, case: str = "") -> dict[str, object]:
        print(json.dumps({"do": what, "case": case}), file=self.ask, flush=True)
        line = self.tell.readline()
        if not line:
            raise SystemExit(f"bench: the worker of {self.name} died")
        reply: dict[str, object] = json.loads(line)
        return reply

    def close(self) -> None:
        """Tell the worker that this was all. Later workers hold this pipe too: close all, then `wait`."""
        self.ask.close()
        self.tell.close()

    def wait(self) -> None:
        os.waitpid(self.pid, 0)


def runtimes(also: list[str]) -> dict[str, str]:
    """Name -> absolute path of every runtime to compare; ours first. Missing ones are named on stderr."""
    wanted = {
        OURS: os.environ.get("PYRUNTIME") or str(HERE.parent.parent / "build/bin/pyruntime"),
        "runc": os.environ.get("RUNC", "runc"),
        "crun": os.environ.get("CRUN", "crun"),
    }
    for pair in also:
        name, _, path = pair.partition("=")
        if not path:
            raise SystemExit(f"bench: --also {pair}: want NAME=PATH")
        wanted[name] = path
    found = {}
    for name, path in wanted.items():
        full = shutil.which(path)
        if full is None:
            print(f"bench: no {name}: {path} is not an executable; left out", file=sys.stderr)
        else:
            found[name] = os.path.abspath(full)
    return found


def tell_of_snapshot(path: str) -> None:
    """In a checkout where somebody works, ours may be slow for a reason that no user has."""
    result = subprocess.run([path, "doctor", "--format", "json"], capture_output=True, check=False)
    try:
        found = next(check for check in json.loads(result.stdout)["checks"] if check["subject"] == "snapshot")
    except (ValueError, KeyError, StopIteration):
        return
    if found["status"] != "ok":
        print(f"note: {found['found']}, not its snapshot; hint: {found['hint']}", file=sys.stderr)


def run_case(case: str, workers: list[Worker], rounds: int) -> tuple[dict[str, Rows], dict[str, str]]:
    """Measure CASE on every worker ROUNDS times; returns measurements and, by runtime, why there are none."""
    rounds = max(1, rounds // CASES[case].share)
    samples: dict[str, Rows] = {}
    refused: dict[str, str] = {}
    for worker in workers:
        reply = worker.do("prepare", case)
        if "refused" in reply:
            refused[worker.name] = str(reply["refused"])
    able = [w for w in workers if w.name not in refused]
    for turn in range(rounds):
        shift = turn % max(1, len(able))
        for worker in able[shift:] + able[:shift]:
            if worker.name in refused:
                continue
            reply = worker.do("once")
            if "refused" in reply:
                refused[worker.name] = f"round {turn + 1}: {reply['refused']}"
                samples.pop(worker.name, None)
            else:
                samples.setdefault(worker.name, []).append(reply["result"])  # type: ignore[arg-type]
    for worker in workers:
        worker.do("finish")
    return samples, refused


def run_in_crowd(case: str, alone: str, workers: list[Worker], rounds: int) -> tuple[Samples, dict[str, str]]:
    """Measure CASE among 500 containers, and ALONE half of the rounds before and half after. One runtime after the
    other, so that there are never more: the kernel bears them all."""
    samples: Samples = {case: {}, alone: {}}
    refused: dict[str, str] = {}
    rounds = max(2, rounds // CASES[case].share)
    for worker in workers:
        for one, count in ((alone, rounds // 2), (case, rounds), (alone, rounds // 2)):
            reply = worker.do("prepare", one)
            for _ in range(count):
                if "refused" in reply:
                    refused[worker.name] = str(reply["refused"])
                    break
                reply = worker.do("once")
                if "result" in reply:
                    samples[one].setdefault(worker.name, []).append(reply["result"])  # type: ignore[arg-type]
            worker.do("finish")
    return samples, refused


def median(samples: Samples, case: str, name: str, what: str) -> float | None:
    """Median of WHAT (wall, cpu: seconds) or None when that runtime has no measurement of CASE."""
    rows = samples.get(case, {}).get(name)
    return statistics.median(row[what] for row in rows) if rows else None


def ratio(samples: Samples, case: str, other: str, what: str) -> float | None:
    mine, theirs = median(samples, case, OURS, what), median(samples, case, other, what)
    return mine / theirs if mine is not None and theirs else None


def print_case(case: str, samples: Samples, refused: dict[str, str], names: list[str]) -> None:
    """Print one case: a line a runtime."""
    label = CASES[case].label
    for name in names if case in HAVE_A_FLOOR else [name for name in names if name != "floor"]:
        rows = samples[case].get(name)
        if not rows:
            print(f"{label:<25} {name:<10} skipped: {refused.get(name, 'not measured')}")
        elif counts := {what: rows[0][what] for what in rows[0] if what not in TIMES and what != "rss"}:
            unit = "" if case == "calls" else " KiB"
            print(f"{label:<25} {name:<10} " + ", ".join(f"{what} {value:.0f}{unit}" for what, value in counts.items()))
        else:
            walls = [row["wall"] * 1000 for row in rows]
            cpu = statistics.median(row["cpu"] * 1000 for row in rows)
            faults = statistics.median(row["faults"] for row in rows)
            times = f"{statistics.median(walls):8.1f} {min(walls):8.1f} {cpu:8.1f} {faults:8.0f}"
            line = f"{label:<25} {name:<10} {times}"
            if name == OURS:
                for other in names[1:3]:
                    wall, cpus = ratio(samples, case, other, "wall"), ratio(samples, case, other, "cpu")
                    if wall is not None and cpus is not None:
                        line += f"   {wall:.2f} wall {cpus:.2f} cpu of {other}'s"
            print(line)
        label = ""
    sys.stdout.flush()


def check(samples: Samples) -> bool:
    """Print each goal and whether it is met; True when all are."""
    good = True
    for case, what, other, limit in GOALS:
        if case not in samples:
            continue
        value = ratio(samples, case, other, what)
        met = value is not None and value <= limit
        good = good and met
        shown = "not measured" if value is None else f"{value:.2f}"
        print(f"{'ok    ' if met else 'MISSED'} {CASES[case].label}: {what} {shown} of {other}'s, goal {limit}")
    for case, what, most in SIZES:
        size = median(samples, case, OURS, what)
        if size is not None:
            good = good and size <= most
            print(f"{'ok    ' if size <= most else 'MISSED'} {CASES[case].label}: {size:.0f} KiB, goal {most}")
    return good


def print_growth(case: str, alone: str, samples: Samples) -> bool:
    """Print what a case among 500 containers takes of what it takes alone; True if ours is within its goal."""
    good = True
    for name in samples[case]:
        walls, cpus = ([median(samples, one, name, what) or 0.0 for one in (case, alone)] for what in ("wall", "cpu"))
        if not walls[1] or not cpus[1]:
            continue
        text = f"{'':<25} {name:<10} of alone: {walls[0] / walls[1]:.2f} wall, {cpus[0] / cpus[1]:.2f} cpu"
        if name == OURS and alone == GROWTH_CASE:
            good = walls[0] <= GROWTH * walls[1]
            text += f"   {'ok' if good else 'MISSED'}, goal {GROWTH}"
        print(text)
    return good


def build_floor(folder: Path) -> str:
    """Compile floor.c: the path of the program."""
    program = folder / "floor-program"
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run([*compiler, "-std=gnu11", "-O2", "-static", HERE / "floor.c", "-o", program], check=True)
    return str(program)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="PYRUNTIME, RUNC, CRUN: paths of the runtimes"
    )
    parser.add_argument("--rounds", type=int, default=30, help="measurements of each case (30)")
    parser.add_argument("--only", action="append", choices=list(CASES), help="this case (may be given again)")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=PATH", help="one more runtime")
    parser.add_argument("--json", metavar="FILE", help="write every measurement (seconds, KiB) to FILE")
    parser.add_argument("--check", action="store_true", help="exit 1 if a goal is missed")
    args = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root (mount namespaces, cgroups)")
    found = runtimes(args.also)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the workers are told to clean up
    names = list(found)
    wanted = args.only or [name for name, case in CASES.items() if case.by_default]
    samples: Samples = {}
    all_refused: dict[str, dict[str, str]] = {}
    base = Path(tempfile.mkdtemp(prefix="pyruntime-bench."))
    workers: list[Worker] = []
    good = True
    try:
        base.chmod(0o755)
        bundles.make_rootfs(base / "rootfs")
        os.environ["FLOOR_ROOTFS"] = str(base / "rootfs")
        if HAVE_A_FLOOR & set(wanted):
            found["floor"] = build_floor(base)
            names.append("floor")
        for name, path in found.items():
            workers.append(Worker(name, path, base / name, base / "rootfs"))
        machine = f"Linux {platform.release()}, {os.cpu_count()} CPUs"
        print(f"{args.rounds} rounds, interleaved; {machine}; milliseconds")
        print(f"{'case':<25} {'runtime':<10} {'median':>8} {'min':>8} {'cpu':>8} {'faults':>8}")
        tell_of_snapshot(found[OURS])
        for case in wanted:
            kind = CASES[case]
            if issubclass(kind, Crowd) and kind.alone:
                found_here, all_refused[case] = run_in_crowd(case, kind.alone, workers, args.rounds)
                samples[case] = found_here[case]
                print_case(case, samples, all_refused[case], names)
                good = print_growth(case, kind.alone, found_here) and good
                continue
            samples[case], all_refused[case] = run_case(case, workers, args.rounds)
            print_case(case, samples, all_refused[case], names)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    finally:
        for worker in workers:
            worker.close()
        for worker in workers:
            worker.wait()
        shutil.rmtree(base, ignore_errors=True)
    if args.json:
        record = {"runtimes": found, "kernel": platform.release(), "samples": samples, "refused": all_refused}
        Path(args.json).write_text(json.dumps(record, indent=1) + "\n")
    return 0 if not args.check or (check(samples) and good) else 1


if __name__ == "__main__":
    sys.exit(main())
