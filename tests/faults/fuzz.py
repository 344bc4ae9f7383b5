"""Throws made-up configs at pyruntime: `make test-fuzz`.

    python tests/faults/fuzz.py [--inputs N] [--creates N] [--seconds N] [--seed N] [--workers N]

Three kinds of inputs go through load, check and plan, without root: a third from hypothesis, by our schema; half from a
coverage-guided mutator, which starts from the corpus; the rest are process.json files and damaged bytes. Then real
containers are created from configs that are nearly right, and what is left of each is counted.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from support.judging import CONTAINER, judge, judge_bytes, judge_process  # noqa: E402
from support.mutation import Lines, Mutator  # noqa: E402
from support.planning import CORPUS, MINIMAL  # noqa: E402
from support.strategies import damaged, fitting  # noqa: E402

from faults import real  # noqa: E402
from pyruntime.spec import shape  # noqa: E402

PIECES = (b"\xff", b"\0", b"[", b"{", b"]", b"}", b'"', b"\\u", b"NaN", b"1e999", b",", b"null", b"[" * 2000)
ONE_INPUT = 5.0  # seconds that no input may take
FOUND = Path(tempfile.gettempdir()) / "pyruntime-fuzz"


class OutOfTime(Exception):
    """The budget is spent."""


class Counter:
    """Acts on inputs, counts the answers, and writes down the inputs that get none."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.answers: collections.Counter[str] = collections.Counter()
        self.bad: list[str] = []
        self.number = 0

    def act(self, function: Callable[[Any, int], str], value: Any) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime
        self.number += 1
        began = time.monotonic()
        try:
            self.answers[function(value, self.number)] += 1
        except Exception as error:
            self.answers["bad"] += 1
            self.keep(value, "".join(traceback.format_exception(error)))
        if time.monotonic() - began > ONE_INPUT:
            self.keep(value, f"took {time.monotonic() - began:.1f} s")

    def keep(self, value: Any, what: str) -> None:
        self.bad.append(what)
        if len(self.bad) <= 20:
            FOUND.mkdir(exist_ok=True)
            path = FOUND / f"{os.getpid()}-{len(self.bad)}"
            path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
            print(f"{path}:\n{what}", flush=True)


def from_schema(counter: Counter, count: int, number: int) -> None:
    """Configs by hypothesis: valid ones, and ones with up to three changes."""
    if not count:
        return

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(fitting(shape.CONFIG).flatmap(damaged))
    def throw(config: Any) -> None:
        counter.act(judge, config)

    throw()


def by_coverage(counter: Counter, count: int, number: int, start: list[Any], function: Any) -> tuple[int, int]:
    """Inputs that are changes upon changes: (size of the corpus, lines reached) at the end."""
    mutator, lines = Mutator(number, start), Lines()
    inputs = mutator.inputs(lines, lambda config: counter.act(function, config))
    for _ in itertools.islice(inputs, count):
        pass
    return len(mutator.corpus), len(lines.seen)


def damaged_bytes(counter: Counter, count: int, number: int) -> None:
    """Files of the corpus with bytes changed, cut off, or doubled."""
    chosen = random.Random(number)
    files = [path.read_bytes() for path in CORPUS]
    for _ in range(count):
        data = bytearray(chosen.choice(files))
        for _ in range(chosen.randrange(1, 5)):
            at = chosen.randrange(len(data))
            kind = chosen.randrange(4)
            if kind == 0:
                data[at] = chosen.randrange(256)
            elif kind == 1:
                data[at : at + chosen.randrange(20)] = b""
            elif kind == 2:
                data[at:at] = chosen.choice(PIECES)
            elif len(data) > 10:
                del data[max(at, 5) :]
        counter.act(judge_bytes, bytes(data))


def throw(args: argparse.Namespace, number: int, counter: Counter) -> str:
    """A worker's share of the inputs without root: a word on the coverage."""
    share = args.inputs // args.workers
    own = args.seed * 100 + number
    corpus = [json.loads(path.read_text()) for path in CORPUS if path.stat().st_size < 12000]
    corpus.append(json.loads(json.dumps(MINIMAL)))
    word = ""
    try:
        size, lines = by_coverage(counter, share // 2, own, corpus, judge)
        word = f"{lines} lines of pyruntime reached, {size} configs kept for that"
        by_coverage(counter, share // 12, own, [CONTAINER["process"], corpus[0]["process"]], judge_process)
        damaged_bytes(counter, share // 12, own)
        from_schema(counter, share - counter.number, own)
    except OutOfTime:
        word += " (out of time)"
    return word


def work(args: argparse.Namespace, number: int, report) -> None:
    """One worker."""
    start = time.monotonic()
    creates = args.creates // args.workers
    # What is not created for real may take all the time.
    thinking = Counter(start + args.seconds * (0.5 if creates else 1.0))
    word = throw(args, number, thinking)
    print(json.dumps({"inputs": dict(thinking.answers), "bad": len(thinking.bad), "coverage": word}), file=report)
    if creates:
        for line in real.create_many(creates, args.seed * 100 + number, start + args.seconds):
            print(json.dumps(line), file=report)
    report.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs without root (default: 100000)")
    parser.add_argument("--creates", type=int, default=2000, help="real creates, as root (default: 2000)")
    parser.add_argument("--seconds", type=float, default=1200, help="stop after so long (default: 1200)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    if os.geteuid() != 0 and args.creates:
        print("note: not root: no real creates")
        args.creates = 0
    reports = []
    for number in range(args.workers):
        report = tempfile.TemporaryFile("w+")
        pid = os.fork()
        if pid == 0:
            try:
                work(args, number, report)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        reports.append((pid, report))
    lines = []
    failed = 0
    for pid, report in reports:
        failed += os.waitpid(pid, 0)[1] != 0
        report.seek(0)
        lines += [json.loads(line) for line in report]
    return min(tell(lines) + failed, 1)


def tell(lines: list[dict]) -> int:
    """Print the counts: how many inputs had no good answer."""
    bad = 0
    for kind, title in (("inputs", "load, check and plan"), ("created", "real creates"), ("exec", "real execs")):
        answers: collections.Counter[str] = collections.Counter()
        for line in lines:
            answers.update(line.get(kind, {}))
        if answers:
            shown = ", ".join(f"{count} {answer}" for answer, count in sorted(answers.items()))
            print(f"{title}: {sum(answers.values())} tried: {shown}")
    for line in lines:
        bad += line.get("bad", 0)
        for problem in line.get("problems", ()):
            print(problem)
        if "coverage" in line:
            print(f"coverage: {line['coverage']}")
    print(f"inputs without a good answer, and leaks: {bad}")
    return bad


if __name__ == "__main__":
    sys.exit(main())
