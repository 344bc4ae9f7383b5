"""What of the interpreter and the C library is in a snapshot, and why it is right in a process that is started from it:
a test for each row of the table in docs/architecture.md, "The snapshot"."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from linux.test_launcher import Library, compile_with_snapshot, folder, make_snapshot  # noqa: F401  # folder: a fixture

PYTHON = os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]

pytestmark = [
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="native/snapshot.c is not written for this architecture"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a snapshot is for its owner"),
    pytest.mark.ours,
]

# `main` of the library: runs the code of its first argument, whose `answer` it prints as JSON.
MAIN = """
import sys

def main():
    if sys.argv[1:] == ["--version"]:
        return 0
    import ctypes, json, os
    probe = ctypes.CDLL(sys.argv[2])
    probe.canary.restype = probe.guard.restype = ctypes.c_ulong
    names = {"probe": probe, "ctypes": ctypes, "os": os, "sys": sys, "answer": None}
    exec(sys.argv[1], names)
    print(json.dumps(names["answer"]))
    return names.get("status", 0)
"""


class Subject:
    """A launcher and its snapshot."""

    def __init__(self, library: Library, probe: Path) -> None:
        self.library = library
        self.probe = probe

    def run(self, code: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the code in a new process."""
        environment = {"PYRUNTIME_SNAPSHOT": "require", **options.pop("env", {})}
        command = [str(self.library.launcher), code, str(self.probe), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, **options)

    def ask(self, code: str, *words: str, **options: Any) -> Any:
        """What the code makes of `answer`."""
        result = self.run(code, *words, **options)
        assert result.returncode == 0, (result.returncode, result.stderr)
        return json.loads(result.stdout)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    top = tmp_path_factory.mktemp("snapshot")
    library = Library(top / "library", MAIN)
    library.launcher = compile_with_snapshot(top / "pyruntime", library, PYTHON)
    probe = top / "probe.so"
    flags = ["-O1", "-shared", "-fPIC", "-fstack-protector-all", "-pthread"]
    source = Path(__file__).with_name("snapshot_probe.c")
    subprocess.run(["cc", *flags, "-o", probe, source], check=True)
    return Subject(library, probe)


# Secrets ---------------------------------------------------------------------------------------------------

SECRETS = """
words = memoryview(open("/proc/self/auxv", "rb").read()).cast("Q").tolist()
random = ctypes.string_at(dict(zip(words[::2], words[1::2]))[25], 16)  # AT_RANDOM
answer = [probe.canary(), probe.guard(), random.hex()]
"""


def test_each_process_has_a_canary_and_a_pointer_guard_of_its_own(subject: Subject) -> None:
    found = [subject.ask(SECRETS) for _ in range(3)]
    for canary, guard, random in found:
        first, second = struct.unpack("<QQ", bytes.fromhex(random))
        assert canary == first & ~0xFF
        assert guard == second
    assert len({canary for canary, _, _ in found}) == len({guard for _, guard, _ in found}) == 3


def test_the_canary_is_checked(subject: Subject) -> None:
    assert subject.ask("probe.overrun(16); answer = 1") == 1
    result = subject.run("probe.overrun(64)")
    assert result.returncode == -signal.SIGABRT
    assert "stack smashing detected" in result.stderr


def test_frames_of_the_picture_return(subject: Subject) -> None:
    """main returns, take raises SystemExit, and the interpreter ends: all functions below had the old canary."""
    assert subject.run("status = 7").returncode == 7


def test_the_file_holds_no_secret(subject: Subject) -> None:
    """Canary and pointer guard are zero in it."""
    head = subject.library.snapshot.read_bytes()
    canary, guard, random = subject.ask(SECRETS)
    for secret in (canary.to_bytes(8, "little")[1:], guard.to_bytes(8, "little"), bytes.fromhex(random)):
        assert secret not in head
    thread = subject.ask("import threading; answer = threading.get_ident()")  # the thread control block
    count = int.from_bytes(head[40:48], "little")
    for i in range(count):
        start, size, offset, stored, _ = struct.unpack_from("<QQQQQ", head, 160 + 40 * i)
        if start <= thread < start + size:
            assert thread + 0x38 <= start + stored
            assert head[offset + thread - start + 0x28 :][:16] == bytes(16)
            return
    raise AssertionError("the thread control block is in no segment")


