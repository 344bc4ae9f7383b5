"""The snapshot of the interpreter: when it is used, how it is made and by whom (docs/snapshot.md).

What a process from a snapshot has of its own, and what of the one that was copied, is in test_snapshot_state.py.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHON = os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]
NOBODY = 65534
NOBODYS: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}

pytestmark = [
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="native/snapshot.c is not written for this architecture"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it runs containers, and programs as another user"),
    pytest.mark.ours,
]


# An interpreter below /root, as version managers have it, is not for nobody: neither are its libraries.
for_all = pytest.mark.skipif(
    not all(folder.stat().st_mode & stat.S_IXOTH for folder in (*Path(sys.base_prefix).resolve().parents, CHECKOUT)),
    reason=f"{sys.base_prefix} or the checkout is in a directory that other users cannot reach",
)


class Installation:
    """The checkout's pyruntime with archive, launcher and snapshot in a directory of its own, and an interpreter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "python3"
        self.archive = folder / "pyruntime.archive"
        self.snapshot = folder / "pyruntime.snapshot"
        self.launcher = folder / "pyruntime"
        self.off = folder / "no-snapshot"
        shutil.copy(PYTHON, self.python)
        shutil.copy(CHECKOUT / "build/pyruntime.archive", self.archive)
        self.words = [self.python, self.archive, CHECKOUT, sysconfig.get_paths()["platlib"]]
        self.compile()

    def compile(self, **environment: str) -> None:
        """Compile the launcher, as `make` does with these variables."""
        command = [CHECKOUT / "tools/compile-launcher.sh", self.launcher, *self.words]
        settings = {"TURNED_OFF": str(self.off), "SNAPSHOT": "yes", **environment}
        subprocess.run(command, env={**os.environ, **settings}, check=True)
        shutil.copy(self.launcher, self.folder / "pyruntime.start")

    def make(self, *options: str, **who: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, CHECKOUT / "tools/make-snapshot.py", *options, *self.words]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, **who)
        assert result.returncode == 0, result.stderr
        return result

    def refusal(self, **who: Any) -> str:
        """Why the launcher does not use the snapshot, "" if it does."""
        command = [self.launcher, "--version"]
        env = {"PYRUNTIME_SNAPSHOT": "require"}
        result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, **who)
        if result.returncode == 0:
            return ""
        assert result.returncode == 126, result
        return result.stderr.removeprefix(f"pyruntime: cannot start {self.snapshot}: ").rstrip("\n")

    def works(self, **environment: str) -> bool:
        command = [self.launcher, "--version"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        return result.returncode == 0 and result.stdout.startswith("pyruntime version")


@pytest.fixture
def bare() -> Iterator[Installation]:
    """Without a snapshot."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Installation(Path(directory))


@pytest.fixture
def installed(bare: Installation) -> Installation:
    bare.make("--no-practice")
    assert bare.refusal() == ""
    return bare


def same_times(path: Path, change: Callable[[Path], None]) -> None:
    """Another content of the same size and modification time, as rsync --times, ostree and SOURCE_DATE_EPOCH leave."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def build_id_offset(path: Path) -> int:
    """Where readelf finds the build-id."""
    output = subprocess.run(["readelf", "-SW", path], capture_output=True, text=True, check=True).stdout
    row = next(line.split() for line in output.splitlines() if ".note.gnu.build-id" in line)
    return int(row[row.index("NOTE") + 2], 16) + 16


# Fresh by content ------------------------------------------------------------------------------------------


def test_changed_interpreter_of_the_same_size_and_time_is_seen(installed: Installation) -> None:
    last = installed.python.stat().st_size - 1
    same_times(installed.python, lambda path: flip(path, last))
    assert installed.refusal() == f"{installed.python} has changed"
    assert installed.works()


def test_changed_archive_of_the_same_size_and_time_is_seen(installed: Installation) -> None:
    last = installed.archive.stat().st_size - 1
    same_times(installed.archive, lambda path: flip(path, last))
    assert installed.refusal() == f"{installed.archive} has changed"


def test_another_file_with_the_same_times_and_content_is_seen(installed: Installation) -> None:
    """A copy: its inode is another."""
    copy = installed.folder / "copy"
    shutil.copy2(installed.python, copy)
    copy.rename(installed.python)
    assert installed.refusal() == f"{installed.python} has changed"


@pytest.mark.parametrize("name", ["python", "archive"])
def test_content_is_compared_where_inode_and_times_are_the_same(installed: Installation, name: str) -> None:
    """As on a read-only image of a disk (erofs, squashfs) that is built again with the same times. On a filesystem that
    can be written change times cannot be set, so those of the changed file are written into the snapshot's head."""
    path: Path = getattr(installed, name)
    at = build_id_offset(path) if name == "python" else 1 << 16
    before = path.stat()
    flip(path, at)
    forge_times(installed.snapshot, before, path.stat())
    assert installed.refusal() == f"{path} has changed"
    flip(path, at)
    forge_times(installed.snapshot, path.stat(), path.stat())
    assert installed.refusal() != ""  # the times are others again
    restamp(installed.snapshot, path)
    assert installed.refusal() == ""


def forge_times(snapshot: Path, before: os.stat_result, after: os.stat_result) -> None:
    """Replace the one by the other in a snapshot's head."""
    data = bytearray(snapshot.read_bytes())
    old, new = (times(one) for one in (before, after))
    at = data.find(old, 0, 1 << 16)
    if old != new:
        assert at > 0
        data[at : at + len(old)] = new
        snapshot.write_bytes(data)


def restamp(snapshot: Path, path: Path) -> None:
    """Write a file's times as they are now over those in the head."""
    data = bytearray(snapshot.read_bytes())
    name = os.fsencode(path) + b"\0"
    at = data.find(name, 0, 1 << 16) - 104
    data[at : at + 32] = times(path.stat())
    snapshot.write_bytes(data)


def times(one: os.stat_result) -> bytes:
    words = (*divmod(one.st_mtime_ns, 10**9), *divmod(one.st_ctime_ns, 10**9))
    return b"".join(word.to_bytes(8, "little") for word in words)


@pytest.mark.parametrize("size", [0, 100, 1 << 16, (1 << 16) + 4096, -4096, -1])
def test_truncated_file_falls_back(installed: Installation, size: int) -> None:
    whole = installed.snapshot.stat().st_size
    os.truncate(installed.snapshot, size if size >= 0 else whole + size)
    assert installed.refusal() == "its file is not a whole snapshot of this version"
    assert installed.works()


def test_file_that_others_may_write_is_not_used(installed: Installation) -> None:
    installed.snapshot.chmod(0o722)
    assert installed.refusal() == "its file is not a whole snapshot of this version"
    installed.snapshot.chmod(0o700)
    os.chown(installed.snapshot, NOBODY, NOBODY)
    assert installed.refusal() == "its file is not a whole snapshot of this version"
    assert installed.works()


# The right machine -----------------------------------------------------------------------------------------

PROCESSOR, KERNEL = 56, 88  # where they are in the head


def test_other_processor_falls_back(installed: Installation) -> None:
    for word in range(6):
        flip(installed.snapshot, PROCESSOR + 4 * word)
        assert installed.refusal() == "it was made on a processor with other features"
        assert installed.works()
        flip(installed.snapshot, PROCESSOR + 4 * word)
    assert installed.refusal() == ""


def test_other_kernel_falls_back(installed: Installation) -> None:
    release = os.uname().release
    assert installed.snapshot.read_bytes()[KERNEL:].startswith(release.encode() + b"\0")
    for at in 0, len(release) - 1, len(release):
        flip(installed.snapshot, KERNEL + at)
        assert installed.refusal() == "it was made with another kernel release"
        assert installed.works()
        flip(installed.snapshot, KERNEL + at)


QEMU = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
emulated = pytest.mark.skipif(QEMU is None, reason="qemu-x86_64 (Debian: qemu-user-static) is not installed")


@emulated
@pytest.mark.parametrize("model", ["qemu64", "Nehalem", "Haswell", "max"])
def test_emulated_processor_falls_back(installed: Installation, model: str) -> None:
    """The launcher runs below qemu's user-mode emulation, whose processor is another than that of the machine."""
    command = [str(QEMU), "-cpu", model, str(installed.launcher), "--version"]
    env = {"PYRUNTIME_SNAPSHOT": "require"}
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 126, result
    assert result.stderr.endswith(": it was made on a processor with other features\n")


@emulated
@pytest.mark.parametrize("model", ["qemu64", "Nehalem"])
def test_code_of_the_snapshot_is_for_every_processor(installed: Installation, model: str) -> None:
    """Loaded there all the same it does not end with SIGILL: the C library has chosen no routine of this machine's."""
    directory = os.open(installed.folder, os.O_PATH)
    command = [str(QEMU), "-cpu", model, f"/dev/fd/{directory}/pyruntime.start", "features"]
    env = {"PYRUNTIME_SNAPSHOT": "require"}
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, pass_fds=[directory])
    os.close(directory)
    assert result.returncode == 0, result
    assert "ociVersionMax" in json.loads(result.stdout)


