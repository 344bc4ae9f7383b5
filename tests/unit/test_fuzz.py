"""A short version of `make test-fuzz`: whatever is thrown at load, check and plan, there is one line of answer."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.judging import CONTAINER, judge, judge_bytes, judge_process
from support.mutation import Lines, Mutator
from support.planning import CORPUS, MINIMAL
from support.strategies import damaged, fitting

from pyruntime.spec import shape

SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
FILES = [path.read_bytes() for path in CORPUS]


@SETTINGS
@given(fitting(shape.CONFIG).flatmap(damaged), st.integers(0, 104))
def test_made_up_configs(config: Any, number: int) -> None:
    judge(config, number)


@SETTINGS
@given(fitting(shape.PROCESS).flatmap(damaged), st.integers(0, 1))
def test_made_up_processes(process: Any, number: int) -> None:
    judge_process(process, number)


@SETTINGS
@given(st.sampled_from(FILES), st.integers(0, 4000), st.binary(max_size=3))
def test_damaged_files(data: bytes, place: int, more: bytes) -> None:
    judge_bytes(data[:place] + more + data[place + 1 :])


def test_changes_upon_changes() -> None:
    """The mutator finds more than it was given: it keeps configs that have led to new lines."""
    start = [json.loads(json.dumps(MINIMAL)), {**CONTAINER}]
    mutator, lines = Mutator(1, start), Lines()
    inputs = mutator.inputs(lines, judge)
    for _ in range(400):
        size = next(inputs)
    assert size > 12
    assert len(lines.seen) > 200
