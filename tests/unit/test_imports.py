"""What each hot command imports: every module costs, and `json` alone as much as the interpreter's start.

A command runs in an interpreter as the launcher starts it; what it has loaded when it is done is compared with
the lists here. A new entry in a list is a decision: measure it (`python -X importtime`), and prefer an import
inside the function where a person waits for words.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _cffi_backend
import pytest
from support import kernel
from support.bundle import BUSYBOX, make_base

from pyruntime.spec.sample import sample
from pyruntime.state import store
from pyruntime.state.store import Record

CHECKOUT = Path(__file__).resolve().parents[2]

# What the launcher's bootstrap does, and a list of modules at the end.
RUN = """
import sys
sys.path[:0] = sys.argv[1:3]
report, bare = sys.argv[3], set(sys.modules)
from pyruntime.cli.main import run
status = run(sys.argv[4:])
with open(report, "w") as file:
    print(status, *sorted(set(sys.modules) - bare), file=file)
sys.stdout.flush()
"""

# C modules, in the interpreter or beside it, that import nothing.
C = {"_signal", "_socket", "errno", "fcntl", "gc", "marshal", "posix", "select", "sys", "time"}
# fastjson takes the C halves of json; the archive of a build leaves `__future__` out.
JSON = {"_json", "__future__"}
SHIM = {"_cffi_backend", "_prctl"}
# Part of any interpreter that has run one line of Python, with or without `site`.
START = {"_io", "codecs", "encodings", "encodings.aliases", "encodings.utf_8"}
if sys.version_info < (3, 14):
    START |= {"abc", "io"}
ALLOWED = C | JSON | SHIM | START

EDGE = {
    *("", "cli", "cli.flags", "cli.main", "errors", "state", "state.directory", "state.store", "version"),
    *("commands", "commands.settings", "util", "util.fastjson", "util.fileio", "util.ids", "util.log"),
    *("kernel", "kernel.constants"),
}
KERNEL = {
    "kernel",
    "kernel._shim",
    "kernel._shim.lib",
    "kernel.call",
    "kernel.constants",
    "kernel.files",
    "kernel.process",
}
# No shim: who only looks, waits and signals needs what Python itself has.
STATUS = {"kernel", "kernel.pidfd", "state.liveness", "state.status", "util.procfs"}
LIFE = EDGE | STATUS | {"features", "features.hooks", "plan", "plan.step"}
# A container's cgroups are looked at, and removed; how they are made and limited is create's.
CGROUPS = {
    *("cgroupfs", "features", "features.cgroups", "features.cgroups.remove", "state.cgroup_identity"),
    *("cgroupfs." + name for name in "control_files freezer kill layout processes".split()),
}
LIFE |= CGROUPS

# Our own modules of the commands that an engine calls most; a cgroup needs what its hierarchies need.
OWN = {
    # The last ones for a container that has stopped.
    "state": EDGE | CGROUPS | STATUS | {"cli.state", "commands.state"},
    "start": LIFE | {"cli.start", "commands.start", "commands.kill", "runtime", "runtime.exec_fifo"},
    "kill": LIFE | {"cli.kill", "commands.kill", "util.signals"},
    "delete": LIFE | {"cli.delete", "commands.delete", "commands.kill"},
    "exec": LIFE
    | KERNEL
    | {
        "cli.exec",
        *("commands." + name for name in ("descriptors", "exec", "foreground", "pid_file", "pidfd_socket")),
        *("runtime." + name for name in "channel exec exec_fifo init joining parent spawn".split()),
        *("features.cgroups." + name for name in "cpuset directories enter limits place setting".split()),
        *("features.namespaces", "features.namespaces.namespaces", "features.namespaces.target", "features.process"),
        *(
            "features.process." + name
            for name in "affinity capabilities executable keyring null_device program rlimits user".split()
        ),
        *("features.exec_registry", "features.rare", "features.rootfs", "features.rootfs.path", "plan.request"),
        *("kernel.mount", "runtime", "spec", "spec.load"),
    },
}

# Where a person waits for words, and never on the way of a command that works.
FRIENDLY = {
    *("cli.error_text", "cli.help", "diagnose.causes", "diagnose.hints", "runtime.await_death", "trace"),
    *("spec.problem", "spec.schema", "util.colour"),
}


def run(tmp_path: Path, *words: str) -> tuple[int, set[str], str]:
    """Run a command: (its status, the modules it imported, what it said)."""
    report, output = tmp_path / "report", tmp_path / "output"
    report.unlink(missing_ok=True)
    site = str(Path(_cffi_backend.__file__).parent)
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", RUN, str(CHECKOUT), site, str(report)]
    command += ["--root", str(tmp_path / "root"), *words]
    # A file: a pipe would be open as long as the container that `create` leaves.
    with output.open("w") as file:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=60)
    status, *modules = report.read_text().split()
    return int(status), set(modules), output.read_text()


def judge(command: str, modules: set[str], *more: str) -> None:
    """Fail for what a command imported and may not; more are modules of ours that this run needs besides."""
    ours = {name for name in modules if name.partition(".")[0] == "pyruntime"}
    assert modules - ours <= ALLOWED
    names = {name.partition(".")[2] for name in ours}
    assert not names & FRIENDLY - set(more)
    if command in OWN:
        assert sorted(names - OWN[command] - set(more)) == []


def test_the_bare_interpreter_has_what_start_lists() -> None:
    command = [sys.executable, "-I", "-S", "-c", "import sys; print(*sys.modules)"]
    bare = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert bare >= START


@pytest.fixture
def stopped(tmp_path: Path) -> Record:
    """The record of a container whose init is gone."""
    directory, lock = store.make(str(tmp_path / "root"), "box")
    os.close(lock)
    record = Record(directory, "box")
    record.oci_version = "1.0.2"
    record.bundle = "/bundle"
    record.created = "2024-01-01T00:00:00Z"
    record.pid = 2**22 + 1  # more than PID_MAX_LIMIT: nobody ever has it
    record.start = 1
    record.save()
    return record


def test_state(tmp_path: Path, stopped: Record) -> None:
    status, modules, said = run(tmp_path, "state", "box")
    assert (status, json.loads(said)["status"]) == (0, "stopped")
    judge("state", modules)


def test_delete(tmp_path: Path, stopped: Record) -> None:
    status, modules, said = run(tmp_path, "delete", "box")
    assert status == 0, said
    assert not os.path.exists(stopped.directory)
    judge("delete", modules)


def test_delete_with_force_of_what_is_not_there(tmp_path: Path) -> None:
    """Engines call it once more than needed."""
    status, modules, _ = run(tmp_path, "delete", "--force", "box")
    assert status == 0
    judge("delete", modules)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("kill", "box", "KILL"), "container not running"),
        (("start", "box"), "cannot start a container that has stopped"),
        (("state", "other"), "does not exist"),
        (("kill", "other", "9"), "does not exist"),
        (("delete", "other"), "does not exist"),
        (("start", "other"), "does not exist"),
    ],
)
def test_refusals_that_engines_provoke_all_day(
    tmp_path: Path, stopped: Record, words: tuple[str, ...], told: str
) -> None:
    status, modules, said = run(tmp_path, *words)
    assert status == 1
    assert told in said
    judge(words[0], modules)


def test_version(tmp_path: Path) -> None:
    status, modules, said = run(tmp_path, "--version")
    assert status == 0
    assert said.startswith("pyruntime version ")
    judge("--version", modules)
    names = {name.partition(".")[2] for name in modules if name.startswith("pyruntime")}
    assert names - EDGE <= {"cli.version"}


def test_the_judge_condemns_json(tmp_path: Path, stopped: Record) -> None:
    """A damaged record is read by json for its words; so the lists do tell the difference."""
    Path(stopped.path(store.RECORD)).write_text("{")
    status, modules, said = run(tmp_path, "state", "box")
    assert status == 1
    assert "is damaged" in said
    assert {"json", "re", "enum"} <= modules
    with pytest.raises(AssertionError):
        judge("state", modules)


# On a container that runs.


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    """A bundle of busybox, and this process as the one that reaps its init."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it runs a container")
    if not os.path.exists(BUSYBOX):
        pytest.skip(f"needs a static busybox at {BUSYBOX}")
    path = tmp_path / "bundle"
    path.mkdir()
    make_base(path / "rootfs")
    kernel.become_subreaper()
    yield path
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def write(bundle: Path, *args: str) -> None:
    config: dict[str, Any] = sample(rootless=False)
    config["process"].update(args=list(args), terminal=False)
    config["linux"]["cgroupsPath"] = f"/pyruntime-imports-{os.getpid()}"
    (bundle / "config.json").write_text(json.dumps(config))


