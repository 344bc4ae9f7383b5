"""The state record: whole, versioned, locked, and never fooled by a pid that was used again."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.handshake import ended, fork

from pyruntime.commands import kill, salvage
from pyruntime.errors import Busy, NotFound, StateError
from pyruntime.kernel.pidfd import send_signal
from pyruntime.state import store
from pyruntime.state.status import oci_state, open_init, status_of
from pyruntime.state.store import Record
from pyruntime.util import fastjson
from pyruntime.util.fileio import read_file
from pyruntime.util.ids import ContainerId, ExecId, Namespace
from pyruntime.util.procfs import start_time

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


@pytest.fixture
def record(root: str) -> Record:
    directory, lock = store.make(root, "box")
    os.close(lock)
    return Record(directory, "box")


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The pid of a process that does nothing."""
    pid = fork(lambda: time.sleep(60))
    yield pid
    try:
        os.kill(pid, signal.SIGKILL)
        ended(pid)
    except (ChildProcessError, ProcessLookupError):
        pass


# Ids.


@pytest.mark.parametrize("id", ["a", "box", "a.b", "_a", "+a", "-a", "A-1_b+c.d", "a..b", "x" * 1024])
def test_an_id(id: str) -> None:
    checked = ContainerId(id)
    assert (checked, type(checked), hash(checked)) == (id, ContainerId, hash(id))
    assert ContainerId(checked) is checked
    assert fastjson.loads(fastjson.dumps({"id": checked})) == {"id": id}


@pytest.mark.parametrize(
    "id",
    ["", ".", "..", ".a", "a/b", "/a", "../a", "a b", "a\n", "a\0", "ä", "a:b", "a*", "²", "x" * 1025],
)
def test_what_is_no_id(id: str, root: str) -> None:
    with pytest.raises(StateError, match="container id") as caught:
        ContainerId(id)
    assert caught.value.hint
    with pytest.raises(StateError, match="container id"):
        store.load(root, id)
    with pytest.raises(StateError, match="container id"):
        store.make(root, id)
    with pytest.raises(StateError, match="container id"):
        salvage.read(root, id)
    with pytest.raises(StateError, match="container id"):
        store.exists(root, id)
    assert not os.path.exists(root)


@pytest.mark.parametrize("kind", [ContainerId, ExecId, Namespace])
def test_the_kinds_of_names(kind: type[str]) -> None:
    """What is one of them is not another: mypy would not take it either."""
    assert type(kind(ContainerId("a"))) is kind
    for text in ("", "..", "a/b"):
        with pytest.raises(StateError, match=kind.KIND):
            kind(text)


# The record.


def test_a_record_there_and_back(root: str, record: Record) -> None:
    record.bundle = "/b/\udcff"  # a path that is not UTF-8
    record.oci_version = "1.2.0"
    record.annotations = {"a": "b"}
    record.pid, record.start, record.created = 7, 8, "now"
    record.cgroups = {"cpu": "/sys/fs/cgroup/cpu/box"}
    record.hooks = {"poststop": [{"path": "/bin/true"}]}
    record.private_pid = False
    record.extra = {"rdt": "/x"}
    record.save()
    again = store.load(root, "box")
    for name in Record.__slots__:
        assert getattr(again, name) == getattr(record, name), name
    assert json.loads(Path(record.path(store.RECORD)).read_text())["version"] == store.VERSION


def test_a_descriptor_is_not_part_of_it(root: str, record: Record) -> None:
    """It is the command's own: in another one the number stands for something else."""
    record.pidfd = 7
    record.save()
    assert "pidfd" not in json.loads(Path(record.path(store.RECORD)).read_text())
    assert store.load(root, ContainerId(record.id)).pidfd == -1


def test_only_the_owner_reads_it(root: str, record: Record) -> None:
    record.save()
    assert os.stat(record.directory).st_mode & 0o777 == 0o700
    assert os.stat(record.path(store.RECORD)).st_mode & 0o777 == 0o600
    assert os.stat(root).st_mode & 0o777 == 0o700


