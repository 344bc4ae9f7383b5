"""Imports pyruntime's modules from one file instead of one file each.

A search in sys.path, a stat, an open and a read for each module add up: 48 modules took 5.6 ms, and from one
file 3.5 ms. `tools/make-archive.py` writes the code of all of them into that file; the launcher has the
interpreter read it and run this module from it. What is not in the archive is found as ever, and so are files
beside the sources: every module has its `__file__`, every package its `__path__`.
"""

from __future__ import annotations

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

    # Module name -> its file and its code as marshal writes it; no code for an extension module.
    Modules = dict[str, tuple[str, bytes | None]]
    # Source file, modification time in ns, size.
    Stamps = Sequence[tuple[str, int, int]]

PACKAGE = "/__init__.py"


class Archive:
    """A finder and loader of sys.meta_path; the methods are those that importlib asks for."""

    def __init__(self, modules: Modules) -> None:
        self.modules = modules

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The module's spec; None when it is not here, or was loaded already."""
        found = self.modules.get(name)
        if found is None:
            return None
        file, code = found
        if code is None:
            spec = ModuleSpec(name, ExtensionFileLoader(name, file), origin=file)
            spec.has_location = True
            return spec
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=file)
        if file.endswith(PACKAGE):
            spec.submodule_search_locations = [file[: -len(PACKAGE)]]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """None: an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code, which leaves the archive: nothing but memory is lost when that fails."""
        file, code = self.modules.pop(module.__name__)
        module.__file__ = file
        assert code is not None
        exec(marshal.loads(code), module.__dict__)


def is_fresh(stamps: Stamps) -> bool:
    """Whether every source is as it was when the archive was written."""
    try:
        for file, time, size in stamps:
            now = posix.stat(file)
            if now.st_mtime_ns != time or now.st_size != size:
                return False
    except OSError:
        return False
    return True


def install(modules: Modules, stamps: Stamps) -> None:
    """Import from the archive first, unless a source has changed; no stamps, no look at the sources."""
    if is_fresh(stamps):
        sys.meta_path.insert(0, Archive(modules))
