"""What the types at the centre say: steps take actors, and `Any` stays where data enters the program."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = sorted((CHECKOUT / "pyruntime").rglob("*.py"))
FEATURES = sorted((CHECKOUT / "pyruntime" / "features").rglob("*.py"))

LIMIT = 90  # lines of pyruntime with the name `Any`, imports of it excepted

# Types of an actor (plan/actors.py).
ACTORS = {"StepActor", "HookActor", "HasPid", "CgroupActor", "ParentActor", "InitActor", "EntrantActor"}


def name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def step_functions() -> dict[str, ast.FunctionDef]:
    """Every function that a planner gives to Step, as `module.function`."""
    known = {f"{path.stem}.{one}": node for path in FEATURES for one, node in functions(path).items()}
    given = set()
    for path in FEATURES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Step" and len(node.args) > 1:
                function = ast.unparse(node.args[1])
                given.add(function if "." in function else f"{path.stem}.{function}")
    return {one: known[one] for one in sorted(given & set(known))}


STEPS = step_functions()


def test_the_step_functions_are_found() -> None:
    assert {"mounts.bind", "hooks.run", "target.join", "user.set_uid", "directories.create", "setting.write"} <= set(
        STEPS
    )
    assert len(STEPS) > 60


@pytest.mark.parametrize("step", STEPS)
def test_a_step_takes_an_actor(step: str) -> None:
    actor, *arguments = [*STEPS[step].args.args, *STEPS[step].args.kwonlyargs]
    assert actor.annotation is not None
    assert ast.unparse(actor.annotation) in ACTORS
    for argument in arguments:
        assert argument.annotation is not None
        assert not re.search(r"\bAny\b", ast.unparse(argument.annotation)), argument.arg


@pytest.mark.parametrize("path", FEATURES, ids=name)
def test_what_acts_like_a_step_takes_an_actor(path: Path) -> None:
    """The helpers of the steps, too."""
    for function, node in functions(path).items():
        if node.args.args and node.args.args[0].arg in ("init", "actor", "entrant"):
            annotation = node.args.args[0].annotation
            assert annotation is not None and ast.unparse(annotation) in ACTORS, function


def test_any_is_rare() -> None:
    """What comes as JSON or from cffi has no type before it is looked at; what is known has one."""
    found: dict[str, int] = {}
    for path in SOURCES:
        lines = set()
        with tokenize.open(path) as file:
            for token in tokenize.generate_tokens(file.readline):
                if token.type == tokenize.NAME and token.string == "Any" and "import" not in token.line:
                    lines.add(token.start[0])
        if lines:
            found[name(path)] = len(lines)
    total = sum(found.values())
    worst = sorted(found.items(), key=lambda one: -one[1])[:10]
    assert total <= LIMIT, f"{total} lines with Any, more than {LIMIT}; most of them in {worst}"


# Each line that ends in "# wrong" is a mistake that the types are there to find; the others are right.
SNIPPET = """
from pyruntime.features.namespaces import hostname
from pyruntime.features.process import rlimits
from pyruntime.plan.actors import HookActor, InitActor, ParentActor
from pyruntime.plan.request import Request
from pyruntime.plan.step import Step
from pyruntime.runtime.init import Init
from pyruntime.runtime.parent import Parent
from pyruntime.criu.restore import Restorer
from pyruntime.features.hooks import RecordActor

right = Step("/hostname", hostname.set_hostname, name="box")
misspelled = Step("/hostname", hostname.set_hostname, nam="box")  # wrong
of_another_type = Step("/hostname", hostname.set_hostname, name=5)  # wrong
too_few = Step("/process/rlimits/0", rlimits.set_limit, limit="RLIMIT_CORE", soft=1)  # wrong

def of_init(init: InitActor) -> None:
    print(init.root_fd)
    print(init.pidfd)  # wrong

def of_parent(parent: ParentActor) -> None:
    print(parent.pidfd)
    print(parent.root_fd)  # wrong

def planner(request: Request) -> int:
    return request.process["oomScoreAdj"]

def misspelt(request: Request) -> int:
    return request.process["oomScoreAdjust"]  # wrong

def got(request: Request) -> int | None:
    return request.process.get("oomScoreAdjust")  # wrong

def actors(init: Init, parent: Parent, restorer: Restorer, record: RecordActor) -> None:
    one: InitActor = init
    two: ParentActor = parent
    three: ParentActor = restorer
    four: HookActor = record
    five: HookActor = init
    six: HookActor = parent
    seven: InitActor = parent  # wrong
"""


def test_the_types_find_mistakes(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "snippet.py").write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--cache-dir", str(tmp_path)]
    done = subprocess.run(
        [*command, str(tmp_path / "snippet.py")], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    found = {int(line) for line in re.findall(r"snippet\.py:(\d+): error", done.stdout)}
    wanted = {number for number, line in enumerate(SNIPPET.split("\n"), 1) if line.endswith("# wrong")}
    assert found == wanted, done.stdout + done.stderr


def test_members_that_are_asked_for_exist() -> None:
    """For the type checker, `get` with a name that the schema lacks is no mistake."""
    schema = json.loads((CHECKOUT / "oci-spec" / "config.schema.json").read_text())
    known = {
        "config": set(schema["properties"]),
        "process": set(schema["$defs"]["process"]["properties"]),
        "linux": set(schema["$defs"]["linux"]["properties"]),
    }
    asked = [
        (name(path), section, member)
        for path in SOURCES
        for section, member in re.findall(r"\brequest\.(config|process|linux)\.get\(\"(\w+)\"", path.read_text())
    ]
    assert len(asked) > 50
    assert [one for one in asked if one[2] not in known[one[1]]] == []
