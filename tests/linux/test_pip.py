"""`pip install`: the wheel, in an environment of its own, has the library with its types and the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ordinary, proc
from support.bundle import BUSYBOX

CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.ours


def run(*words: object, **options: object) -> str:
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of a copy of the checkout's files: the build writes beside them."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "checkout"
    files = run("git", "-C", CHECKOUT, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in files.rstrip("\0").split("\0"):
        if (CHECKOUT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, copy / name)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, copy)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Iterator[Path]:
    """A virtual environment that all users can read, with the wheel and copies of the checkout's dependencies."""
    with tempfile.TemporaryDirectory(prefix="pyrt-pip-") as name:
        os.chmod(name, 0o755)
        folder = Path(name, "venv")
        run(getattr(sys, "_base_executable", sys.executable), "-m", "venv", folder)
        run(folder / "bin/python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel)
        site = run(folder / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        run(sys.executable, CHECKOUT / "tools/copy-dependencies.py", site)
        yield folder


def test_the_wheel_has_everything(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "pyruntime").rglob("*.py")}
    wanted |= {f"pyruntime/kernel/{name}.abi3.so" for name in ("_shim", "_seccomp", "_snapshot")}
    wanted |= {f"pyruntime/oci-spec/{path.name}" for path in (CHECKOUT / "oci-spec").glob("*.json")}
    wanted.add("pyruntime/py.typed")
    assert wanted - names == set()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"pyruntime"}
    assert "-cp311-abi3-linux_" in wheel.name


def test_the_library(environment: Path) -> None:
    program = "import pyruntime\nprint(pyruntime.__file__, pyruntime.__version__, *dir(pyruntime))\n"
    program += "from pyruntime.spec import schema\nassert schema.validator('config')\n"
    file, version, *names = run(environment / "bin/python", "-c", program, cwd="/").split()
    assert file.startswith(str(environment))
    assert version in run(environment / "bin/pyruntime", "--version", cwd="/")
    assert {"Bundle", "Container", "PyruntimeError"} <= set(names)


def test_the_types(environment: Path, tmp_path: Path) -> None:
    """A type checker of a program finds them in the wheel (py.typed), and a mistake by them."""
    program = tmp_path / "program.py"
    program.write_text(
        "import pyruntime\n"
        "box = pyruntime.Container('box', pyruntime.Bundle('/bundle'))\n"
        "reveal_type(box.state().pid)\n"
        "reveal_type(pyruntime.__version__)\n"
        "box.kill(signal=[])\n"
    )
    words = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache"]
    words += ["--config-file", os.devnull, "--python-executable", environment / "bin/python", program]
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    lines = [line.split(" ", 1)[1] for line in result.stdout.splitlines() if line.startswith("program.py")]
    assert lines[0] == 'note: Revealed type is "int"', result.stdout + result.stderr
    assert lines[1] == 'note: Revealed type is "str"'
    assert lines[2].startswith("error: ") and '"kill" of "Container"' in lines[2]
    assert len(lines) == 3


@pytest.mark.parametrize("command", [["bin/pyruntime"], ["bin/python", "-m", "pyruntime"]], ids=["command", "module"])
def test_a_container(environment: Path, command: list[str], container) -> None:
    """Its init is no file that a container could write to (CVE-2019-5736)."""
    box = container(["/bin/sleep", "100"])
    box.bundle.save()
    words = [str(environment / command[0]), *command[1:], "--root", str(box.runtime.root)]
    hostile = {"PATH": os.environ["PATH"], "PYTHONPATH": "/nonexistent", "LD_LIBRARY_PATH": ":"}
    # Its output is not for us to wait for: init has it.
    create = [*words, "create", "--bundle", str(box.bundle.path), box.id]
    null = subprocess.DEVNULL
    subprocess.run(create, env=hostile, cwd="/", stdin=null, stdout=null, stderr=null, timeout=60, check=True)
    pid = json.loads(run(*words, "state", box.id, cwd="/"))["pid"]
    assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:pyruntime")
    run(*words, "start", box.id, cwd="/")
    proc.wait_until(lambda: "sleep" in proc.read(pid, "cmdline"), "the process runs")
    run(*words, "delete", "--force", box.id, cwd="/")


def test_a_container_of_an_ordinary_user(environment: Path) -> None:
    """The same command, in a user namespace with one id."""
    bundle = environment.parent / "bundle"
    state = environment.parent / "state"
    for folder in (bundle / "rootfs/bin", *(bundle / "rootfs" / name for name in ("dev", "proc", "sys", "tmp")), state):
        folder.mkdir(parents=True)
    shutil.copy(BUSYBOX, bundle / "rootfs/bin/echo")
    for path in (bundle, state, *bundle.rglob("*")):
        os.chown(path, ordinary.UID, ordinary.UID)
    words = [*ordinary.BECOME, environment / "bin/pyruntime"]
    user = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(state)}
    run(*words, "spec", "--rootless", "--bundle", bundle, env=user, cwd="/")
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"args": ["/bin/echo", "hello"], "terminal": False}
    (bundle / "config.json").write_text(json.dumps(config))
    assert run(*words, "run", "--bundle", bundle, "box", env=user, cwd="/") == "hello\n"
    assert list((state / "pyruntime").iterdir()) == []
