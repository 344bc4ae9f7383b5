"""The packages of pyruntime are layers: an import goes downwards only, also one inside a function."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = CHECKOUT / "pyruntime"

# From the bottom up. What is on one line does not import each other.
LAYERS = (
    ("errors", "version"),
    ("kernel",),
    ("util",),
    ("spec", "cgroupfs"),
    ("state",),
    ("plan",),
    ("features",),
    ("runtime",),
    ("boot", "criu"),
    ("diagnose",),
    ("commands",),
    ("audit", "trace"),
    ("library", "shim"),
    ("cli", "aio"),  # pyruntime.aio is the library for asyncio
    ("__init__", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# Modules that import a module by a name that is put together, and the package that it is of.
BY_NAME = {
    "__init__": "library",
    "boot/snapshot/__init__": "any: it imports what it is given",
    "cli/completions": "cli",
    "cli/help": "cli",
    "cli/main": "cli",
    "features/cgroups/limits": "features",
    "features/rare": "features",
    "trace/spans": "any: it imports what it is given",
}


def layer(path: Path) -> str:
    """The name in LAYERS of a source file."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    """What of pyruntime a module imports anywhere in it: (name in LAYERS, line)."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "pyruntime":
                found.append((rest.partition(".")[0] or "__init__", node.lineno))
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    own = layer(path)
    wrong = [
        f"line {line}: {other}"
        for other, line in imports(ast.parse(path.read_text()))
        if other != own and RANK[other] >= RANK[own]
    ]
    assert wrong == []


def test_every_import_by_name_is_known() -> None:
    found = {
        str(path.relative_to(PACKAGE).with_suffix(""))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module")
    }
    assert found == set(BY_NAME)


def test_the_layers_are_all_there_is() -> None:
    assert {layer(path) for path in PACKAGE.rglob("*.py")} == set(RANK)


def test_the_architectures_document_has_the_layers() -> None:
    text = (CHECKOUT / "docs/architecture.md").read_text()
    names = [name for names in LAYERS for name in names if not name.startswith("__")]
    missing = [name for name in names if f"`{name}/`" not in text and f"`{name}.py`" not in text]
    assert missing == []
