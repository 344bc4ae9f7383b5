"""`make install`: what it leaves on a machine, that it works however it is called; and `make uninstall`."""

from __future__ import annotations

import marshal
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import CodeType

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHON = os.path.realpath("/usr/bin/python3")
SNAPSHOT = os.uname().machine == "x86_64"  # there is none elsewhere
UNCHECKED_HASH = 1  # flags field of a .pyc, PEP 552


def make(*arguments: str) -> None:
    result = subprocess.run(["make", "-s", *arguments], cwd=CHECKOUT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def tree(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*")}


def install(prefix: Path) -> Path:
    """An installation, in a prefix where something else is installed already."""
    (prefix / "bin").mkdir(parents=True)
    (prefix / "lib/other").mkdir(parents=True)
    (prefix / "bin/other").touch()
    make("install", f"PREFIX={prefix}")
    return prefix


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation that no test changes."""
    return install(tmp_path_factory.mktemp("install") / "prefix")


@pytest.fixture
def library(prefix: Path) -> Path:
    return prefix / "lib/pyruntime"


def run(prefix: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && cd / && exec "$@"', str(CHECKOUT)]
    command += ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
    return subprocess.run(
        [*command, str(prefix / "bin/pyruntime"), *arguments], capture_output=True, text=True, timeout=60
    )


def test_it_works_without_environment_and_without_the_checkout(prefix: Path) -> None:
    result = run(prefix, "--version")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("pyruntime ")
    assert result.stderr == ""


def test_it_works_with_a_hostile_environment(prefix: Path, tmp_path: Path) -> None:
    for name in "json", "cffi", "posix", "sitecustomize", "pyruntime":
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hostile')")
    result = run(
        prefix,
        "--version",
        LD_LIBRARY_PATH="/opt/containerd/lib:",
        PYTHONPATH=str(tmp_path),
        PYTHONHOME=str(tmp_path),
        PYTHONSTARTUP=str(tmp_path / "json.py"),
        PYTHONVERBOSE="1",
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_command_that_fails_says_why_in_one_line(prefix: Path, tmp_path: Path) -> None:
    result = run(prefix, "--root", str(tmp_path), "state", "nosuch")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "does not exist" in result.stderr


@pytest.mark.skipif(not SNAPSHOT, reason="native/snapshot.c is not written for this architecture")
def test_the_installation_runs_from_its_snapshot(prefix: Path, library: Path) -> None:
    second = os.stat(library / "pyruntime.start")
    command = [prefix / "bin/pyruntime", "validate", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={})
    try:
        deadline = time.monotonic() + 30
        while (found := os.stat(f"/proc/{process.pid}/exe").st_ino) != second.st_ino and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.communicate(b"{}")
    assert found == second.st_ino


def test_every_dependency_is_there(library: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = [{str(library)!r}, '{library}/dependencies'];"
        "import _cffi_backend, _prctl, cffi, jeepney, jsonschema, prctl, pyruntime.kernel._shim;"
        "modules = _cffi_backend, cffi, jeepney, jsonschema, prctl, pyruntime.kernel._shim;"
        "print(*(module.__file__ for module in modules))"
    )
    output = subprocess.run([PYTHON, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    *dependencies, ours = output.split()
    assert all(file.startswith(f"{library}/dependencies/") for file in dependencies)
    assert ours.startswith(f"{library}/pyruntime/")


def test_a_program_with_the_library_in_its_path_keeps_its_own_modules(library: Path, tmp_path: Path) -> None:
    """PYTHONPATH: our copies of attrs, cffi and the others come after what the program has, and serve what it lacks."""
    (tmp_path / "attrs.py").write_text("own = True")
    (tmp_path / "jsonschema.py").write_text("own = True")
    assert sorted(os.listdir(library)) == [
        *("dependencies", "oci-spec", "pyruntime", "pyruntime.archive"),
        *(["pyruntime.snapshot", "pyruntime.start"] if SNAPSHOT else []),
    ]
    code = (
        f"import sys; sys.path.append({str(tmp_path)!r})\n"  # as site-packages: behind PYTHONPATH
        "import attrs, jsonschema, pyruntime\n"
        "assert attrs.own and jsonschema.own\n"
        "print(pyruntime.Container('none').root)\n"
        "import _cffi_backend, attrs\n"
        "print(_cffi_backend.__file__)\n"
    )
    words = [PYTHON, "-S", "-c", code]
    result = subprocess.run(words, capture_output=True, text=True, env={"PYTHONPATH": str(library)}, cwd="/")
    assert result.returncode == 0, result.stderr
    root, backend = result.stdout.split()
    assert root == "/run/pyruntime"
    assert backend.startswith(f"{library}/dependencies/")


def test_the_module_works_from_the_path(prefix: Path, library: Path) -> None:
    words = [PYTHON, "-S", "-m", "pyruntime", "--version"]
    result = subprocess.run(words, capture_output=True, text=True, env={"PYTHONPATH": str(library)}, cwd="/")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == run(prefix, "--version").stdout


def test_schemas_are_installed_where_the_checkout_has_them(library: Path) -> None:
    schemas = {str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob("oci-spec/**/*.json")}
    assert schemas
    assert all((library / name).is_file() for name in schemas)


def test_only_root_can_change_what_runs(prefix: Path) -> None:
    for path in prefix / "bin/pyruntime", prefix / "lib/pyruntime", *(prefix / "lib/pyruntime").rglob("*"):
        info = path.lstat()
        assert (info.st_uid, info.st_gid) == (0, 0), path
        assert not stat.S_ISLNK(info.st_mode), path
        assert not info.st_mode & 0o022, path
        if path.name == "pyruntime.snapshot":
            assert info.st_mode & 0o777 == 0o700, path
        else:
            assert info.st_mode & 0o444 == 0o444, path


def code_file(pyc: Path) -> str:
    code = marshal.loads(pyc.read_bytes()[16:])
    assert isinstance(code, CodeType)
    return code.co_filename


def test_every_module_is_compiled_and_never_checked(library: Path) -> None:
    sources = list((library / "pyruntime").rglob("*.py"))
    assert len(sources) > 20
    version = Path(PYTHON).name.replace("python", "cpython-").replace(".", "")
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.{version}.pyc"
        flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
        assert flags == UNCHECKED_HASH, compiled
        assert code_file(compiled) == str(source)


def test_a_run_writes_nothing_into_the_library(prefix: Path, library: Path, tmp_path: Path) -> None:
    before = tree(library)
    for command in ["--version"], ["--help"], ["features"], ["--root", str(tmp_path), "state", "nosuch"]:
        run(prefix, *command)
    assert tree(library) == before


def test_the_manual_page_and_the_completion_are_where_they_are_looked_for(prefix: Path) -> None:
    names = subprocess.run(
        [sys.executable, str(CHECKOUT / "tools/make-share.py"), "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(names) == 4
    for name in names:
        assert (prefix / "share" / name).is_file()
    page = prefix / "share/man/man8/pyruntime.8"
    assert page.read_text().startswith(".")
    for shell, name in (("bash", names[0]), ("zsh", names[1]), ("fish", names[2])):
        assert run(prefix, "completion", shell).stdout == (prefix / "share" / name).read_text()


def test_the_containerd_shim_is_beside_the_launcher_and_calls_that(prefix: Path) -> None:
    shim = prefix / "bin/containerd-shim-pyruntime-v1"
    assert str(prefix / "bin/pyruntime").encode() in shim.read_bytes()
    result = subprocess.run([shim, "-v"], capture_output=True, text=True, env={}, cwd="/", timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("containerd-shim-pyruntime-v1:")


def test_no_programs_of_dependencies_are_installed(prefix: Path) -> None:
    assert sorted(os.listdir(prefix / "bin")) == ["containerd-shim-pyruntime-v1", "other", "pyruntime"]
    assert sorted(os.listdir(prefix / "lib")) == ["other", "pyruntime", *(["systemd"] if SNAPSHOT else [])]
    assert not (prefix / "lib/pyruntime/bin").exists()


def test_again_and_away(tmp_path: Path) -> None:
    prefix = install(tmp_path / "prefix")
    (prefix / "lib/pyruntime/stray.py").touch()
    make("install", f"PREFIX={prefix}")
    assert not (prefix / "lib/pyruntime/stray.py").exists()
    assert run(prefix, "--version").returncode == 0
    make("uninstall", f"PREFIX={prefix}")
    assert tree(prefix) == {"bin", "bin/other", "lib", "lib/other"}


def test_destdir(tmp_path: Path) -> None:
    """For packagers: files go below DESTDIR, and what they say of themselves is without it."""
    make("install", "PREFIX=/usr/strange", f"DESTDIR={tmp_path}")
    launcher = (tmp_path / "usr/strange/bin/pyruntime").read_bytes()
    assert b"/usr/strange/lib/pyruntime" in launcher
    assert str(tmp_path).encode() not in launcher
    compiled = next(iter((tmp_path / "usr/strange/lib/pyruntime/pyruntime").rglob("*.pyc")))
    assert code_file(compiled).startswith("/usr/strange/lib/pyruntime/pyruntime/")
    make("uninstall", "PREFIX=/usr/strange", f"DESTDIR={tmp_path}")
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