def test_mangled_pointers_of_the_picture_are_those_of_the_process(subject: Subject) -> None:
    """exit(3) calls what the C library registered when the interpreter started, with the pointer guard of then."""
    result = subject.run("probe.leave(5)")
    assert (result.returncode, result.stdout, result.stderr) == (5, "atexit destructor", "")


def test_longjmp(subject: Subject) -> None:
    assert subject.ask("answer = probe.jump_back(23)") == 23


def test_errors_of_the_loader_jump(subject: Subject) -> None:
    """dlopen(3) of what is not there: the loader has a copy of the pointer guard, in memory that is read-only."""
    code = "try: ctypes.CDLL('/nonexistent.so')\nexcept OSError as error: answer = str(error)"
    assert "cannot open shared object file" in subject.ask(code)


def test_str_hashes_differ_from_build_to_build(subject: Subject) -> None:
    code = "answer = hash('pyruntime')"
    one = subject.ask(code)
    assert subject.ask(code) == one
    subject.library.snapshot.unlink()
    make_snapshot(subject.library, PYTHON)
    assert subject.ask(code) != one


# Threads, signals, memory ----------------------------------------------------------------------------------


def test_threads(subject: Subject) -> None:
    code = """
import threading
found = []
threads = [threading.Thread(target=lambda: found.append(threading.get_native_id())) for _ in range(4)]
for one in threads: one.start()
for one in threads: one.join(20)
numbers = set(found) | {threading.get_native_id()}
answer = [len(found), len(numbers), threading.current_thread() is threading.main_thread()]
"""
    assert subject.ask(code) == [4, 5, True]


def test_mutex_knows_its_owner(subject: Subject) -> None:
    """The thread's number in the C library is that of the new process."""
    assert subject.ask("answer = probe.mutex_knows_its_owner()") == 0


def test_robust_mutex_is_released_when_its_owner_dies(subject: Subject, tmp_path: Path) -> None:
    """The kernel knows the list of those that the thread holds."""
    with (tmp_path / "mutex").open("w+b") as file:
        file.truncate(4096)
        descriptor = file.fileno()
        options = {"pass_fds": [descriptor]}
        assert subject.ask(f"answer = probe.hold_robust({descriptor})", **options) == 0
        assert subject.ask(f"answer = probe.take_robust({descriptor})", **options) == 130  # EOWNERDEAD


def test_a_thread_has_a_stack_of_8_MiB(subject: Subject) -> None:
    """Whatever the limit of the caller, and of whoever made the snapshot."""
    code = """
attributes, size = (ctypes.c_char * 128)(), ctypes.c_size_t()
libc = ctypes.CDLL(None)
assert libc.pthread_getattr_default_np(attributes) == 0
assert libc.pthread_attr_getstacksize(attributes, ctypes.byref(size)) == 0
answer = size.value
"""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))

    assert subject.ask(code) == subject.ask(code, preexec_fn=limit) == 8 << 20


def test_no_restartable_sequence_is_registered(subject: Subject) -> None:
    """The kernel would write to the place that the old process had; the C library has exported this size since 2.35."""
    assert subject.ask("answer = ctypes.c_uint.in_dll(ctypes.CDLL(None), '__rseq_size').value") == 0


def test_clocks(subject: Subject) -> None:
    """Without the vdso of the old process, which is elsewhere."""
    before = time.time(), time.monotonic()
    now = subject.ask("import time; answer = [time.time(), time.monotonic()]")
    assert all(one <= other <= one + 60 for one, other in zip(before, now, strict=True))


def test_program_with_more_rights_than_its_caller(subject: Subject, tmp_path: Path) -> None:
    """What the C library then must not believe of the environment was decided in the old process (AT_SECURE)."""
    launcher = tmp_path / "launcher"
    shutil.copy(subject.library.launcher, launcher)
    launcher.chmod(0o4755)
    environment = {"PYRUNTIME_SNAPSHOT": "require"}
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}
    with open(launcher, "rb") as program:  # pytest's directories are closed to others
        path = f"/proc/self/fd/{program.fileno()}"
        options = {"pass_fds": [program.fileno()], "env": environment, "capture_output": True, "text": True, **nobody}
        result = subprocess.run([path, "--version"], **options)
    assert result.returncode == 126
    assert result.stderr.endswith("the program has more rights than its caller\n")


def test_malloc_in_threads(subject: Subject) -> None:
    assert subject.ask("answer = probe.allocate_in_threads()") == 0


