"""What native/build.py makes of a C header for cffi."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("native_build", CHECKOUT / "native/build.py")
assert _spec is not None
assert _spec.loader is not None
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)

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
    with pytest.raises(ValueError, match=r"shim.h:3: '#ifdef __x86_64__' needs an #ifndef CFFI around it"):
        build.declarations("#ifndef GUARD\n#define GUARD\n#ifdef __x86_64__\nint f(void);\n#endif\n#endif\n")


def test_the_module_has_the_whole_header() -> None:
    declared = set(re.findall(r"\b(shim_\w+)\(", build.HEADER.read_text()))
    assert len(declared) > 10
    module = importlib.import_module(build.MODULE)
    assert declared <= set(dir(module.lib))


def test_stale(tmp_path: Path) -> None:
    source, output = tmp_path / "shim.c", tmp_path / "shim.so"
    source.touch()
    assert build.stale(output, [source])
    output.touch()
    os.utime(source, (1, 1))
    assert not build.stale(output, [source])
    os.utime(output, (0, 0))
    assert build.stale(output, [source])
