"""Makes the snapshot: runs an interpreter until all modules are imported, and writes its memory to a file.

    pyruntime snapshot make

Before that the interpreter is run once to see which objects containers use (placement.py); that is a part which can be
left out. Two more things make the picture fit everywhere on the machine:

* The processor: the C library chooses its fastest routines for it when it starts. It is configured to use those
  that every processor of the architecture has. The launcher compares the processor's features nevertheless.
* Nothing is bound lazily, and no restartable sequence is registered: both are the old process's business.
"""

from __future__ import annotations

import marshal
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from pyruntime.boot.snapshot import file, secrets
from pyruntime.boot.snapshot.interpreter import Interpreter, reset_interrupt
from pyruntime.errors import PyruntimeError

# Everything beyond the x86-64 baseline that glibc 2.36 to 2.42 look at to choose a routine: what a processor has, and
# what is thought to be fast on it, which for the C library implies that it has it.
FEATURES = (
    "AVX AVX2 AVX_Fast_Unaligned_Load AVX512BW AVX512CD AVX512DQ AVX512F AVX512VL BMI1 BMI2 ERMS FMA FMA4 FSRM LZCNT "
    "MOVBE OSXSAVE POPCNT RTM SSE4_1 SSE4_2 SSSE3 XSAVE XSAVEC"
)
ENVIRONMENT = {
    "LD_BIND_NOW": "1",
    "GLIBC_TUNABLES": "glibc.pthread.rseq=0:glibc.cpu.hwcaps=" + ",".join(f"-{name}" for name in FEATURES.split()),
}

# Modules besides the groups of the archive, because here they cost no time: what only some containers and
# commands need. None that imports slow libraries.
ALSO = tuple(
    "cgroupfs commands diagnose.hints features kernel plan runtime state util "
    "cli.list cli.pause cli.ps cli.resume cli.update shim cli.shim cli.serve".split()
)
NOT = (
    "pyruntime.commands.checkpoint",
    "pyruntime.commands.restore",
    "pyruntime.commands.terminal",
    "pyruntime.features.cgroups.systemd_bus",
    "pyruntime.kernel.tracer",
    "pyruntime.shim.checkpoint_images",
)

# As native/launcher.c starts the interpreter.
BOOTSTRAP = """
import sys,posix,marshal,gc
gc.disable()
archive,modules,library,*site=sys.argv[1:]
sys.path[:]=library,*sys.path,*site
sys.argv[:]='pyruntime',
with open(archive,'rb') as file: code,contents=marshal.loads(file.read(65536)[4:])
module=type(sys)('pyruntime.boot.archive')
exec(code,module.__dict__)
module.install(archive,contents)
del archive,library,site,file,code,contents,module
from pyruntime.boot import snapshot
from pyruntime.cli import main
snapshot.take(tuple(modules.split()),main)
"""


class Place:
    """Where a pyruntime's files are. output: the snapshot's. second: the launcher's copy that loads it.
    site: the directory of the dependencies, if that is another one than library's, or several separated by colons."""

    def __init__(self, python: Path, archive: Path, library: Path, site: str = "") -> None:
        self.python = python
        self.archive = archive
        self.library = library
        self.site = site

    @property
    def output(self) -> Path:
        return self.archive.with_suffix(".snapshot")

    @property
    def second(self) -> Path:
        return self.archive.with_suffix(".start")


def make(place: Place, *, practice: bool = True, shared: bool = False, again: bool = False) -> bool:
    """Write the snapshot; False if one was there that is fresh. Raises PyruntimeError, OSError.

    practice: see which objects containers use. shared: all users may use it, and read it. again: even if one is
    fresh."""
    if platform.machine() != "x86_64":
        raise PyruntimeError(f"no snapshot: native/snapshot.c is not written for {platform.machine()}")
    mode = 0o755 if shared else 0o700
    _, sources = contents(place.archive)
    if not again and is_fresh(place, mode):
        return False
    words, environment = command(place)
    with tempfile.TemporaryDirectory(prefix="pyruntime-snapshot-") as directory:
        placement = Path(directory, "placement")
        if practice:
            observe(words, environment, directory)
        environment["PYRUNTIME_PLACEMENT"] = str(placement)
        _make(place, words, environment, sources, mode)
    return True


def command(place: Place) -> tuple[list[str], dict[str, str]]:
    """Return what starts the interpreter: (command line, environment). Raises PyruntimeError."""
    modules, _ = contents(place.archive)
    words = [str(place.python), "-I", "-S", "-X", "utf8", "-c", BOOTSTRAP, str(place.archive), " ".join(modules)]
    words += [str(place.library), *(place.site.split(":") if place.site else ())]
    return words, {**ENVIRONMENT, "LD_PRELOAD": f"{place.library}/pyruntime/kernel/_snapshot.abi3.so"}


