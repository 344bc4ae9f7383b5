"""Looking where only a walk along a path helps: in a child, against the clock.

What lies below a container's root is hostile. Links cannot lead out (openat2(2), RESOLVE_IN_ROOT), nothing is opened
but to be looked at (O_PATH: no device, no FIFO, no lock), and where the walk hangs all the same, in a filesystem
of the container's that does not answer, the child is killed and the answer is that there is none.

The child has joined the container's network, ipc and uts namespaces (none of which shows it to the container or lets it
be reached by ptrace(2)) and keeps the host's /proc: the files it reads sysctls from are not the container's.
"""

from __future__ import annotations

import posix
import select

from pyruntime.errors import KernelError
from pyruntime.kernel import files, mount, process
from pyruntime.kernel.constants import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWUTS,
    ENOENT,
    ENOTDIR,
    O_PATH,
    PR_SET_DUMPABLE,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
    SIGKILL,
)
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TypedDict

    class Described(TypedDict, total=False):
        """What the probe answers: of a file, of a value that was read, or why neither can be seen."""

        mode: int
        dev: int
        ino: int
        rdev: int
        uid: int
        gid: int
        size: int
        mount: int
        target: str
        empty: bool
        value: str
        hidden: str

    class Question(TypedDict, total=False):
        """What the probe is asked for; one member, and follow beside look."""

        look: str
        follow: bool
        host: str
        sysctl: str
        uts: bool


SECONDS = 3.0
_PATIENCE = 3  # walks that may hang before no more are started
_MAX_ANSWER = 1 << 16


class Hidden(Exception):
    """It cannot be seen; the words say why."""


class Probe:
    """The child, made when it is first asked, and again after it had to be killed.

    pidfd, root_fd: of the container's init, and of its root directory (O_PATH)."""

    def __init__(self, pidfd: int, root_fd: int, proc_fd: int) -> None:
        self._pidfd = pidfd
        self._root_fd = root_fd
        self._proc_fd = proc_fd
        self._pid = 0
        self._to = self._from = -1
        self._killed = 0

    def look(self, path: str, *, follow: bool = True) -> Described | None:
        """Return what a path below the container's root is, None when there is nothing: mode, dev, ino, rdev, uid,
        gid, the mount's id, for a link its target, and for a directory, if it is empty. Raises Hidden."""
        return self._ask({"look": path, "follow": follow})

    def look_at_host(self, path: str) -> Described | None:
        """Return the same for a path of the host's."""
        return self._ask({"host": path})

    def sysctl(self, path: str) -> str | None:
        """Return a file below /proc/sys as the container's namespaces have it, None when there is none. Raises
        Hidden."""
        found = self._ask({"sysctl": path})
        return None if found is None else str(found["value"])

    def hostname(self) -> str:
        """Return the name in the container's uts namespace. Raises Hidden."""
        found = self._ask({"uts": True})
        return str(found["value"]) if found else ""

    def close(self) -> None:
        """End the child."""
        if self._pid:
            posix.close(self._to)
            posix.close(self._from)
            try:
                posix.kill(self._pid, SIGKILL)
            except ProcessLookupError:
                pass
            # One that stands in a filesystem that does not answer dies when the kernel lets it.
            self._wait()
            self._pid = 0

    def _wait(self) -> None:
        for _ in range(100):
            if posix.waitpid(self._pid, posix.WNOHANG)[0]:
                return
            select.select((), (), (), 0.01)

    def _ask(self, question: Question) -> Described | None:
        if self._killed >= _PATIENCE:
            raise Hidden("the container's filesystems do not answer")
        if not self._pid:
            self._start()
        posix.write(self._to, fastjson.dumps(question).encode("utf-8", "surrogateescape") + b"\n")
        data = b""
        poll = select.poll()
        poll.register(self._from, select.POLLIN)
        while not data.endswith(b"\n"):
            if not poll.poll(SECONDS * 1000):
                self.close()
                self._killed += 1
                raise Hidden(f"no answer within {SECONDS:g} s: a filesystem of the container does not respond")
            chunk = posix.read(self._from, _MAX_ANSWER)
            if not chunk:
                self.close()
                raise Hidden("the process that looked has died")
            data += chunk
        answer = fastjson.loads(data.decode("utf-8", "surrogateescape"))
        if answer is not None and "hidden" in answer:
            raise Hidden(answer["hidden"])
        return answer

    def _start(self) -> None:
        asked, self._to = posix.pipe2(posix.O_CLOEXEC)
        self._from, answers = posix.pipe2(posix.O_CLOEXEC)
        self._pid = posix.fork()
        if self._pid == 0:
            try:
                posix.close(self._to)
                posix.close(self._from)
                self._serve(asked, answers)
            finally:
                posix._exit(1)
        posix.close(asked)
        posix.close(answers)

    def _serve(self, asked: int, answers: int) -> NoReturn:
        process.prctl(PR_SET_DUMPABLE, 0)
        joined = ""
        try:
            process.setns(self._pidfd, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, "of the container's init")
        except KernelError as error:
            joined = f"its namespaces cannot be joined: {error.strerror}"
        data = b""
        while chunk := posix.read(asked, _MAX_ANSWER):
            data += chunk
            if not data.endswith(b"\n"):
                continue
            question = fastjson.loads(data.decode("utf-8", "surrogateescape"))
            data = b""
            try:
                answer = self._answer(question, joined)
            except OSError as error:
                answer = {"hidden": f"{error.strerror}"}
                if error.errno in (ENOENT, ENOTDIR):
                    answer = None
            line = fastjson.dumps(answer).encode("utf-8", "surrogateescape") + b"\n"
            while line:
                line = line[posix.write(answers, line) :]
        posix._exit(0)

    def _answer(self, question: Question, joined: str) -> Described | None:
        if "look" in question:
            flags = O_PATH | (0 if question["follow"] else posix.O_NOFOLLOW)
            fd = files.open_resolved(self._root_fd, question["look"], flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
            return _described(fd)
        if "host" in question:
            return _described(posix.open(question["host"], O_PATH | posix.O_CLOEXEC))
        if joined:
            return {"hidden": joined}
        if "uts" in question:
            return {"value": posix.uname().nodename}
        resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
        fd = files.open_resolved(self._proc_fd, f"sys/{question['sysctl']}", posix.O_RDONLY, resolve)
        return {"value": posix.read(fd, _MAX_ANSWER // 2).decode("utf-8", "replace")}


def _described(fd: int) -> Described:
    found = posix.fstat(fd)
    answer: Described = {
        "mode": found.st_mode,
        "dev": found.st_dev,
        "ino": found.st_ino,
        "rdev": found.st_rdev,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "size": found.st_size,
    }
    try:
        answer["mount"] = mount.mount_id(fd)
    except OSError:
        answer["mount"] = 0
    if found.st_mode & S_IFMT == S_IFLNK:
        answer["target"] = posix.readlink("", dir_fd=fd)
    elif found.st_mode & S_IFMT == S_IFDIR:
        answer["empty"] = _is_empty(fd)
    posix.close(fd)
    return answer


def _is_empty(directory: int) -> bool:
    """Return whether a directory has nothing in it; one that cannot be read counts as full."""
    try:
        fd = posix.open(".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return False
    try:
        with posix.scandir(fd) as entries:
            return next(iter(entries), None) is None
    finally:
        posix.close(fd)
