"""Copies what the project needs at run time from the virtual environment that runs this, with the same versions.

    .venv/bin/python tools/copy-dependencies.py TARGET

No package index is asked: `make install` works without a network.
"""

from __future__ import annotations

import shutil
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def needed(requirements: list[str]) -> list[str]:
    """Return the names of all distributions that `requirements` need, themselves included."""
    names: dict[str, None] = {}
    wanted = [Requirement(line) for line in requirements]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name in names:
            continue
        names[name] = None
        for line in distribution(name).requires or []:
            further = Requirement(line)
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                further.marker = None
                wanted.append(further)
    return sorted(names)


def copy(name: str, target: Path) -> None:
    """Copy the files of one distribution that are on sys.path: no scripts, no compiled code."""
    files = distribution(name).files
    if files is None:
        sys.exit(f"{sys.argv[0]}: {name} has no list of its files")
    for file in files:
        if ".." in file.parts or "__pycache__" in file.parts or file.is_absolute():
            continue
        to = target / file
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.locate(), to)
        if file.suffix == ".so":
            to.chmod(0o755)


def main() -> None:
    target = Path(sys.argv[1])
    for name in needed(tomllib.loads(PROJECT.read_text())["project"]["dependencies"]):
        copy(name, target)


if __name__ == "__main__":
    main()
