"""Builds the four cffi modules through which Python reaches the kernel.

    python native/build.py [--force]

pyruntime/kernel/_shim.abi3.so     system calls (shim.h, shim.c, spawn.h, spawn.c): every command loads it
pyruntime/kernel/_seccomp.abi3.so  libseccomp (filter.h, filter.c): loaded when a filter must be compiled
pyruntime/kernel/_snapshot.abi3.so (snapshot.h, snapshot.c, placement.h, placement.c): only the snapshot has it,
                                   pyruntime/snapshot
pyruntime/kernel/_tracer.abi3.so   (tracer.h, tracer.c, processor.h): only the maker of a snapshot loads it

The headers hold the declarations once, for both readers: the C compiler and cffi. cffi knows no
preprocessor, so this file prepares them for it: see `declarations`. The compiler is called directly:
two translation units and one link need no setuptools, and our own C is held to -Werror while the code
that cffi generates is not.

Environment: CC, the compiler; NATIVE_CFLAGS, options for our own C and for the link; V, to show the commands.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import cffi

TOP = Path(__file__).resolve().parents[1]
NATIVE = TOP / "native"
KERNEL = TOP / "pyruntime" / "kernel"
WORK = TOP / "build" / "shim"


@dataclass(frozen=True)
class Module:
    """One cffi module: `name` below pyruntime.kernel, of the .h and .c of each of `sources`, and its libraries."""

    name: str
    sources: tuple[str, ...]
    libraries: tuple[str, ...] = ()

    @property
    def headers(self) -> list[Path]:
        return [NATIVE / f"{source}.h" for source in self.sources]

    @property
    def codes(self) -> list[Path]:
        return [NATIVE / f"{source}.c" for source in self.sources]

    @property
    def output(self) -> Path:
        return KERNEL / f"{self.name}.abi3.so"


MODULES = (
    Module("_shim", ("shim", "spawn")),
    Module("_seccomp", ("filter",), ("-lseccomp",)),
    Module("_snapshot", ("snapshot", "placement")),
    Module("_tracer", ("tracer",)),
)
CODE = [
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-fstack-protector-strong",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=2",
]
STRICT = ["-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Werror"]
LINK = ["-shared", "-Wl,--as-needed", "-Wl,-z,relro", "-Wl,-z,noexecstack", "-Wl,-O1"]


def declarations(header: str) -> str:
    """The part of a C header that cffi can read.

    Left out: everything between `#ifndef CFFI` (or `#if !defined(CFFI)`) and its `#else` or `#endif`, and
    every other directive (include guard, #include, #pragma). Kept: what stands in `#ifdef CFFI`, and
    `#define NAME NUMBER`, which cffi turns into a constant. Conditions on anything else may not hide
    declarations: ValueError.
    """
    kept: list[str] = []
    visible: list[bool] = []  # one entry for every open #if
    guard = True
    for number, line in enumerate(header.splitlines(), 1):
        words = line.replace("#", " # ", 1).split() if line.lstrip().startswith("#") else []
        if not words:
            kept.append(line if all(visible) else "")
            continue
        directive, rest = words[1] if len(words) > 1 else "", words[2:]
        if directive in ("if", "ifdef", "ifndef"):
            condition = " ".join([directive, *rest]).replace("!defined (", "!defined(")
            if condition in ("ifndef CFFI", "if !defined(CFFI)"):
                visible.append(False)
            elif condition in ("ifdef CFFI", "if defined(CFFI)") or (directive == "ifndef" and guard):
                visible.append(True)
            elif all(visible):
                raise ValueError(f"line {number}: '{line.strip()}' needs an #ifndef CFFI around it")
            else:
                visible.append(True)
            guard = False
        elif directive == "else":
            visible[-1] = not visible[-1]
        elif directive == "endif":
            visible.pop()
        elif directive == "define" and all(visible) and len(rest) == 2 and rest[1][0].isdigit():
            kept.append(line)
            continue
        kept.append("")
    return "\n".join(kept) + "\n"


def stale(output: Path, inputs: list[Path]) -> bool:
    """Whether `output` is missing or older than one of `inputs`."""
    if not output.exists():
        return True
    made = output.stat().st_mtime_ns
    return any(path.stat().st_mtime_ns > made for path in inputs)


def run(command: list[str]) -> None:
    """Runs one compiler command in the checkout; the compiler's own words are the message when it fails.

    Source files are named from there: their names are in the module's symbols, and a checkout at another place is to
    give the same bytes."""
    command = [word.removeprefix(f"{TOP}/") for word in command]
    if os.environ.get("V"):
        print(shlex.join(command), flush=True)
    status = subprocess.run(command, check=False, cwd=TOP).returncode
    if status != 0:
        sys.exit(f"native/build.py: '{command[0]}' failed with status {status}")


def generate(module: Module, target: Path) -> None:
    """Writes cffi's C half of the module, to `target`."""
    builder = cffi.FFI()
    for header in module.headers:
        builder.cdef(declarations(header.read_text()))
    includes = "".join(f'#include "{header.name}"\n' for header in module.headers)
    builder.set_source(f"pyruntime.kernel.{module.name}", includes)
    with contextlib.redirect_stdout(None):  # it prints what it writes
        builder.emit_c_code(str(target))


def build(module: Module) -> None:
    """Compiles and links the module; the old one stays in place until the new one is whole."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    more = shlex.split(os.environ.get("NATIVE_CFLAGS", ""))
    WORK.mkdir(parents=True, exist_ok=True)
    generated = WORK / f"{module.name}.c"
    generate(module, generated)

    objects = [WORK / f"{module.name}.o"]
    include = f"-I{sysconfig.get_paths()['include']}"
    run([*compiler, *CODE, "-w", f"-I{NATIVE}", include, "-c", str(generated), "-o", str(objects[0])])
    for code in module.codes:
        objects.append(WORK / f"{code.stem}.own.o")
        run([*compiler, *CODE, *STRICT, *more, f"-I{NATIVE}", "-c", str(code), "-o", str(objects[-1])])

    fresh = module.output.with_suffix(".new")
    run([*compiler, *LINK, *more, *map(str, objects), *module.libraries, "-o", str(fresh)])
    os.replace(fresh, module.output)


def main() -> None:
    for module in MODULES:
        inputs = [*module.codes, *module.headers, Path(__file__), NATIVE / "bare.h", NATIVE / "processor.h"]
        for path in inputs:
            if not path.exists():
                sys.exit(f"native/build.py: {path} is missing")
        if "--force" in sys.argv[1:] or stale(module.output, inputs):
            build(module)
            print(f"built {module.output.relative_to(TOP)}")


if __name__ == "__main__":
    main()
