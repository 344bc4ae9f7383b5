"""/process/user and /process/noNewPrivileges: the credentials of the user's process."""

from __future__ import annotations

import posix

from pyruntime.errors import StepError
from pyruntime.kernel import files, process
from pyruntime.kernel.constants import (
    EBADF,
    EINVAL,
    EPERM,
    EROFS,
    PIPEFS_MAGIC,
    PR_SET_NO_NEW_PRIVS,
    S_IFBLK,
    S_IFCHR,
    S_IFIFO,
    S_IFMT,
)
from pyruntime.plan.step import Step
from pyruntime.util.fileio import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime.plan.actors import InitActor, ParentActor
    from pyruntime.plan.request import Request

_PTS_MAJORS = range(136, 144)  # UNIX98_PTY_SLAVE_MAJOR and the seven behind it


def plan_umask(request: Request) -> Iterator[Step]:
    """ENTER: /process/user/umask, 0022 unless given."""
    umask = (request.process.get("user") or {}).get("umask")
    pointer = "/process/user/umask" if umask is not None else ""
    yield Step(pointer, set_umask, umask=f"{0o22 if umask is None else umask & 0o777:04o}")


def plan_no_new_privileges(request: Request) -> Iterator[Step]:
    """ENTER: prctl(2), PR_SET_NO_NEW_PRIVS."""
    if request.process.get("noNewPrivileges"):
        yield Step("/process/noNewPrivileges", set_no_new_privileges)


def plan(request: Request) -> Iterator[Step]:
    """BECOME: groups, gid, uid."""
    user = request.process.get("user") or {}
    groups = list(dict.fromkeys(user.get("additionalGids") or ()))  # engines name some twice
    uid, gid = user.get("uid") or 0, user.get("gid") or 0
    if not (request.process.get("terminal") or request.namespace("user")[0]):
        yield Step("/process/user", own_stdio, uid=uid)
    if not _keeps_groups(request):
        yield Step("/process/user/additionalGids" if groups else "/process/user", set_groups, groups=groups)
    yield Step("/process/user/gid", set_gid, gid=gid)
    yield Step("/process/user/uid", set_uid, uid=uid)


def _keeps_groups(request: Request) -> bool:
    """Return whether the process keeps the caller's groups: by crun's annotation, as of `podman --group-add
    keep-groups`."""
    return (request.config.get("annotations") or {}).get("run.oci.keep_original_groups", "0") not in ("", "0", "false")


def plan_stdio(request: Request) -> Iterator[Step]:
    """READY: what init in a user namespace may not do."""
    if request.namespace("user")[0] and request.process and not request.process.get("terminal"):
        uid = (request.process.get("user") or {}).get("uid") or 0
        yield Step("/process/user", give_stdio, uid=uid)


def become_root() -> None:
    """Become root of the user namespace that this process is in, or the first id that is mapped when 0 is not."""
    try:
        become(0, 0)
    except OSError as error:
        if error.errno != EINVAL:
            raise
        become(*root_ids("self"))


def become(uid: int, gid: int) -> None:
    """Become this user, with all capabilities that the process has in its user namespace."""
    posix.setresgid(gid, gid, gid)
    posix.setresuid(uid, uid, uid)


def root_ids(pid: str) -> tuple[int, int]:
    """uid and gid to act as in the user namespace of a process, a number or "self": 0, or the first that is mapped."""
    ids = []
    for file in ("uid_map", "gid_map"):
        inside = [int(line.split()[0]) for line in read_file(f"/proc/{pid}/{file}").splitlines()]
        ids.append(0 if 0 in inside or not inside else inside[0])
    return ids[0], ids[1]


def set_umask(init: InitActor, umask: str) -> None:
    """set the umask to {umask}"""
    posix.umask(int(umask, 8))


def set_no_new_privileges(init: InitActor) -> None:
    """give up new privileges (no_new_privs)"""
    process.prctl(PR_SET_NO_NEW_PRIVS, 1)


def own_stdio(init: InitActor, uid: int) -> None:
    """give standard input and output to uid {uid}"""
    # So that /proc/self/fd/1 and /dev/stdout can be opened again. Devices stay the host's: a chown of
    # /dev/null through a container's stdin would be a chown of the host's /dev/null.
    for fd in (0, 1, 2):
        try:
            found = posix.fstat(fd)
            if found.st_mode & S_IFMT in (S_IFCHR, S_IFBLK) or found.st_uid == uid:
                continue
            posix.fchown(fd, uid, -1)
        except OSError as error:
            if error.errno not in (EINVAL, EPERM, EROFS, EBADF):
                raise


def give_stdio(parent: ParentActor, uid: int) -> None:
    """give pipes and terminals among standard input and output to uid {uid} of the user namespace"""
    # For /dev/stdout, as own_stdio. What has a name on the host stays the host's (regular files, FIFOs, devices), since
    # an owner may change the mode; except for the caller's own terminal.
    owner = -1
    for fd in (0, 1, 2):
        try:
            found = posix.fstat(fd)
            kind = found.st_mode & S_IFMT
            terminal = kind == S_IFCHR and posix.major(found.st_rdev) in _PTS_MAJORS
            pipe = kind == S_IFIFO and files.filesystem_magic(fd) == PIPEFS_MAGIC
            if not (pipe or (terminal and found.st_uid == posix.geteuid())):
                continue
            if owner < 0:
                owner = outside(parent.pid, "uid_map", uid)
            if owner >= 0 and found.st_uid != owner:
                posix.fchown(fd, owner, -1)
        except OSError as error:
            if error.errno not in (EINVAL, EPERM, EROFS, EBADF):
                raise


def outside(pid: int, file: str, id: int) -> int:
    """Return what an id of a process's user namespace is in ours, by file "uid_map" or "gid_map"; -1 when it is not
    mapped."""
    for line in read_file(f"/proc/{pid}/{file}").splitlines():
        first, there, size = (int(number) for number in line.split())
        if first <= id < first + size:
            return there + id - first
    return -1


def set_groups(init: InitActor, groups: list[int]) -> None:
    """set the additional groups to {groups}"""
    if init.setgroups_denied:  # user_namespaces(7): how an ordinary user maps groups at all
        if groups:
            init.warn("setgroups is denied in this user namespace, /process/user/additionalGids is left out")
        return
    try:
        posix.setgroups(groups)
    except OSError as error:
        raise _unmapped("setgroups", groups, "gidMappings", error) from error


def set_gid(init: InitActor, gid: int) -> None:
    """become gid {gid}"""
    try:
        posix.setresgid(gid, gid, gid)
    except OSError as error:
        raise _unmapped("setresgid", gid, "gidMappings", error) from error


def set_uid(init: InitActor, uid: int) -> None:
    """become uid {uid}"""
    try:
        posix.setresuid(uid, uid, uid)
    except OSError as error:
        raise _unmapped("setresuid", uid, "uidMappings", error) from error


def _unmapped(call: str, ids: object, field: str, error: OSError) -> OSError | StepError:
    if error.errno != EINVAL:
        return error
    return StepError(
        f"{call}({ids}): invalid argument (EINVAL)",
        syscall=f"{call}({ids})",
        errno="EINVAL",
        why=f"the container's user namespace has no such id: linux.{field} does not cover it",
        hint=f"extend linux.{field}, or choose an id that it covers",
    )
