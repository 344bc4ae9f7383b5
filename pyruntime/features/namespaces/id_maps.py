"""User namespace maps: /proc/PID/uid_map, gid_map and setgroups, written from outside (user_namespaces(7))."""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, KernelError, StepError
from pyruntime.kernel import files
from pyruntime.kernel.constants import EACCES, EPERM
from pyruntime.plan.step import Step
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import HasPid
    from pyruntime.plan.request import Request

_HELPERS = {"uid_map": "newuidmap", "gid_map": "newgidmap"}
_PLACES = ("/usr/bin/", "/bin/", "/usr/local/bin/", "/usr/sbin/")


def plan(request: Request) -> Iterator[Step]:
    """SETUP: the parent writes the maps of a new user namespace while init waits for its plan, or compares them with
    those of one that init has joined."""
    own, path = request.namespace("user")
    if not own:
        return
    for field, file, entries in (
        ("uidMappings", "uid_map", request.linux.get("uidMappings")),
        ("gidMappings", "gid_map", request.linux.get("gidMappings")),
    ):
        lines = [[entry["containerID"], entry["hostID"], entry["size"]] for entry in entries or ()]
        if path:
            if lines:
                yield Step(f"/linux/{field}", require_map, file=file, lines=lines, path=path)
            continue
        if not lines:
            raise ConfigError(
                "is required for a new user namespace and missing",
                pointer=f"/linux/{field}",
                why="without a map no id of the container is one of the host, and nothing can be done in it",
                hint='add one such as [{"containerID": 0, "hostID": 100000, "size": 65536}]',
            )
        yield Step(f"/linux/{field}", write_map, file=file, lines=lines, rootless=request.rootless)


def require_map(parent: HasPid, file: str, lines: list[list[int]], path: str) -> None:
    """compare {file} of the user namespace {path} with {lines}"""
    found = [[int(number) for number in line.split()] for line in read_file(f"/proc/{parent.pid}/{file}").splitlines()]
    if sorted(found) != sorted(lines):
        shown = ", ".join(" ".join(map(str, line)) for line in found) or "empty"
        raise ConfigError(
            f"is not the {file} of the user namespace {path}, which is {shown}",
            why="the maps of a namespace that is joined cannot be changed",
            hint="leave out the mappings, or give those of the namespace",
        )


def write_map(parent: HasPid, file: str, lines: list[list[int]], rootless: bool) -> None:
    """write {file} of the user namespace: {lines}"""
    text = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in lines)
    own = posix.geteuid() if file == "uid_map" else posix.getegid()
    single = len(lines) == 1 and lines[0][1] == own and lines[0][2] == 1
    # Root of a user namespace may write maps of its own ids; the helpers know nothing of those.
    ordinary = rootless and posix.geteuid() != 0
    if ordinary and not single:
        _run_helper(parent.pid, file, lines)
        return
    if ordinary and file == "gid_map":
        # Without CAP_SETGID in the parent namespace a gid_map needs setgroups denied first (CVE-2014-8989).
        _write(parent.pid, "setgroups", "deny")
    try:
        _write(parent.pid, file, text)
    except KernelError as error:
        if not rootless or error.errno not in (EPERM, EACCES):
            raise
        _run_helper(parent.pid, file, lines)


def _write(pid: int, file: str, text: str) -> None:
    path = f"/proc/{pid}/{file}"
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        # One write: the kernel takes a map as a whole, and only once.
        posix.write(fd, text.encode())
    except OSError as error:
        raise KernelError(error.errno or 0, "write", (path, text.strip())) from None
    finally:
        posix.close(fd)


def _run_helper(pid: int, file: str, lines: list[list[int]]) -> None:
    """Run newuidmap(1) or newgidmap(1) to write a map that an ordinary user may not."""
    name = _HELPERS[file]
    program = next((place + name for place in _PLACES if posix.access(place + name, posix.X_OK)), None)
    subordinate = "/etc/subuid" if file == "uid_map" else "/etc/subgid"
    if program is None:
        raise StepError(
            f"{name} is not installed",
            why="an ordinary user may map only one id, its own, without it",
            hint="install the package uidmap, or map only your own id",
        )
    arguments = [name, str(pid)] + [str(number) for line in lines for number in line]
    files.close_on_exec_from(3)
    # What it says is for our error: engines show the last line only.
    read_end, write_end = posix.pipe2(posix.O_CLOEXEC)
    outputs = [(posix.POSIX_SPAWN_DUP2, write_end, number) for number in (1, 2)]
    try:
        child = posix.posix_spawn(program, arguments, {}, file_actions=outputs)
        posix.close(write_end)
        write_end = -1
        data = b""
        while chunk := posix.read(read_end, 4096):
            data += chunk
        said = data.decode("utf-8", "replace").strip()
    finally:
        posix.close(read_end)
        if write_end >= 0:
            posix.close(write_end)
    _, status = posix.waitpid(child, 0)
    code = posix.waitstatus_to_exitcode(status)
    if code:
        raise StepError(
            f"{' '.join(arguments)}: exit status {code}" + (f" ({said})" if said else ""),
            why=f"the ids asked for are not all granted to user {posix.getuid()} in {subordinate}",
            hint=f"add a line for the user to {subordinate}, or map other ids",
        )
