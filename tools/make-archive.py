"""Writes the archive that pyruntime/boot/archive.py imports from.

    python tools/make-archive.py OUTPUT TREE SITE [LIBRARY]

TREE holds the package, SITE its dependencies; SITE may be several directories separated by colons. With LIBRARY the
archive is for an installation: TREE will be there, and its sources are not looked at. Without, the archive knows the
time and size of each source, and passes over the ones that have changed. An archive that is up to date is not written.

The file: the interpreter's magic number for byte code; by marshal, in the first HEAD bytes, the code of
pyruntime/boot/archive.py, the index, the groups and the mark; then the code of each module, and that of each group, the
mark before each: a digest of all the code, which no other archive has. Left out of
the code is what only a reader needs: annotations, and docstrings except the first line of a function's, which
is a step's description.
"""

from __future__ import annotations
import __future__

import ast
import hashlib
import marshal
import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType

HEAD = 1 << 16  # read at once by the launcher's bootstrap
MARK_SIZE = 16  # as pyruntime/boot/archive.py has it

# Extension modules that commands load, where they are files: a search in sys.path lists four directories.
EXTENSIONS = ("_cffi_backend", "_json", "_prctl", "_socket", "fcntl", "select", "pyruntime.kernel._shim")


# What a hot command imports: its module, and what that one imports when it is needed (docs/performance.md).
CREATE = ("pyruntime.cgroupfs.layout", "pyruntime.features.registry", "pyruntime.runtime.parent")
GROUPS = {
    "create": ("pyruntime.cli.create", *CREATE),
    "run": (
        "pyruntime.cli.run",
        *CREATE,
        "pyruntime.runtime.exec_fifo",
        "pyruntime.cgroupfs.kill",
        "pyruntime.features.cgroups.remove",
    ),
    "start": ("pyruntime.cli.start", "pyruntime.runtime.exec_fifo"),
    "state": ("pyruntime.cli.state", "pyruntime.cgroupfs.freezer"),
    "kill": ("pyruntime.cli.kill",),
    "delete": ("pyruntime.cli.delete", "pyruntime.cgroupfs.kill", "pyruntime.features.cgroups.remove"),
    "exec": ("pyruntime.cli.exec", "pyruntime.cgroupfs.freezer"),
}


class Lean(ast.NodeTransformer):
    """Takes away what only a reader needs."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        arguments = node.args
        for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
            if one is not None:
                one.annotation = None
        if (text := ast.get_docstring(node, clean=False)) is not None:
            node.body[0] = ast.Expr(ast.Constant(text.partition("\n")[0]))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            node.body[0] = ast.Pass()
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if node.value is None:
            return ast.Pass()
        return ast.Assign([node.target], self.visit(node.value))

    def visit_If(self, node: ast.If) -> ast.stmt:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return ast.Pass()
        self.generic_visit(node)
        return node


def imported(roots: tuple[str, ...], folders: list[Path]) -> tuple[str, ...]:
    """Our modules that are imported with `roots`, in the order in which their imports end."""
    program = f"import sys; sys.path[:0] = {[str(folder) for folder in folders]}\nimport {', '.join(roots)}"
    command = [sys.executable, "-I", "-S", "-X", "importtime", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    names = [line.rpartition("|")[2].strip() for line in result.stderr.splitlines()]
    return tuple(name for name in names if name.partition(".")[0] == "pyruntime" and name not in EXTENSIONS)


def module_name(path: Path) -> str:
    """Return `pyruntime.cli` for pyruntime/cli/__init__.py."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def extension_file(name: str, folders: list[Path]) -> Path | None:
    """Return the file that an import of NAME would load from one of FOLDERS, None when there is none."""
    files = (folder / (name.replace(".", "/") + end) for folder in folders for end in EXTENSION_SUFFIXES)
    return next((file for file in files if file.exists()), None)


def compiled(path: Path, file: str) -> CodeType:
    """Return the code of a module as an import would compile it, without what only a reader needs."""
    tree = ast.parse(path.read_bytes(), file)
    futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    tree.body = [node for node in tree.body if node not in futures]
    if ast.get_docstring(tree, clean=False) is not None:
        del tree.body[0]
    tree = ast.fix_missing_locations(Lean().visit(tree))
    flags = 0
    for feature in (alias.name for node in futures for alias in node.names):
        flags |= getattr(__future__, feature).compiler_flag
    code: CodeType = compile(tree, file, "exec", flags=flags, dont_inherit=True)
    return code


def stamp(path: Path) -> tuple[int, int]:
    """Return size and modification time (ns)."""
    info = path.stat()
    return info.st_size, info.st_mtime_ns


def is_fresh(archive: Path, sources: dict[str, Path]) -> bool:
    """Return whether an archive holds these sources as they are now."""
    if not archive.exists() or archive.stat().st_mtime_ns < Path(__file__).stat().st_mtime_ns:
        return False
    data = archive.read_bytes()
    if not data.startswith(MAGIC_NUMBER):
        return False
    _, (index, *_) = marshal.loads(data[len(MAGIC_NUMBER) :])
    known = {name: (file, size, time) for name, (file, _, code, size, time) in index.items() if code}
    return known == {name: (str(path), *stamp(path)) for name, path in sources.items()}


def main() -> None:
    output, tree, *sites = (Path(name) for name in (*sys.argv[1:3], *sys.argv[3].split(":")))
    library = Path(sys.argv[4]) if len(sys.argv) > 4 else tree
    paths = sorted((tree / "pyruntime").rglob("*.py"))
    sources = {module_name(path.relative_to(tree)): path for path in paths}
    if library == tree and is_fresh(output, sources):
        return

    index: dict[str, tuple[str, int, int, int, int]] = {}
    compiled_modules: dict[str, CodeType] = {}
    codes = bytearray()
    files = {name: str(library / path.relative_to(tree)) for name, path in sources.items()}
    for name, path in sources.items():
        compiled_modules[name] = compiled(path, files[name])
    loader = compiled_modules.get("pyruntime.boot.archive")
    mark = hashlib.blake2b(marshal.dumps(list(compiled_modules.values())), digest_size=MARK_SIZE).digest()
    for name, path in sources.items():
        file = files[name]
        data = mark + marshal.dumps(compiled_modules[name])
        index[name] = (file, HEAD + len(codes), len(data), *(stamp(path) if library == tree else (0, 0)))
        codes += data
    dynamic = [Path(entry) for entry in sys.path if entry.endswith("/lib-dynload")]
    for name in EXTENSIONS:
        extension = extension_file(name, [tree, *sites, *dynamic])
        if extension is not None:
            seen = library / extension.relative_to(tree) if tree in extension.parents else extension
            index[name] = (str(seen), 0, 0, 0, 0)

    groups: dict[str, tuple[tuple[str, ...], int, int]] = {}
    for command, roots in GROUPS.items():
        if not sources.keys() >= set(roots):
            continue  # the package of a test
        names = imported(("pyruntime.cli.main", *roots), [tree, *sites])
        data = mark + marshal.dumps(tuple(compiled_modules[name] for name in names))
        groups[command] = (names, HEAD + len(codes), len(data))
        codes += data

    head = MAGIC_NUMBER + marshal.dumps((loader, (index, groups, mark)))
    if len(head) > HEAD:
        sys.exit(f"{__file__}: {len(head)} bytes are more than HEAD: change it here and in launcher.c")
    fresh = output.with_name(output.name + ".new")
    fresh.write_bytes(head.ljust(HEAD, b"\0") + codes)
    os.replace(fresh, output)


if __name__ == "__main__":
    main()
