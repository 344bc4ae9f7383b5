"""What pyruntime takes of the interpreter exists in every Python that it supports.

Hot commands import the C halves of the standard library, and a release of Python may remove or rename those: 3.12
replaced `_sha256` by `_sha2`, and the shim no longer started. An import inside a function is found only by the command
that calls it, so the sources are searched, and each Python on this machine is asked.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = sorted((CHECKOUT / "pyruntime").rglob("*.py"))
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")

# Modules of the standard library that one of SUPPORTED lacks (sys.stdlib_module_names of each, compared).
CHANGING = set(
    """
    _android_support _apple_support _ast_unparse _bootsubprocess _colorize _compression _crypt _hmac _interpchannels
    _interpqueues _interpreters _ios_support _msi _opcode_metadata _py_warnings _pydatetime _pylong _pyrepl
    _remote_debugging _sha2 _sha256 _sha512 _suggestions _sysconfig _types _wmi _zstd aifc annotationlib asynchat
    asyncore audioop cgi cgitb chunk compression crypt distutils imghdr imp lib2to3 mailcap msilib nis nntplib
    ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib
    """.split()
)

# Run by each interpreter: the names of "MODULE" and "MODULE.NAME" that it lacks, as JSON.
ASK = """
import importlib, json, sys
missing = []
for name in json.loads(sys.argv[1]):
    module, _, attribute = name.rpartition(".")
    try:
        if not (module and hasattr(importlib.import_module(module), attribute)):
            importlib.import_module(name)
    except ImportError:
        missing.append(name)
print(json.dumps(missing))
"""


class Names(ast.NodeVisitor):
    """Collects the modules of the standard library that a source imports, and the names that it uses of them.

    found: "MODULE" and "MODULE.NAME", without those that the source itself can do without: what is imported or used in
    the body of a `try` with a handler for it, or in that handler."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.modules: dict[str, str] = {}  # name in the source -> module
        self.typing = False

    def visit_If(self, node: ast.If) -> None:
        """Skip what is only for mypy."""
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        """Skip what may be missing."""
        handled = {one.id for handler in node.handlers if handler.type for one in ast.walk(handler.type)
                   if isinstance(one, ast.Name)}  # fmt: skip
        if not handled & {"ImportError", "ModuleNotFoundError", "AttributeError"}:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.partition(".")[0] in sys.stdlib_module_names | CHANGING:
                self.found.add(alias.name)
                self.modules[alias.asname or alias.name] = alias.name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and not node.level and node.module.partition(".")[0] in sys.stdlib_module_names | CHANGING:
            self.found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in self.modules:
            self.found.add(f"{self.modules[node.value.id]}.{node.attr}")
        self.generic_visit(node)


def names(text: str) -> set[str]:
    """What a source needs of the standard library."""
    collector = Names()
    collector.visit(ast.parse(text))
    return {name for name in collector.found if not name.startswith("__future__")}


def interpreters() -> Iterator[tuple[str, str]]:
    """The Pythons of this machine, one of each supported version: (version, program)."""
    yield ".".join(map(str, sys.version_info[:2])), sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for version in SUPPORTED:
        if version == ".".join(map(str, sys.version_info[:2])):
            continue
        others = sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python3")))
        for program in filter(None, (shutil.which(f"python{version}"), *others)):
            words = [program, "-I", "-S", "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
            asked = subprocess.run(words, capture_output=True, text=True)
            if asked.stdout.strip() == version:
                yield version, program
                break


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_no_module_is_imported_that_a_supported_python_lacks(path: Path) -> None:
    found = {name.partition(".")[0] for name in names(path.read_text())}
    assert not found & CHANGING, "import it in a `try` with what the other versions of Python have"


@pytest.mark.parametrize(("version", "program"), list(interpreters()))
def test_each_python_here_has_what_is_used(version: str, program: str) -> None:
    """The modules, and the names that are taken from them."""
    used = sorted(set().union(*(names(path.read_text()) for path in SOURCES)))
    assert {"_socket", "_signal.pthread_sigmask", "posix.open"} <= set(used)
    result = subprocess.run([program, "-I", "-c", ASK, json.dumps(used)], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == [], f"Python {version} lacks it"


def test_the_search_finds_what_it_should() -> None:
    text = """
import posix, _socket as socket
if TYPE_CHECKING:
    import imp
def hidden():
    from _sha256 import sha256
    socket.AF_UNIX
try:
    from _crypt import crypt
except ImportError:
    from spwd import getspnam
"""
    assert names(text) == {"posix", "_socket", "_socket.AF_UNIX", "_sha256", "_sha256.sha256"}


def test_the_list_of_versions_begins_with_the_oldest_supported() -> None:
    text = (CHECKOUT / "pyproject.toml").read_text()
    oldest = re.search(r'^requires-python = ">=(.*)"$', text, re.MULTILINE)
    assert oldest is not None and oldest[1] == SUPPORTED[0]