def test_snapshot_that_does_not_work_is_not_kept(bare: Installation) -> None:
    """Any exit status but 0 of its first command: here that of a library whose `main` fails."""
    library = bare.folder / "library"
    shutil.copytree(CHECKOUT / "pyruntime", library / "pyruntime", ignore=shutil.ignore_patterns("__pycache__"))
    main = library / "pyruntime/cli/main.py"
    main.write_text(main.read_text().replace("    status = run(sys.argv[1:])\n", "    status = 3\n"))
    bare.words[2] = library
    command = [sys.executable, CHECKOUT / "tools/make-archive.py", bare.archive, library, bare.words[3]]
    subprocess.run(command, check=True)
    command = [sys.executable, CHECKOUT / "tools/make-snapshot.py", "--no-practice", *bare.words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    assert "it does not work here: exit status 3" in result.stderr
    assert not bare.snapshot.exists()
    assert sorted(path.name for path in bare.folder.iterdir() if path.name.startswith(".")) == []


# Only by will ----------------------------------------------------------------------------------------------


def test_environment_turns_it_off(installed: Installation) -> None:
    assert installed.works(PYRUNTIME_SNAPSHOT="0")
    assert not mapped(installed, PYRUNTIME_SNAPSHOT="0")
    assert mapped(installed)


def test_file_turns_it_off(installed: Installation) -> None:
    installed.off.touch()
    assert installed.refusal() == f"it is turned off by {installed.off}"
    assert not mapped(installed)
    assert installed.works()


def test_launcher_can_be_built_without_it(installed: Installation) -> None:
    installed.compile(SNAPSHOT="no")
    assert installed.works(PYRUNTIME_SNAPSHOT="require")
    assert not mapped(installed)
    assert b"pyruntime.snapshot" not in installed.launcher.read_bytes()


def mapped(installed: Installation, **environment: str) -> bool:
    """Whether a command has the snapshot's file in its memory."""
    command = [installed.launcher, "validate", "-"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        # It reads once it runs.
        while not Path(f"/proc/{process.pid}/wchan").read_text().endswith("pipe_read"):
            assert process.poll() is None
        found = str(installed.snapshot.name) in Path(f"/proc/{process.pid}/maps").read_text()
        process.communicate(b"{}")
    return found


@for_all
def test_it_is_for_root_alone(installed: Installation) -> None:
    assert stat.S_IMODE(installed.snapshot.stat().st_mode) == 0o700
    assert installed.refusal(**NOBODYS) == "it cannot be opened"
    command = [installed.launcher, "snapshot", "status"]
    result = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60, **NOBODYS)
    assert result.returncode == 1
    assert "because it is not for this user" in result.stdout
    installed.make("--no-practice", "--shared")
    assert installed.refusal(**NOBODYS) == ""
    assert installed.refusal() == ""


def faults(launcher: Path, bundle: Path, id: str) -> int:
    """Page faults of `run`, and of the container that it reaps."""
    pid = os.posix_spawn(launcher, [str(launcher), "run", "--bundle", str(bundle), id], {})
    _, status, usage = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_minflt


def test_practice_lets_containers_copy_fewer_pages(container, bare: Installation) -> None:
    box = container(["/bin/true"])
    box.bundle.save()
    found = []
    for options in ("--no-practice",), ():
        assert bare.make(*options).stderr == ""
        found.append(min(faults(bare.launcher, box.bundle.path, f"{box.id}-{turn}") for turn in range(3)))
        bare.snapshot.unlink()
    many, few = found
    assert few < 0.8 * many


@for_all
def test_practice_needs_no_root(bare: Installation) -> None:
    os.chown(bare.folder, NOBODY, NOBODY)
    assert bare.make(**NOBODYS).stderr == ""
    assert bare.snapshot.stat().st_uid == NOBODY


def test_practice_touches_nothing_else(bare: Installation) -> None:
    """It is nobody who practises, so the kernel sees to that. All that was made is in one directory, and nobody's."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv.pop(1));"
        "from pyruntime.boot.snapshot import make;"
        "make.observe(*make.command(make.Place(*map(Path, sys.argv[1:4]), *sys.argv[4:])), '.')"
    )
    folder = bare.folder / "practice"
    folder.mkdir()
    cgroups = set(Path("/sys/fs/cgroup").glob("*/*"))
    subprocess.run([sys.executable, "-c", code, CHECKOUT, *bare.words], cwd=folder, check=True, timeout=300)
    assert (folder / "placement").stat().st_size > 100_000
    assert {path.lstat().st_uid for path in (folder, *folder.rglob("*"))} == {NOBODY}
    assert not [path for path in set(Path("/sys/fs/cgroup").glob("*/*")) - cgroups if "practice" in path.name]


# The verb --------------------------------------------------------------------------------------------------


def verb(installed: Installation, *words: str) -> subprocess.CompletedProcess[str]:
    command = [installed.launcher, "snapshot", *words]
    return subprocess.run(command, env={}, capture_output=True, text=True, timeout=300)


def state(installed: Installation) -> tuple[int, dict[str, Any]]:
    result = verb(installed, "status", "--format", "json")
    return result.returncode, json.loads(result.stdout)


def test_verb(bare: Installation) -> None:
    none = {"state": "none", "path": str(bare.snapshot), "used": False, "reasons": ["there is none"]}
    assert state(bare) == (1, none)
    assert verb(bare, "make", "--no-practice").returncode == 0
    inode = bare.snapshot.stat().st_ino
    status, found = state(bare)
    assert (status, found["state"], found["used"], found["reasons"]) == (0, "fresh", True, [])
    assert verb(bare, "make", "--no-practice").returncode == 0
    assert bare.snapshot.stat().st_ino == inode, "made again, though it was fresh"
    assert verb(bare, "make", "--no-practice", "--again").returncode == 0
    assert bare.snapshot.stat().st_ino != inode
    os.utime(bare.python)
    status, found = state(bare)
    assert (status, found["state"], found["used"]) == (1, "old", False)
    assert found["reasons"] == [f"{bare.python} has changed, or is another file"]
    assert verb(bare, "remove").returncode == 0
    assert not bare.snapshot.exists()
    assert verb(bare, "remove").returncode == 0


@pytest.mark.parametrize("words", [[], ["hint"], ["make", "status"], ["remove", "--again"], ["status", "-f", "xml"]])
def test_verb_refuses(bare: Installation, words: list[str]) -> None:
    result = verb(bare, *words)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_bill_of_materials_lists_every_library(installed: Installation) -> None:
    document = json.loads(verb(installed, "status", "--format", "cyclonedx").stdout)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    names = {Path(component["name"]).name.partition(".")[0] for component in document["components"]}
    linked = subprocess.run(["ldd", PYTHON], capture_output=True, text=True, check=True).stdout
    libraries = {Path(word).name.partition(".")[0] for word in linked.split() if word.startswith("/")}
    assert "libc" in libraries
    assert libraries | {"python3", "libseccomp", "_cffi_backend", "pyruntime"} <= names
    for component in document["components"]:
        assert len(component["hashes"][0]["content"]) == 64, component


def test_no_module_that_remembers_a_process_is_in_it(installed: Installation) -> None:
    """random, tempfile, os and others keep random numbers, names or a copy of the environment once imported."""
    files = [Path(name) for name in state(installed)[1]["files"]]
    standard = {path.stem for path in files if path.suffix == ".py" and CHECKOUT not in path.parents}
    usual = {"__init__", "_bootstrap_external", "abc", "aliases", "codecs", "io", "utf_8", "zipimport"}
    usual.add("linecache")  # Python 3.13 keeps the text of its option -c there
    assert standard - usual == set()
    assert "encodings" in {path.parent.name for path in files}


def test_two_snapshots_have_other_addresses(installed: Installation) -> None:
    """Bases are chosen at random at each build: libraries, heap, stack."""
    found = []
    for _ in range(2):
        installed.snapshot.unlink()
        installed.make("--no-practice")
        head = installed.snapshot.read_bytes()[: 1 << 16]
        count = int.from_bytes(head[40:48], "little")
        found.append({int.from_bytes(head[160 + 40 * i :][:8], "little") for i in range(count)})
    one, other = found
    assert len(one) > 20
    # A program that is linked to a fixed address, as Debian's Python is, has four segments there.
    assert len(one & other) <= 4
