"""A coverage-guided fuzzer for configs: it changes JSON values, and keeps what has led to lines not yet seen.

Beside hypothesis, which makes configs from the schema and forgets them: what a rule or a planner looks at behind three
other conditions is found by changes upon changes.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

from pyruntime.spec import shape

JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 5, 1000, 1.5, 2**31, 2**32, 2**63, 2**64, -(2**63),
    "", "/", "/x", "x", "..", "../x", "a\0b", "a\nb", "a\rb\x1b[1m", "\ud800", "é", "x" * 300, "1.0.0", "1.3.0", "0-1",
    "L3:0=f",
    "rw", "ro", "bind", "rbind", "tmpfs", "proc", "idmap", "/proc/self/ns/net",
    [], {}, [1], ["x"], [None], {"a": "b"}, [{}], [[]], {"type": "pid"}, {"path": "/x"},
]  # fmt: skip

PIECES = ("", "/", "..", "\0", " ", "-", "0", ",", "=", "\n", "x", ":", "%", "{", "\\")


class Lines:
    """Which lines of pyruntime were run."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()
        self.fresh = False

    def run(self, function: Callable[[], None]) -> bool:
        """Run it: whether lines were run that never were before."""
        self.fresh = False
        sys.settrace(self._call)
        try:
            function()
        finally:
            sys.settrace(None)
        return self.fresh

    def _call(self, frame: Any, event: str, arg: object) -> Any:
        return self._line if "/pyruntime/" in frame.f_code.co_filename else None

    def _line(self, frame: Any, event: str, arg: object) -> Any:
        key = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and key not in self.seen:
            self.seen.add(key)
            self.fresh = True
        return self._line


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    found = []
    todo = [value]
    while todo:
        one = todo.pop()
        for key in one if isinstance(one, dict) else range(len(one)):
            found.append((one, key))
            if isinstance(one[key], (dict, list)):
                todo.append(one[key])
    return found


class Mutator:
    """Changes configs, with names and values of the schema and of other configs."""

    counts: tuple[int, ...] = (1, 1, 1, 2, 2, 3, 4)  # how many changes at once
    kinds: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)  # what is done: see _change

    def __init__(self, seed: int, corpus: list[Any]) -> None:
        self.random = random.Random(seed)
        self.corpus = corpus
        self.names = sorted(_names(shape.CONFIG))
        self.words = sorted(_words(shape.CONFIG))

    def changed(self, config: Any) -> Any:
        """A copy with one to four changes."""
        # Through JSON, because copy.deepcopy takes ten times as long.
        config = json.loads(json.dumps(config))
        for _ in range(self.random.choice(self.counts)):
            self._change(config)
        return config

    def _change(self, config: Any) -> None:
        found = places(config)
        if not found:
            return
        place, key = self.random.choice(found)
        kind = self.random.choice(self.kinds)
        if kind == 0:
            del place[key]
        elif kind == 1 and isinstance(place[key], dict):
            place[key][self.random.choice(self.names)] = self.value()
        elif kind == 2 and isinstance(place[key], list):
            place[key].append(self.value())
        elif kind == 3 and isinstance(place, list):
            place.insert(key, copy.deepcopy(place[key]))
        elif kind == 4:
            other, name = self.random.choice(places(self.random.choice(self.corpus)) or [(place, key)])
            place[key] = copy.deepcopy(other[name])
        elif kind == 5 and isinstance(place[key], str):
            text = place[key]
            at = self.random.randrange(len(text) + 1)
            place[key] = text[:at] + self.random.choice(PIECES) + text[at + 1 :]
        elif kind == 6 and type(place[key]) is int:
            place[key] += self.random.choice((-1, 1, 2**31, -place[key], 2**32))
        else:
            place[key] = self.value()

    def value(self) -> Any:
        """Something to put anywhere."""
        if self.random.randrange(3):
            return copy.deepcopy(self.random.choice(JUNK))
        return self.random.choice(self.words)

    def inputs(self, lines: Lines, act: Callable[[Any], None]) -> Iterator[int]:
        """Without end: make an input, act on it, and keep it if it has led somewhere new. Gives the corpus's size."""
        while True:
            # The newest half of the time: what was found last is where the unknown begins.
            recent = self.random.random() < 0.5
            base = self.corpus[-1 - self.random.randrange(min(20, len(self.corpus)))] if recent else None
            config = self.changed(base if base is not None else self.random.choice(self.corpus))
            if lines.run(lambda: act(config)):  # noqa: B023
                self.corpus.append(config)
            yield len(self.corpus)


def _names(node: Any) -> set[str]:
    if node[0] == "object":
        found = set(node[1])
        for member in [*node[1].values(), *([node[3]] if node[3] else [])]:
            found |= _names(member)
        return found
    return _names(node[1]) if node[0] == "array" else set()


def _words(node: Any) -> set[str]:
    if node[0] == "enum":
        return set(node[1])
    if node[0] == "object":
        return set().union(*[_words(member) for member in [*node[1].values(), *([node[3]] if node[3] else [])]])
    return _words(node[1]) if node[0] == "array" else set()
