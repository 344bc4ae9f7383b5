"""What holds for every file of the project, and is easier to keep than to find again."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyruntime.cli import main
from pyruntime.features import registry
from pyruntime.plan.step import PHASES
from pyruntime.version import VERSION

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = sorted((CHECKOUT / "pyruntime").rglob("*.py"))
NAMES = "README.md", "CHANGELOG.md", "CONTRIBUTING.md"
DOCUMENTS = [*(CHECKOUT / name for name in NAMES), *sorted((CHECKOUT / "docs").glob("*.md"))]


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_only_the_kernel_package_knows_the_shim(path: Path) -> None:
    shims = {one for one in imports(path) if re.search(r"\b(_shim|_seccomp|ctypes|cffi)\b", one)}
    assert not shims or path.parent.name == "kernel"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_holds_one_thing(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= 500, f"{lines} lines: it holds two things"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name != "__init__.py"], ids=name)
def test_a_module_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name(path)}: {node.name}"


@pytest.mark.parametrize("path", sorted((CHECKOUT / "pyruntime/features/rootfs").glob("*.py")), ids=name)
def test_nobody_opens_by_a_joined_path_below_a_rootfs(path: Path) -> None:
    """features/rootfs/path.py resolves what is below a root: a joined path would follow the container's links."""
    text = path.read_text()
    assert "os.path" not in text
    assert not re.search(r"f\"\{(init\.)?rootfs\}/", text)


def test_every_planner_is_of_a_phase_and_says_so() -> None:
    """The docstring of a planner begins with its phase: who reads the feature need not look at the list."""
    for phase, planner in registry.FEATURES:
        assert phase in PHASES
        words = planner.__doc__ or ""
        if planner.__module__ != "pyruntime.features.rare":
            assert words.startswith(phase.upper()), f"{planner.__module__}.{planner.__name__}: {words!r}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_documents_name_files_that_are_there(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), target
    for mentioned in re.findall(r"`((?:pyruntime|tests|native|tools|oci-spec|docs|conformance)/[\w./-]+)`", text):
        assert any(CHECKOUT.glob(mentioned.rstrip("/"))) or "build" in mentioned, mentioned


def test_the_readme_lists_the_commands() -> None:
    line = next(one for one in (CHECKOUT / "README.md").read_text().splitlines() if one.startswith("| commands |"))
    assert set(re.findall(r"[a-z]+", line.split("|")[2])) == set(main.COMMANDS)


def test_the_handshakes_document_has_every_message() -> None:
    text = (CHECKOUT / "docs/handshake.md").read_text()
    source = (CHECKOUT / "pyruntime/runtime/channel.py").read_text()
    for message in re.findall(r'= "(proc\w+)"', source):
        assert f"| `{message}`" in text, message


def test_the_architectures_document_has_every_phase() -> None:
    text = (CHECKOUT / "docs/architecture.md").read_text()
    table = re.findall(r"^\| ([A-Z]+) \|", text, re.MULTILINE)
    assert [phase.upper() for phase in PHASES] == table


def test_pre_commit_runs_what_make_check_runs() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    (targets,) = re.findall(r"^check: (.*?) ##", makefile, re.MULTILINE)
    hooks = (CHECKOUT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"^ +entry: make (.*)$", hooks, re.MULTILINE) == targets.split()
    assert re.findall(r"repo: (.*)$", hooks, re.MULTILINE) == ["local"]


def test_the_version_is_written_once_and_described() -> None:
    version = subprocess.run([CHECKOUT / "packaging/version.sh"], capture_output=True, text=True, check=True).stdout
    assert version == f"{VERSION}\n"
    changes = (CHECKOUT / "CHANGELOG.md").read_text()
    assert f"\n## {VERSION}\n" in changes
    for name in ("pyproject.toml", "setup.py", "packaging/debian/control", "packaging/pyruntime.spec"):
        assert VERSION not in (CHECKOUT / name).read_text(), name