def contents(archive: Path) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """Return (modules to be imported, source file -> size and modification time) of an archive. Raises
    PyruntimeError."""
    data = archive.read_bytes()
    if not data.startswith(MAGIC_NUMBER):
        raise PyruntimeError(f"cannot make a snapshot: {archive} is not of this Python")
    _, (index, groups, _) = marshal.loads(data[len(MAGIC_NUMBER) :])
    modules = dict.fromkeys(name for names, _, _ in groups.values() for name in names)
    also = tuple(f"pyruntime.{name}." for name in ALSO)
    modules |= dict.fromkeys(name for name in index if f"{name}.".startswith(also) and name not in NOT)
    sources = {name: (size, time) for name, _, code, size, time in index.values() if code}
    return list(modules), sources


def is_fresh(place: Place, mode: int) -> bool:
    """Return whether a snapshot is there that the launcher would use, of this version, for the same users."""
    try:
        found = file.read(place.output)
        if found is None or place.output.stat().st_mode & 0o777 != mode:
            return False
    except OSError:
        return False
    return not any(file.differences(found, str(place.archive)))


def observe(command: list[str], environment: dict[str, str], directory: str) -> None:
    """Run the interpreter so that it writes to the directory's file `placement` which objects to place side by side
    (placement.py). Where containers cannot be run no file is there, and they lie as they come."""
    try:
        result = subprocess.run(
            command,
            env={**environment, "PYRUNTIME_PLACEMENT": "observe"},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=300,
            check=False,
            preexec_fn=reset_interrupt,
        )
        why = "" if result.returncode == 0 else (result.stderr.strip() or f"exit status {result.returncode}")
    except subprocess.TimeoutExpired as error:
        why = str(error)
    if why:
        print(
            f"note: the snapshot is not arranged for containers, since none can be run here: {why.splitlines()[0]}",
            file=sys.stderr,
        )


def _make(
    place: Place, command: list[str], environment: dict[str, str], sources: dict[str, tuple[int, int]], mode: int
) -> None:
    interpreter = Interpreter(command, environment)
    try:
        interpreter.prepare()
        interpreter.resume()
        if note := interpreter.said():
            print(f"note: the snapshot is not arranged for containers: {note}", file=sys.stderr)
        segments = interpreter.picture()
        registers = interpreter.registers()
        secrets.remove(segments, registers["fs_base"], interpreter.random, registers["rdx"])
        names = {mapping.name for mapping in interpreter.mappings() if mapping.name.startswith("/")}
        names |= set(interpreter.read_string(registers["rcx"]).splitlines())
    finally:
        interpreter.end()
    snapshot = file.Snapshot(*file.machine(), _stamps(names, place.archive, sources), registers["rax"])
    # Made beside its place, for rename(2), where it is tried before.
    with tempfile.TemporaryDirectory(prefix=f".{place.output.name}-", dir=place.output.parent) as directory:
        made = Path(directory, place.output.name)
        fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(fd, mode)
            file.write(fd, snapshot, segments)
        finally:
            os.close(fd)
        shutil.copy(place.second, directory)
        _try(directory, place.second.name)
        os.rename(made, place.output)
    _sync(place.output.parent)


def _stamps(names: set[str], archive: Path, sources: dict[str, tuple[int, int]]) -> dict[str, file.Stamp]:
    """Return what the launcher is to compare: the archive, and what was mapped or imported. Sources as the archive
    knows them, which may have changed since; those of an installation, which does not change, are in the archive's
    digest."""
    stamps = {}
    for name in sorted({*names, str(archive)}):
        size, time = sources.get(name, (0, 0))
        if (name in sources and not time) or not os.path.exists(name):
            continue
        stamps[name] = one = file.stamp(name, str(archive))
        if time:
            stamps[name] = file.Stamp(time, one.changed, size, one.inode, one.place, one.id)
    return stamps


def _try(directory: str, second: str) -> None:
    """Run a command from the snapshot in a directory. Raises PyruntimeError."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        result = subprocess.run(
            [f"/dev/fd/{fd}/{second}", "--version"],
            env={"PYRUNTIME_SNAPSHOT": "require"},
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    finally:
        os.close(fd)
    if result.returncode:
        raise PyruntimeError(
            f"cannot make a snapshot: it does not work here: exit status {result.returncode}: {result.stderr.strip()}"
        )


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fsync(fd)
    os.close(fd)


def remove(place: Place) -> bool:
    """Remove the snapshot: whether there was one. Raises OSError."""
    try:
        os.unlink(place.output)
    except FileNotFoundError:
        return False
    _sync(place.output.parent)
    return True