def test_a_record_of_another_version(root: str, record: Record) -> None:
    record.save()
    path = Path(record.path(store.RECORD))
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "version": 99}))
    with pytest.raises(StateError, match="has version 99, this pyruntime knows 1"):
        store.load(root, "box")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", '{"version": 1}', '{"pid": 1}', "\x00"])
def test_a_damaged_record(root: str, record: Record, text: str) -> None:
    Path(record.path(store.RECORD)).write_text(text)
    with pytest.raises(StateError, match="is damaged") as caught:
        store.load(root, "box")
    assert "delete --force box" in str(caught.value)


def test_a_directory_without_a_record(root: str, record: Record) -> None:
    with pytest.raises(StateError, match="has no record"):
        store.load(root, "box")


def test_no_such_container(root: str) -> None:
    with pytest.raises(NotFound, match='container "box" does not exist'):
        store.load(root, "box")


def test_readers_never_see_a_part(record: Record) -> None:
    """Short and long records in turn, under the eyes of a reader."""
    path = Path(record.path(store.RECORD))
    record.save()
    stop = threading.Event()
    seen: set[int] = set()
    broken: list[str] = []

    def read() -> None:
        while not stop.is_set():
            text = path.read_text()
            try:
                seen.add(len(json.loads(text)["annotations"]))
            except ValueError:
                broken.append(text)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(300):
        record.annotations = {str(n): "x" * 100 for n in range(200 * (turn % 2))}
        record.save()
    stop.set()
    reader.join()
    assert not broken
    assert seen <= {0, 200}
    assert sorted(os.listdir(record.directory)) == [store.RECORD]


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    limited = tmp_path / "file"
    limited.write_text("old")
    code = (
        "import sys, resource, signal; sys.path.insert(0, sys.argv[1])\n"
        "from pyruntime.util import fileio\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try: fileio.write_atomically(sys.argv[2], 'file', 'x' * 100)\n"
        "except OSError as error: print(error.errno)\n"
    )
    command = [sys.executable, "-c", code, str(CHECKOUT), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout.strip() == str(errno.EFBIG), result.stderr
    assert limited.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 65536, 200000])
def test_a_file_is_read_as_a_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert len(read_file(str(path))) == size


# The directory and its lock.


def test_an_id_is_taken_once(root: str, record: Record) -> None:
    with pytest.raises(StateError, match="container with given ID already exists: box"):
        store.make(root, "box")


def test_a_root_below_what_is_not_there(tmp_path: Path) -> None:
    directory, lock = store.make(str(tmp_path / "a/b/c"), "box")
    os.close(lock)
    assert os.path.isdir(directory)


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot keep the container's state"):
        store.make(str(tmp_path / "file"), "box")


def test_two_processes_one_lock(record: Record, tmp_path: Path) -> None:
    """Each adds one to a number that only the lock protects."""
    number = tmp_path / "number"
    number.write_text("0")

    def work() -> None:
        for _ in range(50):
            fd = store.lock(record.directory, "box")
            value = int(number.read_text())
            time.sleep(0)
            number.write_text(str(value + 1))
            os.close(fd)

    for pid in [fork(work) for _ in range(3)]:
        assert ended(pid) == 0
    assert number.read_text() == "150"


def test_a_lock_that_is_not_given_back(record: Record) -> None:
    fd = store.lock(record.directory, "box")
    with pytest.raises(Busy, match="container box is busy"):
        store.lock(record.directory, "box", timeout=0.05)
    os.close(fd)
    os.close(store.lock(record.directory, "box", timeout=0.05))


