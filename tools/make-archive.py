"""Writes the archive that pyruntime/archive.py imports from.

    python tools/make-archive.py OUTPUT TREE SITE [LIBRARY]

TREE holds the package, SITE its dependencies. With LIBRARY the archive is for an installation: TREE will be
there, and nobody looks at its sources. Without, the archive knows the time and size of each source, and is
passed over when one has changed. An archive that is up to date is left alone.

The file: the interpreter's magic number for byte code, then, by marshal, pyruntime/archive.py's code and the
arguments of its `install`.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import MAGIC_NUMBER
from pathlib import Path

# Extension modules that every command loads: their files are named here to save a search in sys.path.
EXTENSIONS = ("_cffi_backend", "pyruntime.kernel._shim")


def module_name(path: Path) -> str:
    """`pyruntime.cli` for pyruntime/cli/__init__.py."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def extension_file(name: str, folders: list[Path]) -> Path | None:
    """The file that an import of NAME would load from one of FOLDERS, None when there is none."""
    files = (folder / (name.replace(".", "/") + end) for folder in folders for end in EXTENSION_SUFFIXES)
    return next((file for file in files if file.exists()), None)


def main() -> None:
    output, tree, site = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    library = Path(sys.argv[4]) if len(sys.argv) > 4 else tree
    sources = sorted((tree / "pyruntime").rglob("*.py"))
    stamps: tuple[tuple[str, int, int], ...] = ()
    if library == tree:
        found = ((str(path), path.stat()) for path in sources)
        stamps = tuple((path, info.st_mtime_ns, info.st_size) for path, info in found)
        own = Path(__file__).stat().st_mtime_ns
        if output.exists() and output.stat().st_mtime_ns > own:
            old = output.read_bytes()
            if (
                old[: len(MAGIC_NUMBER)] == MAGIC_NUMBER
                and marshal.loads(old[len(MAGIC_NUMBER) :])[2] == stamps
            ):
                return

    modules: dict[str, tuple[str, bytes | None]] = {}
    loader = None
    for path in sources:
        file = str(library / path.relative_to(tree))
        code = compile(path.read_bytes(), file, "exec", dont_inherit=True)
        name = module_name(path.relative_to(tree))
        modules[name] = (file, marshal.dumps(code))
        if name == "pyruntime.archive":
            loader = code
    for name in EXTENSIONS:
        extension = extension_file(name, [tree, site])
        if extension is not None:
            seen = library / extension.relative_to(tree) if tree in extension.parents else extension
            modules[name] = (str(seen), None)

    fresh = output.with_name(output.name + ".new")
    fresh.write_bytes(MAGIC_NUMBER + marshal.dumps((loader, modules, stamps)))
    os.replace(fresh, output)


if __name__ == "__main__":
    main()