def test_alternate_signal_stack(subject: Subject) -> None:
    assert subject.ask("answer = probe.alternate_stack()") == 0


def test_signal_dispositions_are_those_of_the_caller(subject: Subject) -> None:
    """As the interpreter sets them when it starts; what the caller ignores stays ignored."""
    code = """
answer = [line.split()[1] for line in open('/proc/self/status') if line.startswith(('SigIgn', 'SigCgt', 'SigBlk'))]
"""
    plain = [PYTHON, "-I", "-S", "-c", f"{code}\nimport json; print(json.dumps(answer))"]
    for ignored in (), (signal.SIGINT,), (signal.SIGTERM, signal.SIGHUP):

        def ignore(numbers: tuple[signal.Signals, ...] = ignored) -> None:
            for number in numbers:
                signal.signal(number, signal.SIG_IGN)

        options: dict[str, Any] = {"preexec_fn": ignore, "restore_signals": True}
        expected = json.loads(subprocess.run(plain, capture_output=True, check=True, **options).stdout)
        assert subject.ask(code, **options) == expected


def test_interrupt_is_an_exception(subject: Subject) -> None:
    code = """
import signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass
except KeyboardInterrupt:
    answer = "interrupted"
"""
    # A shell's command in the background ignores SIGINT, and these tests may be one.
    caught = subject.ask(code, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert caught == "interrupted"


def test_subprocesses(subject: Subject) -> None:
    code = """
import subprocess
child = os.fork()
if child == 0:
    os._exit(11 if os.getppid() != os.getpid() else 12)
answer = [
    os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]),
    subprocess.run(["/bin/sh", "-c", "echo $0 $KEPT", "it"], capture_output=True, text=True).stdout,
]
"""
    assert subject.ask(code, env={"KEPT": "yes"}) == [11, "it yes\n"]


# The interpreter -------------------------------------------------------------------------------------------


def test_command_line_and_environment(subject: Subject) -> None:
    code = "answer = [sys.argv[3:], sys.orig_argv[3:], dict(os.environ)]"
    arguments, original, environment = subject.ask(code, "a", "b c", env={"KEPT": "yes"})
    assert arguments == original == ["a", "b c"]
    assert environment == {"KEPT": "yes", "PYRUNTIME_SNAPSHOT": "require"}


def test_locale_does_not_depend_on_the_caller(subject: Subject) -> None:
    code = "answer = [sys.getfilesystemencoding(), sys.stdout.encoding, sys.stdout.errors, os.strerror(2), f'{1.5:n}']"
    environments: list[dict[str, str]] = [{}, {"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}, {"LANG": "de_DE.UTF-8"}]
    answers = [subject.ask(code, env=env) for env in environments]
    assert answers == [["utf-8", "utf-8", "surrogateescape", "No such file or directory", "1.5"]] * 4


@pytest.mark.parametrize("kind", ["pipe", "file", "appended", "null"])
def test_standard_streams(subject: Subject, kind: str, tmp_path: Path) -> None:
    """They were /dev/null and a pipe when the picture was taken."""
    code = "print('first'); sys.stdout.flush(); sys.stderr.write('error\\n'); answer = sys.stdin.read()"
    target = tmp_path / "out"
    target.write_text("before\n")
    command = [str(subject.library.launcher), code, str(subject.probe)]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": {}, "timeout": 60}
    if kind == "pipe":
        given = {**options, "stdin": None, "input": b"asked"}
        result = subprocess.run(command, **given, stdout=subprocess.PIPE)
        assert result.stdout == b'first\n"asked"\n'
    elif kind == "null":
        result = subprocess.run(command, **options, stdout=subprocess.DEVNULL)
    else:
        with target.open("ab" if kind == "appended" else "r+b") as file:
            result = subprocess.run(command, **options, stdout=file)
        assert target.read_text() == ('before\nfirst\n""\n' if kind == "appended" else 'first\n""\n')
    assert (result.returncode, result.stderr) == (0, b"error\n")


def test_deep_recursion_is_an_exception(subject: Subject) -> None:
    """The interpreter knows where its stack ends: since Python 3.14 it compares addresses."""
    code = """
def down(n): return down(n + 1)
try: down(0)
except RecursionError: answer = "RecursionError"
nested = []
for _ in range(200_000): nested = [nested]
try: repr(nested)
except RecursionError: answer += " RecursionError"
"""
    assert subject.ask(code) == "RecursionError RecursionError"
