"""Which objects of the snapshot its commands write to, so that those can lie side by side.

Using an object counts a reference in it, and the first write to a page of the snapshot copies the page. Of a
hundred thousand objects that importing makes, a command uses two thousand, and left to themselves these are on several
hundred pages. So make.py starts the interpreter twice. The first time each object has pages of its own
(native/placement.c), containers are run for practice, and /proc/PID/pagemap shows which pages they have
copied. The second time the same allocations come in the same order, and what was written to lies together.

Practice is rootless and without cgroups: it is done as nobody when root makes the snapshot, and can change nothing
outside an empty directory and namespaces of its own.
"""

from __future__ import annotations

import posix
from bisect import bisect

from pyruntime.features.cgroups import place
from pyruntime.features.process import program
from pyruntime.kernel import process, snapshot
from pyruntime.kernel.constants import PR_SET_DUMPABLE, SIGKILL
from pyruntime.spec import sample
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyruntime.plan.actors import ParentActor
    from pyruntime.spec.sections import Config, Mount

    Pages = list[int]
    Run = Callable[[list[str]], int]  # runs a command line: its exit status

_PAGE = 4096
_OWN = 1 << 63 | 1 << 56  # of an entry in pagemap: the page is in memory, and mapped by this process alone
# Objects that are used at the same times lie together: the number of a group is the sum of these.
_BEFORE_CLONE, _AFTER_CLONE, _INIT = 1, 2, 4
_GROUPS = 8
_ID = "practice"
_NOBODY = 65534


class Pagemap:
    """Which page of memory is where, of the pages that observed objects lie on (proc(5), /proc/PID/pagemap)."""

    def __init__(self, count: int) -> None:
        self.first: int = snapshot.address(0) // _PAGE
        last: int = (snapshot.address(count - 1) + snapshot.size(count - 1)) // _PAGE
        self.length = last + 1 - self.first

    def read(self, pid: int) -> Pages:
        """Return the pages of a process, by their number since the first."""
        fd = posix.open(f"/proc/{pid}/pagemap", posix.O_RDONLY | posix.O_CLOEXEC)
        parts = []
        place, end = self.first * 8, (self.first + self.length) * 8
        while place < end:
            parts.append(posix.pread(fd, end - place, place))
            place += len(parts[-1])
        posix.close(fd)
        return memoryview(b"".join(parts)).cast("Q").tolist()


def observe(count: int, run: Run) -> None:
    """Write to the file `placement` what native/placement.c takes: the groups of the first `count` allocations of this
    process. In the current directory, which is empty and is chowned to nobody, containers are run for it; what is there
    afterwards is the caller's to remove. Raises SystemExit, or any error of a command, when that cannot be done."""
    _become_nobody()
    pagemap = Pagemap(count)
    groups = bytearray(count)
    starts = [snapshot.address(i) // _PAGE - pagemap.first for i in range(count)]
    for when, pages in _practise(pagemap, run):
        for page, entry in enumerate(pages):
            if entry & _OWN == _OWN:
                groups[bisect(starts, page) - 1] |= when
    sizes = [0] * _GROUPS
    for i, group in enumerate(groups):
        sizes[group] += -(-snapshot.size(i) // 16) * 16 if group else 0
    data = b"".join((-(-size // _PAGE) * _PAGE).to_bytes(8, "little") for size in sizes) + bytes(groups)
    _write("placement", data)


def _become_nobody() -> None:
    """As root: give up all rights, so that nothing outside the current directory and new namespaces can be changed."""
    if posix.geteuid() == 0:
        posix.chown(".", _NOBODY, _NOBODY)
        posix.setgroups([])
        posix.setresgid(_NOBODY, _NOBODY, _NOBODY)
        posix.setresuid(_NOBODY, _NOBODY, _NOBODY)
    prctl = process.prctl

    def stay_dumpable(option: int, *values: int) -> int:
        return 0 if option == PR_SET_DUMPABLE else prctl(option, *values)

    prctl(PR_SET_DUMPABLE, 1)
    process.prctl = stay_dumpable  # type: ignore[assignment]  # else init's pagemap is for root only


def _practise(pagemap: Pagemap, run: Run) -> list[tuple[int, Pages]]:
    """Run containers: [(when, the pages after it)]."""
    bundle = posix.getcwd()

    def command(*words: str) -> None:
        status = run(["--root", f"{bundle}/state", *words])
        if status:
            raise SystemExit(f"practice: {words[0]}: exit status {status}")

    config = _config()
    _write("config.json", fastjson.dumps(config).encode())
    clone, own = place.clone, posix.getpid()
    at_clone: list[Pages] = []

    def observed_clone(parent: ParentActor, flags: int) -> tuple[int, int]:
        at_clone.append(pagemap.read(own))
        witnesses.append(snapshot.witness())
        return clone(parent, flags)

    witnesses = [snapshot.witness()]
    try:
        # init is looked at while it waits at the exec fifo, and must remember until then.
        may_forget, program.may_forget = program.may_forget, lambda *_: False
        place.clone = observed_clone
        command("create", "--bundle", bundle, _ID)
        place.clone, program.may_forget = clone, may_forget
        created = pagemap.read(own)
        pid = _pid()
        init = pagemap.read(pid)
        command("state", _ID)
        command("start", _ID)
        command("exec", _ID, "/bin/true")
        command("kill", _ID, "KILL")
        posix.waitpid(pid, 0)
        command("delete", _ID)
        config["process"]["args"] = ["/bin/true"]
        _write("config.json", fastjson.dumps(config).encode())
        command("run", "--bundle", bundle, _ID)
        ended = pagemap.read(own)
        return [(_BEFORE_CLONE, at_clone[0]), (_AFTER_CLONE, created), (_INIT, init), (_BEFORE_CLONE, ended)]
    finally:
        command("delete", "--force", _ID)
        for witness in witnesses:
            posix.kill(witness, SIGKILL)


def _config() -> Config:
    """Return what engines ask for, more or less; a root filesystem of what the host has."""
    config = sample.sample(rootless=True)
    config["process"] |= {"terminal": False, "args": ["/bin/sleep", "100"]}
    posix.mkdir("rootfs")
    for name in ("bin", "lib", "lib64", "usr"):
        try:
            posix.stat(f"/{name}")
        except FileNotFoundError:
            continue
        bind: Mount = {"destination": f"/{name}", "type": "bind", "source": f"/{name}", "options": ["rbind", "ro"]}
        config["mounts"].append(bind)
    return config


def _write(file: str, data: bytes) -> None:
    fd = posix.open(file, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
    while data:
        data = data[posix.write(fd, data) :]
    posix.close(fd)


def _pid() -> int:
    fd = posix.open(f"state/{_ID}/state.json", posix.O_RDONLY | posix.O_CLOEXEC)
    record = fastjson.loads(posix.read(fd, 1 << 16).decode())
    posix.close(fd)
    return int(record["pid"])
