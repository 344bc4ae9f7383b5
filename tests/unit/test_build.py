"""What native/build.py makes of a C header for cffi."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Any

import pytest

from native import build

GUARDED = """
#ifndef SHIM_H
#define SHIM_H
#ifndef CFFI
#include <stdint.h>
#ifdef __cplusplus
int hidden(void);
#endif
#else
typedef int... pid_t;
#endif
#define VERSION 3
#define MODE 0755
#define TEXT "no number"
pid_t shown(int a);
#endif
"""


def words(header: str) -> list[str]:
    return [line for line in build.declarations(header).splitlines() if line.strip()]


def test_only_what_cffi_can_read_is_kept() -> None:
    kept = ["typedef int... pid_t;", "#define VERSION 3", "#define MODE 0755", "pid_t shown(int a);"]
    assert words(GUARDED) == kept


def test_lines_keep_their_numbers() -> None:
    """cffi's error messages name a line, and it has to be the header's."""
    lines = build.declarations(GUARDED).splitlines()
    assert lines.index("pid_t shown(int a);") == GUARDED.splitlines().index("pid_t shown(int a);")


def test_a_header_without_guard() -> None:
    assert words("#pragma once\n#if !defined(CFFI)\nint no;\n#endif\nint yes(void);") == ["int yes(void);"]


def test_a_declaration_behind_another_condition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"line 3: '#ifdef __x86_64__' needs an #ifndef CFFI around it"):
        build.declarations("#ifndef GUARD\n#define GUARD\n#ifdef __x86_64__\nint f(void);\n#endif\n#endif\n")


@pytest.mark.parametrize("module", build.MODULES, ids=lambda module: module.name)
def test_a_module_has_its_whole_header(module: Any) -> None:
    declared = {
        name
        for source, header in zip(module.sources, module.headers, strict=True)
        for name in re.findall(rf"\b({source}_\w+)\(", header.read_text())
    }
    assert len(declared) > 0
    built = importlib.import_module(f"pyruntime.kernel.{module.name}")
    assert declared <= set(dir(built.lib))


def test_stale(tmp_path: Path) -> None:
    source, output = tmp_path / "shim.c", tmp_path / "shim.so"
    source.touch()
    assert build.stale(output, [source])
    output.touch()
    os.utime(source, (1, 1))
    assert not build.stale(output, [source])
    os.utime(output, (0, 0))
    assert build.stale(output, [source])
