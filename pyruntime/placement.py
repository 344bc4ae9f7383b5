"""Which objects of the snapshot its commands write to, so that those can lie side by side.

Whoever uses an object counts a reference in it, and the first write to a page of the snapshot copies the page. Of a
hundred thousand objects that importing makes, a command uses two thousand, and left to themselves these are on several
hundred pages. So tools/make-snapshot.py starts the interpreter twice. The first time each object has pages of its own
(native/placement.c), containers are run, for practice, and /proc/PID/pagemap tells which pages they have
copied. The second time the same allocations come in the same order, and what was written to lies together.
"""

from __future__ import annotations

import posix
from bisect import bisect

from pyruntime import fastjson
from pyruntime.cgroups import place
from pyruntime.cli import main
from pyruntime.kernel import snapshot
from pyruntime.process import program
from pyruntime.spec import sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Pages = list[int]

_PAGE = 4096
_SIGKILL = 9
_FRAME = (1 << 55) - 1  # the page frame's number; 0 for whoever is not to know it
# Objects that are used at the same times lie together: the number of a group is the sum of these.
_BEFORE_CLONE, _AFTER_CLONE, _INIT = 1, 2, 4
_GROUPS = 8
_ID = "practice"


class Pagemap:
    """Which page of memory is where, of the pages that observed objects lie on (proc(5), /proc/PID/pagemap)."""

    def __init__(self, count: int) -> None:
        self.first: int = snapshot.address(0) // _PAGE
        last: int = (snapshot.address(count - 1) + snapshot.size(count - 1)) // _PAGE
        self.length = last + 1 - self.first

    def read(self, pid: int) -> Pages:
        """The pages of a process, by their number since the first."""
        fd = posix.open(f"/proc/{pid}/pagemap", posix.O_RDONLY | posix.O_CLOEXEC)
        parts = []
        place, end = self.first * 8, (self.first + self.length) * 8
        while place < end:
            parts.append(posix.pread(fd, end - place, place))
            place += len(parts[-1])
        posix.close(fd)
        return memoryview(b"".join(parts)).cast("Q").tolist()


def observe(count: int) -> None:
    """Write to the file `placement` what native/placement.c takes: the groups of the first `count` allocations of this
    process. In the current directory, which is empty, containers are run for it; what is there afterwards is the
    caller's to remove. Raises SystemExit, or any error of a command, when that cannot be done here."""
    pagemap = Pagemap(count)
    groups = bytearray(count)
    starts = [snapshot.address(i) // _PAGE - pagemap.first for i in range(count)]
    for when, before, after in _practise(pagemap):
        for page, (was, now) in enumerate(zip(before, after, strict=True)):
            if (was ^ now) & _FRAME:
                groups[bisect(starts, page) - 1] |= when
    sizes = [0] * _GROUPS
    for i, group in enumerate(groups):
        sizes[group] += -(-snapshot.size(i) // 16) * 16 if group else 0
    data = b"".join((-(-size // _PAGE) * _PAGE).to_bytes(8, "little") for size in sizes) + bytes(groups)
    _write("placement", data)


def _practise(pagemap: Pagemap) -> list[tuple[int, Pages, Pages]]:
    """Run containers: [(when, the pages before, and after)]."""
    bundle = posix.getcwd()
    config = _config()
    _write("config.json", fastjson.dumps(config).encode())
    clone, own = place.clone, posix.getpid()
    at_clone: list[Pages] = []

    def observed_clone(parent: Any, flags: int) -> tuple[int, int]:
        at_clone.append(pagemap.read(own))
        return clone(parent, flags)

    witness = snapshot.witness()
    try:
        start = pagemap.read(own)
        # init is looked at while it waits at the gate, and must remember until then.
        may_forget, program.may_forget = program.may_forget, lambda *_: False
        place.clone = observed_clone
        _command("create", "--bundle", bundle, _ID)
        place.clone, program.may_forget = clone, may_forget
        created = pagemap.read(own)
        pid = _pid()
        init = pagemap.read(pid)
        _command("state", _ID)
        _command("start", _ID)
        _command("exec", _ID, "/bin/true")
        _command("kill", _ID, "KILL")
        posix.waitpid(pid, 0)
        _command("delete", _ID)
        config["process"]["args"] = ["/bin/true"]
        _write("config.json", fastjson.dumps(config).encode())
        _command("run", "--bundle", bundle, _ID)
        return [
            (_BEFORE_CLONE, start, at_clone[0]),
            (_AFTER_CLONE, at_clone[0], created),
            (_INIT, at_clone[0], init),
            (_BEFORE_CLONE, start, pagemap.read(own)),
        ]
    finally:
        _command("delete", "--force", _ID)
        posix.kill(witness, _SIGKILL)


def _config() -> dict[str, Any]:
    """What engines ask for, more or less; a root filesystem of what the host has."""
    config = sample.sample(rootless=False)
    config["process"] |= {"terminal": False, "args": ["/bin/sleep", "100"]}
    config["linux"]["cgroupsPath"] = f"/pyruntime-{_ID}-{posix.getpid()}"
    posix.mkdir("rootfs")
    for name in ("bin", "lib", "lib64", "usr"):
        try:
            posix.stat(f"/{name}")
        except FileNotFoundError:
            continue
        bind = {"destination": f"/{name}", "type": "bind", "source": f"/{name}", "options": ["rbind", "ro"]}
        config["mounts"].append(bind)
    return config


def _write(file: str, data: bytes) -> None:
    fd = posix.open(file, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
    while data:
        data = data[posix.write(fd, data) :]
    posix.close(fd)


def _pid() -> int:
    fd = posix.open(f"state/{_ID}/state.json", posix.O_RDONLY | posix.O_CLOEXEC)
    record: Any = fastjson.loads(posix.read(fd, 1 << 16).decode())
    posix.close(fd)
    return int(record["pid"])


def _command(*words: str) -> None:
    status = main.run(["--root", f"{posix.getcwd()}/state", *words])
    if status:
        raise SystemExit(f"practice: {words[0]}: exit status {status}")