def test_the_lock_of_a_dead_process_is_free(record: Record) -> None:
    ready, done = os.pipe()

    def hold() -> None:
        store.lock(record.directory, "box")
        os.write(done, b"x")
        time.sleep(60)

    pid = fork(hold)
    os.read(ready, 1)
    with pytest.raises(Busy):
        store.lock(record.directory, "box", timeout=0.02)
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    os.close(store.lock(record.directory, "box", timeout=1))
    os.close(ready)
    os.close(done)


def test_waiting_for_a_container_that_is_removed_meanwhile(record: Record) -> None:
    holder = store.lock(record.directory, "box")

    def release() -> None:
        time.sleep(0.05)
        store.remove(record.directory)
        os.close(holder)

    thread = threading.Thread(target=release)
    thread.start()
    with pytest.raises(NotFound):
        store.lock(record.directory, "box", timeout=5)
    thread.join()


def test_removing_twice(record: Record) -> None:
    record.save()
    store.remove(record.directory)
    store.remove(record.directory)
    assert not os.path.exists(record.directory)


# What the kernel says.


def test_start_time_is_that_of_the_process(sleeper: int) -> None:
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    ticks = os.sysconf("SC_CLK_TCK")
    assert abs(start_time(sleeper) / ticks - boot) < 5
    assert start_time(0) == start_time(-1) == start_time(2**22 + 1) == 0


def test_a_zombie_is_gone(sleeper: int) -> None:
    os.kill(sleeper, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper, os.WEXITED | os.WNOWAIT)
    assert os.path.exists(f"/proc/{sleeper}")
    assert start_time(sleeper) == 0


def test_a_name_that_looks_like_the_end_of_the_name() -> None:
    """proc(5): the second field of stat is what the process calls itself."""

    def work() -> None:
        Path("/proc/self/comm").write_text(") Z 1 (")
        assert start_time(os.getpid()) > 0

    assert ended(fork(work)) == 0


def test_status(record: Record, sleeper: int) -> None:
    assert status_of(record) == "creating"
    record.pid, record.start = sleeper, start_time(sleeper)
    assert status_of(record) == "creating"
    record.created = "now"
    assert status_of(record) == "running"
    os.mkfifo(record.path(store.FIFO))
    assert status_of(record) == "running"
    fifo = os.open(record.path(store.FIFO), os.O_RDWR)
    assert status_of(record) == "created"
    os.close(fifo)
    assert status_of(record) == "running"
    os.kill(sleeper, signal.SIGKILL)
    ended(sleeper)
    assert status_of(record) == "stopped"


def test_a_pid_that_was_used_again(record: Record, sleeper: int) -> None:
    """The process is there, and it is another one: neither shown as running nor killed."""
    record.pid, record.start, record.created = sleeper, start_time(sleeper) - 1, "now"
    assert status_of(record) == "stopped"
    assert open_init(record) == -1
    with pytest.raises(StateError, match="container not running"):
        kill.kill(record, signal.SIGKILL)
    kill.kill_all(record)
    assert start_time(sleeper) > 0


def test_kill_of_a_zombie(record: Record, sleeper: int) -> None:
    record.pid, record.start, record.created = sleeper, start_time(sleeper), "now"
    os.kill(sleeper, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper, os.WEXITED | os.WNOWAIT)
    with pytest.raises(StateError, match="container not running"):
        kill.kill(record, signal.SIGTERM)


def test_a_signal_for_a_process_that_is_reaped(sleeper: int) -> None:
    pidfd = os.pidfd_open(sleeper)
    os.kill(sleeper, signal.SIGKILL)
    ended(sleeper)
    with pytest.raises(ProcessLookupError):
        send_signal(pidfd, signal.SIGTERM)
    os.close(pidfd)


def test_kill_all_waits_for_the_end(record: Record, sleeper: int) -> None:
    record.pid, record.start, record.created = sleeper, start_time(sleeper), "now"
    kill.kill_all(record)
    assert start_time(sleeper) == 0


# What is shown.


