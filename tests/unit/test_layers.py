"""The packages of pyruntime are layers: an import goes downwards only, also one inside a function."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pyruntime.boot.snapshot import make

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
    ("audit", "learn", "trace"),
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


# Modules of one name are the same thing in several packages; elsewhere a name is used once.
VERBS = {path.stem for path in (PACKAGE / "commands").glob("*.py")}  # and `start`, `delete` of the shim's command line
SAME_THING = {
    "console": "the pseudoterminal of a container",
    "devices": "linux.devices and linux.resources.devices",
    "events": "what `events` prints and containerd gets",
    "hooks": "hooks of config.json, and functions as hooks",
    "limits": "linux.resources, and their comparison",
    "messages": "protocol buffers of criu and of containerd",
    "mounts": "mounts, and their comparison",
    "namespaces": "linux.namespaces, and their comparison",
    "process": "a process: calls of the kernel, class of the library, /process of config.json",
    "snapshot": "the snapshot of the interpreter",
    "stats": "resource usage, of cgroups and of resctrl",
    "stdio": "standard input, output and error of a container",
    "version": "the version of pyruntime",
    "doctor": "checks of the host",
}


def test_two_modules_have_one_name_only_for_the_same_thing() -> None:
    modules: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.stem != "__init__":
            modules.setdefault(path.stem, []).append(str(path.relative_to(PACKAGE)))
    several = {name: found for name, found in modules.items() if len(found) > 1}
    assert not {name: found for name, found in several.items() if name not in VERBS | SAME_THING.keys()}
    assert not SAME_THING.keys() - several.keys(), "a name is used once now"


def test_only_util_parses_procfs() -> None:
    """Formats of /proc that have traps (names of commands, escapes) are read by one parser each."""
    parsed = ("/stat", "/mountinfo")
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent == PACKAGE / "util":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
                last = node.values[-1]
                text = str(node.values[0].value) + (str(last.value) if isinstance(last, ast.Constant) else "")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            if text.startswith("/proc/") and text.endswith(parsed) and "\n" not in text and "sys" not in text:
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {text}")
    assert not found


def test_the_lists_of_the_snapshot_name_modules() -> None:
    modules = {
        ".".join(("pyruntime", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    }
    assert not [name for name in make.ALSO if f"pyruntime.{name}" not in modules]
    assert not [name for name in make.NOT if name not in modules]
