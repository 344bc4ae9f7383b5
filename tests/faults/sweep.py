"""Breaks off every command at every point, and counts what is left: `make test-faults`.

    python tests/faults/sweep.py [--rootless] [--seconds N] [--every N] [--only WORD] [--workers N]

Kills: before and after every step of the plan, of the parent, of what it has cloned, and of both; before and after
every other call of the parent, and every message, of the parent. Errors: each of ENOSPC, EMFILE, ENOMEM and EINTR in
place of every step; one of the first three, in turn, in place of every other call.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from support.runtime import find  # noqa: E402

from faults import scenarios  # noqa: E402
from faults.harness import BOTH, INIT, PARENT, Fault, Harness  # noqa: E402

STEP_ERRORS = (errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EINTR)
CALL_ERRORS = (errno.ENOSPC, errno.EMFILE, errno.ENOMEM)
# close(2) gives its descriptor back whatever it says; these cannot fail for want of anything.
NEVER_FAIL = ("posix.close", "posix.umask", "posix.setsid", "posix.kill", "process.clone_flag_names")


def faults(points: list[str]) -> Iterator[Fault]:
    """All that is tried at the points of one command, in the order of `Harness.points`."""
    cloned = False
    for number, key in enumerate(points):
        role, moment, name = key.split()[:3]
        is_step = name == "step"
        if role != "parent" or (moment == "after" and name == "process.clone"):
            cloned = True
        if is_step:
            for victim in (PARENT, INIT, BOTH) if cloned else (PARENT,):
                yield Fault(key, victim)
        elif role == "parent" or name.startswith("Channel."):
            yield Fault(key, PARENT)
        if moment == "before" and is_step:
            for error in STEP_ERRORS:
                yield Fault(key, errno=error)
        elif moment == "before" and name not in NEVER_FAIL:
            yield Fault(key, errno=CALL_ERRORS[number % len(CALL_ERRORS)])


def work(number: int, args: argparse.Namespace, deadline: float, report) -> None:
    """One worker: its share of the attempts. Lines of JSON on `report`."""
    folder = Path(tempfile.mkdtemp(prefix="pyrt-faults", dir="/tmp")) / "place"
    folder.parent.chmod(0o711)
    harness = Harness(find(), folder, rootless=args.rootless)
    try:
        _attempts(harness, number, args, deadline, report)
    finally:
        print(json.dumps({"left": harness.close()}), file=report, flush=True)
        folder.parent.rmdir()


def _attempts(harness: Harness, number: int, args: argparse.Namespace, deadline: float, report) -> None:
    chosen = random.Random(args.seed)
    planned = []
    for scenario in scenarios.ROOTLESS if args.rootless else scenarios.ALL:
        if args.only in scenario.name:
            planned += [(scenario, fault) for fault in faults(harness.points(scenario))]
    # Shuffled, so that what a time limit cuts off is a sample of all. The same in every worker.
    chosen.shuffle(planned)
    mine = planned[:: args.every][number :: args.workers]
    for done, (scenario, fault) in enumerate(mine):
        if time.monotonic() > deadline:
            print(json.dumps({"untried": len(mine) - done}), file=report)
            break
        outcome = harness.attempt(scenario, fault)
        line = {
            "scenario": scenario.name,
            "fault": str(fault),
            "kind": "kill" if fault.victim else "error",
            "step": " step " in fault.key,
            "reached": outcome.reached,
            "problems": outcome.problems,
        }
        print(json.dumps(line), file=report, flush=True)


def sweep(args: argparse.Namespace) -> int:
    """Start the workers, and add up what they report: how many problems there were."""
    deadline = time.monotonic() + args.seconds
    reports = []
    for number in range(args.workers):
        report = tempfile.TemporaryFile("w+")
        pid = os.fork()
        if pid == 0:
            try:
                work(number, args, deadline, report)
                os._exit(0)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
        reports.append((pid, report))
    lines = []
    failed = 0
    for pid, report in reports:
        failed += os.waitpid(pid, 0)[1] != 0
        report.seek(0)
        lines += [json.loads(line) for line in report]
    return tell(lines, args.verbose) + failed


def tell(lines: list[dict], verbose: bool) -> int:
    """Print the counts."""
    tried = [line for line in lines if "fault" in line]
    bad = [line for line in tried if line["problems"]]
    untried = sum(line.get("untried", 0) for line in lines)
    left = [what for line in lines for what in line.get("left", ())]
    missed = [line for line in tried if not line["reached"]]
    for line in bad:
        print(f"{line['scenario']}: {line['fault']}")
        for problem in line["problems"]:
            print(f"    {problem.strip()}")
    for what in left:
        print(f"left at the end: {what}")
    if verbose:
        for line in missed:
            print(f"not reached: {line['scenario']}: {line['fault']}")
    print(f"{'scenario':26} {'killed':>7} {'errors':>7} {'problems':>9}")
    for name in dict.fromkeys(scenario.name for scenario in (*scenarios.ALL, *scenarios.ROOTLESS)):
        its = [line for line in tried if line["scenario"] == name]
        kills = sum(line["kind"] == "kill" for line in its)
        problems = sum(bool(line["problems"]) for line in its)
        if its:
            print(f"{name:26} {kills:7} {len(its) - kills:7} {problems:9}")
    steps = sum(line["step"] for line in tried)
    print(
        f"points tried: {len(tried)} ({steps} at steps of the plan, {len(tried) - steps} at other calls and messages),"
        f" not reached: {len(missed)}, not tried for want of time: {untried}"
    )
    print(f"leaks, hangs and bad answers found: {len(bad) + len(left)}")
    # A point that is not reached tests nothing; some calls depend on timing.
    return len(bad) + len(left) + (len(missed) > len(tried) // 20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=480, help="stop after so long (default: 480)")
    parser.add_argument("--every", type=int, default=1, help="only every N-th attempt")
    parser.add_argument("--only", default="", help="only scenarios with this word in their name")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--rootless", action="store_true", help="what an ordinary user does")
    parser.add_argument("--verbose", action="store_true", help="name the points that were not reached")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("the fault sweep needs root: it runs real containers")
        return 1
    return min(sweep(args), 1)


if __name__ == "__main__":
    sys.exit(main())
