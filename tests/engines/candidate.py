"""The runtimes that the engines are tried with."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from support.runtime import DEFAULT

from engines.command import PATH


@dataclass(frozen=True)
class Candidate:
    """A runtime: its name in the tables and the absolute path of its executable."""

    name: str
    path: str


def names() -> list[str]:
    """The candidates of ENGINES_RUNTIME, a list of NAME or NAME=PATH with commas; ours when there is none."""
    return [word.partition("=")[0] for word in _words()]


def find(name: str) -> Candidate:
    """The candidate of a name: its PATH; else pyruntime is that of the checkout, and others are looked up."""
    given = next(word.partition("=")[2] for word in _words() if word.partition("=")[0] == name)
    if not given and name == "pyruntime":
        given = str(DEFAULT)
    return Candidate(name, program(given or name))


def program(name: str) -> str:
    """The absolute path of a runtime, given by name or by path."""
    path = shutil.which(name, path=PATH)
    assert path, f"no runtime {name} (`make build` makes {DEFAULT})"
    return path


def _words() -> list[str]:
    return (os.environ.get("ENGINES_RUNTIME") or "pyruntime").split(",")