def test_the_state_that_is_shown(record: Record) -> None:
    record.oci_version, record.bundle, record.pid = "1.2.0", "/b", 5
    shown = {"ociVersion": "1.2.0", "id": "box", "status": "running", "pid": 5, "bundle": "/b"}
    assert oci_state(record, "running") == shown
    assert oci_state(record, "running", 0)["pid"] == 0
    record.annotations = {"a": "b"}
    assert oci_state(record, "running")["annotations"] == {"a": "b"}
    # runtime-spec runtime.md, "State": the pid is REQUIRED only while there is one.
    assert "pid" not in oci_state(record, "stopped")


def test_a_long_file_of_proc_is_read_to_its_end() -> None:
    """Such files come in whole lines, a page at most at a time: a short read is no end."""
    memory = [bytearray(1 << 20) for _ in range(3)]
    text = read_file("/proc/self/smaps")
    assert len(text) > 20000 and memory
    assert text.splitlines()[-1].startswith("VmFlags:")
    assert "[vsyscall]" in text or "[stack]" in text


def test_remove_of_a_directory_that_somebody_writes_into(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """`delete --force` leaves its word for whoever holds the lock, and that one deletes the container itself."""
    record.save()
    unlink = os.unlink

    def late(name: str, **options: int) -> None:
        unlink(name, **options)
        if name == store.RECORD:
            monkeypatch.undo()
            store.abandon(record)

    monkeypatch.setattr(store.posix, "unlink", late)
    store.remove(record.directory)
    assert not os.path.exists(record.directory)


def test_the_record_goes_last(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed before that leaves it to the next `delete`."""
    record.save()
    for name in (store.CONFIG, store.FIFO, "z"):
        Path(record.path(name)).touch()
    unlink = os.unlink
    gone: list[str] = []

    def note(name: str, **options: int) -> None:
        gone.append(name)
        unlink(name, **options)

    monkeypatch.setattr(store.posix, "unlink", note)
    store.remove(record.directory)
    assert len(gone) == 4
    assert gone[-1] == store.RECORD


def test_remove_through_a_link(root: str, record: Record, tmp_path: Path) -> None:
    record.save()
    os.rename(record.directory, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", record.directory)
    with pytest.raises(StateError, match="is a symbolic link"):
        store.remove(record.directory)
    with pytest.raises(StateError, match="is a symbolic link"):
        store.lock(record.directory, "box")
    with pytest.raises(StateError, match="is a symbolic link"):
        salvage.read(root, "box")
    assert os.listdir(tmp_path / "elsewhere") == [store.RECORD]


@pytest.mark.parametrize("call", ["fstat", "read"])
def test_a_lock_that_fails_is_given_back(record: Record, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Else the command would wait for itself when it undoes what it has made."""
    record.save()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    with monkeypatch.context() as patch:
        patch.setattr(store.posix, call, fail)
        with pytest.raises(OSError, match="no memory"):
            store.lock_again(record)
    os.close(store.lock(record.directory, "box", timeout=0))


def test_a_directory_that_cannot_be_looked_at_is_removed(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    with monkeypatch.context() as patch:
        patch.setattr(store.posix, "listdir", fail)
        with pytest.raises(StateError):
            store.make(root, "box")
    assert not store.exists(root, "box")


def test_reading_takes_as_long_as_the_file_is(tmp_path: Path) -> None:
    """Four times the size, about four times the CPU time: annotations alone may make a record of 30 MB. Both sizes are
    above what malloc(3) keeps for the next one (M_MMAP_THRESHOLD, 32 MiB at most)."""
    spent = []
    for megabytes in (40, 160):
        (tmp_path / "file").write_bytes(b"x" * (megabytes << 20))
        tries = []  # the least is what it takes: the machine may be busy with faults of other processes
        for _ in range(3):
            begun = time.process_time()
            read_file(str(tmp_path / "file"))
            tries.append(time.process_time() - begun)
        spent.append(min(tries))
    assert spent[1] < 9 * spent[0], spent  # sixteen times when each chunk copies all before it
