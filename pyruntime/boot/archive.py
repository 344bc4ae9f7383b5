"""Imports pyruntime's modules from one file instead of one file each.

A search in sys.path, a few stats, an open and a read for each module add up: fifty of our modules took
7.9 ms, from one file 5.4 ms (minimum of 60 starts). `tools/make-archive.py` writes their code into that file;
the launcher has the interpreter read its head and run this module from it. What is not in the archive is found
as ever, and so are files beside the sources: every module has its `__file__`, every package its `__path__`.

A hot command's modules stand there once more, as one group in the order in which their imports end. They are
loaded at one go when its word stands on the command line: one read, one unmarshal that shares its strings, and
nothing of importlib for each of them.

An update may put another archive in place while a command runs, at whose places other things stand: each piece of code
begins with the archive's mark. What is out of date is loaded from the source.
"""

from __future__ import annotations

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    # Module name -> its file; offset and size of its code in the archive, 0 and 0 for an extension module;
    # size and modification time (ns) of the source, 0 and 0 when that cannot have changed.
    Index = dict[str, tuple[str, int, int, int, int]]
    # Command -> its modules in order; offset and size of the tuple of their codes in the archive.
    Groups = dict[str, tuple[tuple[str, ...], int, int]]

PACKAGE = "/__init__.py"
MARK_SIZE = 16


class Archive:
    """A finder and loader of sys.meta_path; the methods are those that importlib asks for."""

    def __init__(self, path: str, index: Index, mark: bytes) -> None:
        self.path = path
        self.index = index
        self.mark = mark

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the module's spec; None when it is not here, or its source is no longer what it was."""
        found = self.index.get(name)
        if found is None:
            return None
        file, _, code_size, size, time = found
        try:
            if code_size == 0:
                posix.stat(file)
                spec = ModuleSpec(name, ExtensionFileLoader(name, file), origin=file)
                spec.has_location = True
                return spec
            if time != 0:
                now = posix.stat(file)
                if now.st_mtime_ns != time or now.st_size != size:
                    return None
        except OSError:
            return None
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=file)
        if file.endswith(PACKAGE):
            spec.submodule_search_locations = [file[: -len(PACKAGE)]]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """None: an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Read and run the module's code."""
        file, offset, size, _, _ = self.index[module.__name__]
        module.__file__ = file
        code = self._read(offset, size)
        if code is None:
            code = SourceFileLoader(module.__name__, file).get_code(module.__name__)
        exec(code, module.__dict__)

    def load_group(self, names: tuple[str, ...], offset: int, size: int) -> None:
        """Import all modules of a group; none if the source of one has changed, or the archive."""
        specs = [self.find_spec(name) for name in names]
        codes = None if None in specs else self._read(offset, size)
        if codes is None:
            return
        for spec, code in zip(specs, codes, strict=True):
            assert spec is not None
            name = spec.name
            module = type(sys)(name)
            module.__file__ = spec.origin
            module.__loader__ = spec.loader
            module.__spec__ = spec
            if spec.submodule_search_locations is None:
                module.__package__ = name.rpartition(".")[0]
            else:
                module.__package__ = name
                module.__path__ = spec.submodule_search_locations
            sys.modules[name] = module
            exec(code, module.__dict__)
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)

    def _read(self, offset: int, size: int) -> Any:
        """Return what stands at a place of the archive, which is opened each time: an open descriptor might reach a
        container. None when it is another archive by now."""
        try:
            fd = posix.open(self.path, posix.O_RDONLY | posix.O_CLOEXEC)
        except FileNotFoundError:
            return None
        data = posix.pread(fd, size, offset)
        posix.close(fd)
        if data[:MARK_SIZE] != self.mark:
            return None
        return marshal.loads(memoryview(data)[MARK_SIZE:])


def install(path: str, contents: tuple[Index, Groups, bytes]) -> None:
    """Import from the archive first; load the group of the first word of the command line that has one."""
    index, groups, mark = contents
    archive = Archive(path, index, mark)
    sys.meta_path.insert(0, archive)
    for word in sys.argv[1:]:
        if word in groups:
            archive.load_group(*groups[word])
            break
