"""What the security tier attacks with: a weakened pyruntime, races, and mounts that went astray."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import proc
from support.container import Container
from support.runtime import CHECKOUT, Executable

PYTHON = os.path.realpath("/usr/bin/python3")
# How much longer than usual races may take: 1 is for every day, tests/security/table.py has more.
THOROUGH = float(os.environ.get("PYRUNTIME_TEST_THOROUGH") or 1)

_LAUNCHER = """
import importlib, sys
sys.argv[0] = "pyruntime"
sys.path[:0] = {path}

def replace(place, function):
    \"\"\"Put a function in the place "module.name" of the package: what was there.\"\"\"
    module, _, name = place.rpartition(".")
    module = importlib.import_module("pyruntime." + module)
    old = getattr(module, name)
    function.__module__, function.__name__ = module.__name__, name
    for one in [*sys.modules.values()]:
        if getattr(one, name, None) is old and one.__name__.startswith("pyruntime"):  # some import it by name
            setattr(one, name, function)
    return old

{code}

from pyruntime.cli.main import main
sys.exit(main())
"""


def site() -> str:
    """The directory of the dependencies."""
    import cffi

    return str(Path(cffi.__file__).parents[1])


def weaken(folder: Path, code: str) -> Executable:
    """Make an executable of pyruntime with functions replaced: `code` calls replace("module.name", function).

    A place that is not there is an error: the protection has moved, and the test with it must."""
    program = folder / "weakened.py"
    program.write_text(_LAUNCHER.format(path=[str(CHECKOUT), site()], code=textwrap.dedent(code)))
    launcher = folder / "weakened"
    launcher.write_text(f'#!/bin/sh\nexec {PYTHON} -I -S -X utf8 {program} "$@"\n')
    launcher.chmod(0o755)
    return Executable(str(launcher), "ours", "")


def compile_c(source: Path, output: Path, *flags: str) -> Path:
    """Compile a C program of the tests."""
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", *flags, source, "-o", output], check=True)
    return output


@contextmanager
def racing(exchange: Path, *pairs: tuple[Path, Path]) -> Iterator[subprocess.Popen[bytes]]:
    """Swap the names of each pair, over and over, meanwhile."""
    words = [os.fspath(path) for pair in pairs for path in pair]
    racer = subprocess.Popen([exchange, *words])
    try:
        yield racer
        assert racer.poll() is None, "the racer has ended"
    finally:
        racer.kill()
        racer.wait()


def rounds(most: int, seconds: float) -> Iterator[int]:
    """0, 1, … until so many rounds or so many seconds are over. Says how many there were."""
    deadline = time.monotonic() + seconds * THOROUGH
    number = 0
    while number < most and time.monotonic() < deadline:
        yield number
        number += 1
    print(f"{number} rounds", file=sys.stderr)


def require_made(box: Container, made: int) -> None:
    """After a race: it shows something only if some container came about. Ours must make some; another runtime that
    refuses them all has not been seen to hold, nor to fall."""
    if not made and not box.runtime.is_ours:
        pytest.skip(f"{box.runtime.kind} made no container during the race")
    assert made > 0, "no container was made at all"


def watch_mounts(box: Container) -> Path:
    """Let a createContainer hook write down what is mounted where, before the pivot: the file it writes."""
    seen = box.runtime.folder / f"{box.id}.mountinfo"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"exec cat /proc/self/mountinfo >{seen}"]}
    box.config.setdefault("hooks", {}).setdefault("createContainer", []).append(hook)
    return seen


def mounts_astray(box: Container, seen: Path) -> list[str]:
    """The mounts that a container has, or has brought about, outside its rootfs."""
    usual = [(one.target, one.fstype) for one in proc.parse_mountinfo(proc.read("self", "mountinfo"))]
    astray = []
    for one in proc.parse_mountinfo(seen.read_text()):
        key = (one.target, one.fstype)
        if one.target == str(box.rootfs) or one.target.startswith(f"{box.rootfs}/"):
            continue
        if key in usual:
            usual.remove(key)
        else:
            astray.append(f"{one.fstype} on {one.target}")
    return astray


def tree(folder: Path) -> list[str]:
    """Every name below a folder with kind, mode, owner and content: to be compared."""
    found = []
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        text = os.readlink(path) if path.is_symlink() else path.read_bytes().hex() if path.is_file() else ""
        found.append(f"{path.relative_to(folder)} {status.st_mode:o} {status.st_uid}:{status.st_gid} {text}")
    return found
