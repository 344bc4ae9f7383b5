"""CVE-2019-5736 (runc to 1.0.0-rc6): a container has the runtime's own executable run inside (#!/proc/self/exe, with a
loader of its own), keeps it open, and overwrites it on the host once nobody runs it any more.

Here that is the interpreter, or the snapshot of one that the launcher starts in its place. The tests run a copy of
all that a pyruntime consists of, so that no other process keeps the files busy, and compare all of it afterwards:
interpreter, snapshot, launcher, kernel modules, archive, sources, caches.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.attack import PYTHON, compile_c, site
from support.runtime import CHECKOUT, Executable, Runtime

HERE = Path(__file__).parent
SITE = ("_cffi_backend*", "_prctl*", "cffi", "prctl.py")

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="loader.c has system calls of x86-64 only")


# How pyruntime runs: from a snapshot, as usual; as the interpreter, where there can be none; without the launcher.
SNAPSHOT, INTERPRETER, UNSEALED = "snapshot", "interpreter", "unsealed"


class Installation:
    """A runtime with all its files in one directory, whose content can be compared."""

    def __init__(self, folder: Path, found: Executable, how: str) -> None:
        self.folder = folder
        folder.mkdir()
        if found.kind != "ours":
            program = shutil.copy(found.path, folder / found.kind)
        else:
            self._copy()
            program = self._script() if how == UNSEALED else self._launcher(how == SNAPSHOT)
        self.executable = Executable(str(program), found.kind, found.version)
        self.before = self.content()

    def _copy(self) -> None:
        shutil.copy(PYTHON, self.folder / "python3")
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / "pyruntime", self.folder / "library/pyruntime", ignore=ignored)
        (self.folder / "site").mkdir()
        for pattern in SITE:
            for path in Path(site()).glob(pattern):
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, self.folder / "site" / path.name)

    def _launcher(self, snapshot: bool) -> Path:
        archive, library, places = self.folder / "it.archive", self.folder / "library", self.folder / "site"
        subprocess.run([sys.executable, CHECKOUT / "tools/make-archive.py", archive, library, places], check=True)
        words = [self.folder / "python3", archive, library, places]
        output = self.folder / "pyruntime"
        subprocess.run([CHECKOUT / "tools/compile-launcher.sh", output, *words], check=True)
        if snapshot:
            shutil.copy(output, self.folder / "it.start")
            if subprocess.run([sys.executable, CHECKOUT / "tools/make-snapshot.py", *words]).returncode:
                pytest.skip("this machine makes no snapshot of an interpreter")
        return output

    def _script(self) -> Path:
        """The same without the launcher: nothing is sealed."""
        code = f"import sys; sys.path[:0] = {[str(self.folder / name) for name in ('library', 'site')]}"
        code += "; from pyruntime.cli.main import main; sys.exit(main())"
        path = self.folder / "pyruntime"
        path.write_text(f'#!/bin/sh\nexec {self.folder}/python3 -I -S -B -X utf8 -c "{code}" "$@"\n')
        path.chmod(0o755)
        return path

    def content(self) -> dict[str, str]:
        """Path -> digest, of every file."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def changed(self) -> list[str]:
        after = self.content()
        return [name for name, digest in self.before.items() if after.get(name) != digest]


@pytest.fixture(scope="session")
def programs(scratch) -> dict[str, Path]:
    """What the attacker puts into the image."""
    freestanding = ("-O1", "-nostdlib", "-static-pie", "-ffreestanding", "-fno-stack-protector", "-fcf-protection=none")
    (scratch / "empty.c").write_text("int main(void) { return 0; }\n")
    return {
        "lib64/ld-linux-x86-64.so.2": compile_c(HERE / "loader.c", scratch / "loader", *freestanding),
        "writer": compile_c(HERE / "writer.c", scratch / "writer", "-static"),
        "interpreted": compile_c(scratch / "empty.c", scratch / "interpreted", "-Wl,--dynamic-linker=/proc/self/exe"),
    }


@pytest.fixture
def install(runtime: Runtime, executable: Executable) -> Callable[..., Installation]:
    def make(how: str) -> Installation:
        if executable.kind != "ours" and how != INTERPRETER:
            pytest.skip(f"{executable.kind} is one program")
        made = Installation(runtime.folder / "installation", executable, how)
        runtime.executable = made.executable
        return made

    return make


def hostile(container, programs, args: list[str]):
    """A container whose image has the attacker's programs; two of them are scripts of /proc/self/exe."""
    box = container(args)
    for name, path in programs.items():
        box.bundle.write(name, path.read_bytes(), 0o755)
    box.bundle.write("entry", "#!/proc/self/exe\n", 0o755)
    return box


# What the attacker's program says of our executable: the attack was on.
REACHED = " / (read-only): "
ENTRIES = {"script": "/entry", "program": "/proc/self/exe", "ELF interpreter": "/interpreted"}


@pytest.mark.parametrize("how", [INTERPRETER, SNAPSHOT])
@pytest.mark.parametrize("kind", ENTRIES)
def test_the_entry_point(container, programs, install, kind, how):
    installation = install(how)
    box = hostile(container, programs, [ENTRIES[kind]])
    if box.create(check=None).code == 0 and box.start(check=None).code == 0:
        box.wait()
        # A snapshot has no loader, so that nothing of the attacker's runs here: see exec.
        if box.runtime.is_ours and kind != "ELF interpreter" and how == INTERPRETER:
            assert f"own fd{REACHED}Read-only file system" in box.output(), box.output()
    assert "WRITTEN" not in box.output()
    assert installation.changed() == []


@pytest.mark.parametrize("how", [INTERPRETER, SNAPSHOT])
def test_exec(container, programs, install, how):
    """Init waits for whoever comes; exec is lured into the runtime's executable, too.

    Its process is cloned without the runtime's memory (native/spawn.c): mostly there is nothing to open."""
    installation = install(how)
    box = hostile(container, programs, ["/writer", "stay"])
    box.create()
    box.start()
    box.await_output("writing")
    for entry in (*ENTRIES.values(), "/bin/true"):
        box.runtime.run("exec", box.id, entry, check=None)
    (box.rootfs / "stop").touch()
    box.await_output("done")
    assert "WRITTEN" not in box.output()
    assert installation.changed() == []


@pytest.mark.ours
@pytest.mark.parametrize("kind", ["script", "program"])
def test_an_unsealed_interpreter_is_caught(container, programs, install, kind):
    installation = install(UNSEALED)
    box = hostile(container, programs, [ENTRIES[kind]])
    box.create()
    box.start(check=None)
    box.wait()
    assert "WRITTEN" in box.output()
    assert installation.changed() == ["python3"]
    shutil.copy(PYTHON, installation.folder / "python3")  # to clean up with


@pytest.mark.ours
def test_the_executable_of_the_checkout_is_sealed(container, programs):
    """Not just a copy of it: that one may be busy as long as another process runs it, but read-only it must be."""
    box = hostile(container, programs, ["/writer", "stay"])
    box.create()
    # Whatever it is that init runs.
    with open(f"/proc/{box.pid}/exe", "rb") as executable:
        before = hashlib.file_digest(executable, "sha256").hexdigest()
        box.start()
        box.await_output("writing")
        for entry in ENTRIES.values():
            box.runtime.run("exec", box.id, entry, check=None)
        (box.rootfs / "stop").touch()
        assert "WRITTEN" not in box.await_output("done")
        executable.seek(0)
        assert hashlib.file_digest(executable, "sha256").hexdigest() == before
