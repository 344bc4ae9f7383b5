"""The launcher: what decides which code runs, and whether that code can be overwritten from a container.

Each test compiles the real launcher for a library of its own, whose `main` tells what the interpreter looks
like from inside.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
COMPILE = CHECKOUT / "tools/compile-launcher.sh"
PYTHON = os.path.realpath("/usr/bin/python3")
NOBODY = 65534

REPORT = """
import os, sys

def describe(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None

def main():
    import json
    report = {
        "argv": [os.fsencode(arg).hex() for arg in sys.argv],
        "path": sys.path,
        "environment": dict(os.environ),
        "modules": [getattr(sys.modules[name], "__file__", None) for name in ("json", "encodings", "os")],
        "fds": [describe(fd) for fd in range(64)],
        "exe": os.readlink("/proc/self/exe"),
        "mapped": sorted({line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/" in line}),
        "isolated": sys.flags.isolated,
        "no_site": sys.flags.no_site,
        "stack": [line.split()[0] for line in open("/proc/self/maps") if line.endswith("[stack]\\n")],
    }
    with open(os.path.join(os.path.dirname(__file__), "report.json"), "w") as file:
        json.dump(report, file)
    return 0 if "--version" in sys.argv else 42
"""

# Keeps its executable open across the exec of another program, as an attacker in a container does, and tries
# to write to it when nobody runs it any more (CVE-2019-5736).
OVERWRITE = """
import os

def main():
    exe = os.open("/proc/self/exe", os.O_PATH)
    os.set_inheritable(exe, True)
    script = f"exec 2>&1; echo overwritten >>/proc/self/fd/{exe} && echo WRITTEN"
    os.execv("/bin/busybox", ["sh", "-c", script])
"""

EVIL_LIBRARY = """
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void run(void) { close(open(MARKER, O_CREAT | O_WRONLY, 0666)); }
unsigned int la_version(unsigned int version) { run(); return version; }
"""


class Library:
    """A directory to be LIBRARY of a launcher; its package `pyruntime` has one module."""

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self.launcher = path / "none yet"
        self.site: list[str] = []  # where its dependencies are: at most one word
        self.cli = path / "pyruntime/cli"
        self.cli.mkdir(parents=True)
        (path / "pyruntime/__init__.py").touch()
        (self.cli / "__init__.py").touch()
        (self.cli / "main.py").write_text(source)
        boot = path / "pyruntime/boot"
        boot.mkdir()
        (boot / "__init__.py").touch()
        shutil.copy(CHECKOUT / "pyruntime/boot/archive.py", boot)
        self._copy_what_a_snapshot_needs()
        self.cli.chmod(0o777)
        self.archive = path / "pyruntime.archive"
        self.snapshot = path / "pyruntime.snapshot"
        command = [sys.executable, CHECKOUT / "tools/make-archive.py", self.archive, path, path]
        subprocess.run(command, check=True)

    def _copy_what_a_snapshot_needs(self) -> None:
        kernel = self.path / "pyruntime/kernel"
        kernel.mkdir()
        (kernel / "__init__.py").touch()
        shutil.copy(CHECKOUT / "pyruntime/kernel/_snapshot.abi3.so", kernel)
        shutil.copy(CHECKOUT / "pyruntime/kernel/snapshot.py", kernel)
        (self.path / "pyruntime/boot/snapshot").mkdir()
        shutil.copy(CHECKOUT / "pyruntime/boot/snapshot/__init__.py", self.path / "pyruntime/boot/snapshot")
        backend = importlib.util.find_spec("_cffi_backend")
        assert backend is not None and backend.origin is not None
        shutil.copy(backend.origin, self.path)

    def is_snapshot_used(self, **environment: str) -> bool:
        assert subprocess.run([self.launcher], env=environment).returncode == 42
        return self.report()["exe"].endswith("/pyruntime.start")

    def stack(self) -> str:
        assert subprocess.run([self.launcher]).returncode == 42
        return str(self.report()["stack"])

    def report(self) -> dict[str, Any]:
        """What the last run wrote; a second call fails unless there was another run."""
        file = self.cli / "report.json"
        report: dict[str, Any] = json.loads(file.read_text())
        file.unlink()
        return report


def compile_launcher(output: Path, library: Library, python: str = PYTHON) -> Path:
    command = [COMPILE, output, python, library.archive, library.path, *library.site]
    subprocess.run(command, check=True, env=environment())
    return output


def environment() -> dict[str, str]:
    """Without what turns snapshots off on this machine: these tests are about them."""
    return {**os.environ, "TURNED_OFF": "/nonexistent/no-snapshot", "SNAPSHOT": "yes"}


def compile_with_libc(output: Path, library: Library, python: str = PYTHON) -> Path:
    """As on an architecture that freestanding.h does not know."""
    values = {"PYTHON": python, "ARCHIVE": library.archive, "LIBRARY": library.path}
    values |= dict(zip(["SITE"], library.site, strict=False))
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static"]
    command += [f'-D{name}="{value}"' for name, value in values.items()]
    subprocess.run([*command, CHECKOUT / "native/launcher.c", "-o", output], check=True)
    return output


def compile_with_snapshot(output: Path, library: Library, python: str = PYTHON) -> Path:
    """The interpreter is not started, but its snapshot."""
    compile_launcher(output, library, python)
    shutil.copy(output, library.archive.with_suffix(".start"))
    make_snapshot(library, python)
    return output


def make_snapshot(library: Library, python: str, *options: str) -> None:
    """Of the test's library, whose commands run no containers."""
    command = [CHECKOUT / "tools/make-snapshot.py", "--no-practice", *options, python, library.archive, library.path]
    subprocess.run([sys.executable, *command, *library.site], check=True)
    (library.cli / "report.json").unlink(missing_ok=True)  # of the snapshot's own test


Build = Callable[[Path, Library, str], Path]
BUILDS = {"freestanding": compile_launcher, "libc": compile_with_libc}
if os.uname().machine == "x86_64":
    BUILDS["snapshot"] = compile_with_snapshot


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory that other users can reach; pytest's own is closed to them."""
    for parent in tmp_path, *tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    return tmp_path


@pytest.fixture
def library(folder: Path) -> Library:
    return Library(folder / "library", REPORT)


@pytest.fixture(params=BUILDS)
def launcher(request: pytest.FixtureRequest, folder: Path, library: Library) -> Path:
    return BUILDS[request.param](folder / "pyruntime", library, PYTHON)


def test_interpreter_is_isolated(launcher: Path, library: Library) -> None:
    result = subprocess.run([launcher, "state", "x"], env={}, cwd="/")
    assert result.returncode == 42
    report = library.report()
    assert report["isolated"] == 1
    assert report["no_site"] == 1
    assert report["path"][0] == str(library.path)
    assert "" not in report["path"]
    assert all(entry == str(library.path) or entry.startswith("/usr/lib/python3") for entry in report["path"])


@pytest.mark.parametrize("build", BUILDS)
def test_dependencies_come_after_the_standard_library(build: str, folder: Path, library: Library) -> None:
    """What is installed for all programs of a machine replaces no module of the standard library."""
    sites = [folder / "site", folder / "other"]
    for site in sites:
        site.mkdir()
        for name in "json", "traceback", "hostile":
            (site / f"{name}.py").write_text("raise SystemExit('hostile')")
    library.site = [":".join(map(str, sites))]
    launcher = BUILDS[build](folder / "pyruntime", library, PYTHON)
    assert subprocess.run([launcher], env={}, cwd="/").returncode == 42
    report = library.report()
    assert report["path"][0] == str(library.path)
    assert report["path"][-2:] == [str(site) for site in sites]
    assert report["exe"].endswith("/pyruntime.start") == (build == "snapshot")


def test_arguments_arrive_byte_for_byte(launcher: Path, library: Library) -> None:
    args = [b"", b"-c", b"--root=/a b", b"-h", b"caf\xc3\xa9", b"\xff\xfe", b"'\"\\\n$(id)", b"--"]
    for locale in {}, {"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}:
        subprocess.run([bytes(launcher), *args], env=locale)
        assert [bytes.fromhex(arg) for arg in library.report()["argv"]] == [b"pyruntime", *args]


def test_many_arguments(launcher: Path, library: Library) -> None:
    args = [str(number) for number in range(100_000)]
    subprocess.run([launcher, *args])
    assert len(library.report()["argv"]) == 1 + len(args)


@pytest.fixture
def hostile(folder: Path) -> Path:
    """A working directory as a hostile bundle: each file in it writes `marker` when it is loaded or run."""
    cwd = folder / "bundle"
    cwd.mkdir()
    marker = cwd / "marker"
    # posix: the only way to a file when the interpreter has just begun, in `encodings`.
    python = f"import posix; posix.close(posix.open({str(marker)!r}, posix.O_CREAT))\n"
    for name in "json", "posix", "sitecustomize", "usercustomize", "startup", "os", "io", "pyruntime", "cffi":
        (cwd / f"{name}.py").write_text(python)
    version = Path(PYTHON).name
    for encodings in cwd / "encodings", cwd / "lib" / version / "encodings":
        encodings.mkdir(parents=True)
        (encodings / "__init__.py").write_text(python)
    source = folder / "evil.c"
    source.write_text(EVIL_LIBRARY)
    command = ["cc", "-shared", "-fPIC", f'-DMARKER="{marker}"', source, "-o", cwd / "evil.so"]
    subprocess.run(command, check=True)
    needed = subprocess.run(["readelf", "-d", PYTHON], capture_output=True, text=True, check=True).stdout
    names = [line.split("[")[1].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line]
    assert "libc.so.6" in names
    for name in names:
        shutil.copy(cwd / "evil.so", cwd / name)
    return cwd


HOSTILE = {
    "containerd": {"LD_LIBRARY_PATH": "/opt/containerd/lib:"},
    "preload": {"LD_PRELOAD": "./evil.so"},
    "audit": {"LD_AUDIT": "./evil.so"},
    "pythonpath": {"PYTHONPATH": "."},
    "home": {"PYTHONHOME": "../bundle"},
    "startup": {"PYTHONSTARTUP": "startup.py", "PYTHONINSPECT": "1"},
    "userbase": {"PYTHONUSERBASE": ".", "PYTHONPLATLIBDIR": ".", "PYTHONBREAKPOINT": "startup.f"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_environment_decides_nothing(name: str, launcher: Path, library: Library, hostile: Path) -> None:
    env = {"PATH": ".:/usr/bin:/bin", "HOME": str(hostile), "KEPT": "yes", **HOSTILE[name]}
    result = subprocess.run([launcher, "state"], env=env, cwd=hostile, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (42, "")
    assert not (hostile / "marker").exists()
    report = library.report()
    assert not set(HOSTILE[name]) & set(report["environment"])
    assert report["environment"]["KEPT"] == "yes"
    assert all(file is None or file.startswith("/usr/lib/python3") for file in report["modules"])


@pytest.mark.parametrize("name", ["containerd", "preload", "audit", "pythonpath", "home"])
def test_the_hostile_directory_is_hostile(name: str, hostile: Path) -> None:
    """The interpreter alone falls into each trap: without this, the test above could not fail.

    The false libraries lack the symbols of the true ones: one that is loaded runs or ends the interpreter.
    """
    command = [PYTHON, "-c", "pass"]
    result = subprocess.run(command, env=HOSTILE[name], cwd=hostile, stderr=subprocess.DEVNULL)
    assert (hostile / "marker").exists() or result.returncode == 127


def test_closed_standard_descriptors(launcher: Path, library: Library) -> None:
    command = f"exec {launcher} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command]).returncode == 42
    assert library.report()["fds"][:3] == ["/dev/null"] * 3


def test_descriptors_are_passed_on_and_none_is_added(launcher: Path, library: Library) -> None:
    read, write = os.pipe()
    try:
        subprocess.run([launcher], pass_fds=[read, write])
    finally:
        os.close(read)
        os.close(write)
    fds = library.report()["fds"]
    assert fds[read].startswith("pipe:")
    assert fds[write].startswith("pipe:")
    assert [fd for fd, file in enumerate(fds) if file] == [0, 1, 2, read, write]


@pytest.fixture
def own_python(folder: Path) -> Path:
    """A copy of the interpreter that a test may overwrite."""
    copy = folder / "python3"
    shutil.copy(PYTHON, copy)
    return copy


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("build", BUILDS)
def test_what_runs_cannot_be_overwritten(build: str, folder: Path, own_python: Path) -> None:
    library = Library(folder / "overwrite", OVERWRITE)
    launcher = BUILDS[build](folder / "pyruntime", library, str(own_python))
    program = library.archive.with_suffix(".start") if build == "snapshot" else own_python
    before = digest(program)
    result = subprocess.run([launcher], capture_output=True, text=True)
    assert "Read-only file system" in result.stdout
    assert "WRITTEN" not in result.stdout
    assert digest(program) == before


def test_interpreter_alone_is_overwritten(folder: Path, own_python: Path) -> None:
    """The attack works without the launcher: without this, the test above could not fail."""
    overwrite = Library(folder / "overwrite", OVERWRITE)
    code = f"import sys; sys.path[:0] = {str(overwrite.path)!r},; from pyruntime.cli.main import main; main()"
    before = digest(own_python)
    result = subprocess.run([own_python, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert "WRITTEN" in result.stdout, result
    assert digest(own_python) != before


def test_sealing_leaves_no_mount(launcher: Path, library: Library) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    subprocess.run([launcher])
    exe = library.report()["exe"]
    assert exe in ("/", "/pyruntime.start"), "a path of the host's"
    assert Path("/proc/self/mountinfo").read_text() == before


def test_root_without_mount_rights_runs_a_sealed_copy(folder: Path, own_python: Path) -> None:
    overwrite = Library(folder / "overwrite", OVERWRITE)
    launcher = compile_launcher(folder / "pyruntime", overwrite, str(own_python))
    before = digest(own_python)
    command = ["setpriv", "--bounding-set", "-sys_admin", launcher]
    result = subprocess.run(command, capture_output=True, text=True)
    assert "Operation not permitted" in result.stdout
    assert "WRITTEN" not in result.stdout
    assert digest(own_python) == before


def test_user_runs_an_interpreter_that_is_not_his(launcher: Path, library: Library) -> None:
    assert subprocess.run([launcher], user=NOBODY, group=NOBODY, extra_groups=[]).returncode == 42
    assert library.report()["exe"] == PYTHON  # a snapshot is for root alone


def test_user_runs_a_sealed_copy_of_his_own_interpreter(folder: Path, own_python: Path, library: Library) -> None:
    own_python.chmod(0o555)  # its owner may chmod it back
    os.chown(own_python, NOBODY, NOBODY)
    launcher = compile_launcher(folder / "pyruntime", library, str(own_python))
    assert subprocess.run([launcher], user=NOBODY, group=NOBODY, extra_groups=[]).returncode == 42
    assert library.report()["exe"].startswith("/memfd:pyruntime")


def failure(launcher: Path) -> tuple[int, str]:
    result = subprocess.run([launcher, "state"], capture_output=True, text=True, env={})
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.returncode, result.stderr


def test_missing_interpreter(folder: Path, library: Library) -> None:
    gone = str(folder / "python3.7")
    code, message = failure(compile_launcher(folder / "pyruntime", library, gone))
    assert code == 127
    assert message.startswith(f"pyruntime: cannot start {gone}: no such file; ")


def test_missing_library(folder: Path, library: Library) -> None:
    launcher = compile_launcher(folder / "pyruntime", library)
    shutil.rmtree(library.path)
    code, message = failure(launcher)
    assert code == 127
    assert message == f"pyruntime: cannot start {library.archive}: no such file; install pyruntime again\n"


@pytest.mark.parametrize(
    ("mode", "reason"), [(0o644, "permission denied"), (0o755, "not an executable of this machine")]
)
def test_interpreter_that_cannot_run(folder: Path, library: Library, mode: int, reason: str) -> None:
    broken = folder / "python3"
    broken.write_text("no program")
    broken.chmod(mode)
    code, message = failure(compile_launcher(folder / "pyruntime", library, str(broken)))
    assert code == 126
    assert message == f"pyruntime: cannot start {broken}: {reason}\n"


def test_archive_of_another_version_is_passed_over(launcher: Path, library: Library) -> None:
    """Its byte code would crash the interpreter; a library that was copied to another machine has one."""
    archive = bytearray(library.archive.read_bytes())
    archive[0] ^= 1
    archive[4:] = b"no marshal at all"
    library.archive.write_bytes(archive)
    assert subprocess.run([launcher], env={}).returncode == 42


def test_paths_that_would_become_code_are_refused(folder: Path) -> None:
    command = [COMPILE, folder / "x", PYTHON, "/archive", "/tmp/'+evil+'"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "quotes and backslashes" in result.stderr


def test_the_built_launcher_is_static() -> None:
    launcher = CHECKOUT / "build/bin/pyruntime"
    headers = subprocess.run(["readelf", "-lW", launcher], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in headers
    assert "DYNAMIC" not in headers


@pytest.fixture
def snapshot(folder: Path, library: Library, own_python: Path) -> Library:
    """A library with a snapshot of an interpreter of its own, and the launcher that executes it."""
    if "snapshot" not in BUILDS:
        pytest.skip("native/snapshot.c is not written for this architecture")
    library.launcher = compile_with_snapshot(folder / "pyruntime", library, str(own_python))
    assert library.is_snapshot_used()
    return library


def make_again(library: Library, own_python: Path) -> int:
    make_snapshot(library, str(own_python))
    return library.snapshot.stat().st_ino


def test_snapshot_is_not_used_when_a_source_has_changed(snapshot: Library) -> None:
    main = snapshot.cli / "main.py"
    main.write_text(main.read_text().replace("else 42", "else 43"))
    assert subprocess.run([snapshot.launcher]).returncode == 43


def test_snapshot_is_not_used_with_another_interpreter(snapshot: Library, own_python: Path) -> None:
    """As an update of the distribution's Python leaves it, whose fixed code must run."""
    shutil.copy(PYTHON, own_python.with_suffix(".new"))
    own_python.with_suffix(".new").rename(own_python)
    assert not snapshot.is_snapshot_used()


def test_snapshot_that_is_gone_or_none_is_not_used(snapshot: Library) -> None:
    for content in b"", b"\x7fELF", b"\0" * 100_000, b"pyruntime snapshot 2".ljust(24, b"\0") + b"\0" * 100_000:
        snapshot.snapshot.write_bytes(content)
        assert not snapshot.is_snapshot_used()
    snapshot.snapshot.unlink()
    assert not snapshot.is_snapshot_used()


def test_snapshot_is_made_again_when_it_is_old(snapshot: Library, own_python: Path) -> None:
    made = snapshot.snapshot.stat().st_ino
    assert make_again(snapshot, own_python) == made
    os.utime(snapshot.archive)
    assert make_again(snapshot, own_python) != made


def test_processes_of_a_snapshot_differ_where_they_must(snapshot: Library) -> None:
    """Its memory is the same in all of them; the addresses that the kernel chooses are not."""
    (one, other) = (snapshot.stack() for _ in range(2))
    assert one != other


def test_malloc_grows_in_a_process_of_the_snapshot(snapshot: Library, folder: Path) -> None:
    """Its heap is elsewhere than the snapshot's; more than malloc gets by mmap, in pieces that it gets by brk."""
    assert subprocess.run([snapshot.launcher, *["x" * 5000] * 300]).returncode == 42
    assert len(snapshot.report()["argv"]) == 301
