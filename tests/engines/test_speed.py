"""Speed below one containerd, in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest

from engines import candidate as candidates
from engines import command
from engines.candidate import Candidate
from engines.containerd import Containerd

ROUNDS = 21
# The goals are in the titles. A test fails only well above them: the machine has other work.
NOISE = 1.4


@pytest.fixture(scope="module")
def both(candidate: Candidate) -> tuple[Candidate, Candidate]:
    """Us and runc."""
    return candidate, Candidate("runc", candidates.program("runc"))


def compare(actions: list[Callable[[], object]]) -> tuple[float, str]:
    """Do each action in turn: (the ratio of the first's time to the second's, both in words).

    The median of the ratios of neighbours in time: whatever else the machine does hits both.
    """
    for action in actions:
        action()
    times: list[list[float]] = [[], []]
    for number in range(ROUNDS):
        for index in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            actions[index]()
            times[index].append((time.perf_counter() - start) * 1000)
    ratio = statistics.median(ours / theirs for ours, theirs in zip(*times, strict=True))
    ours, theirs = (statistics.median(one) for one in times)
    return ratio, f"{ours:.1f} ms, runc {theirs:.1f} ms, ratio {ratio:.2f}"


def test_run(containerd: Containerd, both, record_property):
    """ctr run --rm … true (goal: ratio 1.0)"""

    def run(one: Candidate) -> Callable[[], object]:
        return lambda: containerd.run("true", candidate=one)

    ratio, text = compare([run(one) for one in both])
    record_property("measured", text)
    assert ratio <= 1.0 * NOISE, text


def test_exec(containerd: Containerd, both, record_property):
    """RUNTIME exec ID true (goal: ratio 0.8)"""
    names = [containerd.run_detached(candidate=one) for one in both]
    root = f"{containerd.folder}/runtime/{containerd.namespace}"

    def exec_true(one: Candidate, name: str) -> Callable[[], object]:
        return lambda: command.run([one.path, "--root", root, "exec", name, "true"])

    try:
        ratio, text = compare([exec_true(one, name) for one, name in zip(both, names, strict=True)])
    finally:
        for name in names:
            containerd.remove(name)
    record_property("measured", text)
    assert ratio <= 0.8 * NOISE, text


def test_ctr_exec(containerd: Containerd, both, record_property):
    """ctr task exec … true (goal: ratio 1.0)"""
    names = [containerd.run_detached(candidate=one) for one in both]
    try:
        ratio, text = compare([lambda name=name: containerd.exec(name, "true") for name in names])
    finally:
        for name in names:
            containerd.remove(name)
    record_property("measured", text)
    assert ratio <= 1.0 * NOISE, text