def test_the_life_of_a_container(tmp_path: Path, bundle: Path) -> None:
    write(bundle, "/bin/sleep", "60")
    try:
        for words in (
            ("create", "--bundle", str(bundle), "box"),
            ("state", "box"),
            ("start", "box"),
            ("state", "box"),
            ("kill", "box", "KILL"),
        ):
            status, modules, said = run(tmp_path, *words)
            assert status == 0, f"{words[0]}: {said}"
            judge(words[0], modules)
        pid = json.loads((tmp_path / "root/box/state.json").read_text())["pid"]
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        status, modules, said = run(tmp_path, "delete", "box")
        assert status == 0, said
        judge("delete", modules)
    finally:
        run(tmp_path, "delete", "--force", "box")


def test_exec(tmp_path: Path, bundle: Path) -> None:
    """In a container as `spec` writes it: with a filter, capabilities and limits."""
    write(bundle, "/bin/sleep", "60")
    try:
        for words in (
            ("run", "--detach", "--bundle", str(bundle), "box"),
            ("exec", "box", "/bin/true"),
            ("exec", "--user", "5:5", "--env", "A=1", "--cwd", "/", "box", "/bin/sh", "-c", "exit 3"),
        ):
            status, modules, said = run(tmp_path, *words)
            assert status == (3 if "exit 3" in words else 0), f"{words[0]}: {said}"
            judge(words[0], modules)
        # What is loaded for the terminal of one that has none would be waste.
        assert not {"pyruntime.features.rootfs.console", "pyruntime.commands.terminal"} & modules
    finally:
        run(tmp_path, "delete", "--force", "box")


def test_run(tmp_path: Path, bundle: Path) -> None:
    write(bundle, "/bin/sh", "-c", "exit 7")
    try:
        status, modules, said = run(tmp_path, "run", "--bundle", str(bundle), "box")
        assert status == 7, said
        judge("run", modules)
        assert "pyruntime.runtime.parent" in modules
    finally:
        run(tmp_path, "delete", "--force", "box")
