"""The annotation org.pyruntime.landlock: limits for files, TCP ports and scope of a program (landlock(7)).

The specification has no field for it. The value is a JSON document; docs/landlock.md describes it.
"""

from __future__ import annotations

import posix

from pyruntime.errors import ConfigError, StepError
from pyruntime.kernel import process, ruleset
from pyruntime.kernel.constants import (
    LANDLOCK_ACCESS_FS_EXECUTE,
    LANDLOCK_ACCESS_FS_IOCTL_DEV,
    LANDLOCK_ACCESS_FS_MAKE_BLOCK,
    LANDLOCK_ACCESS_FS_MAKE_CHAR,
    LANDLOCK_ACCESS_FS_MAKE_DIR,
    LANDLOCK_ACCESS_FS_MAKE_FIFO,
    LANDLOCK_ACCESS_FS_MAKE_REG,
    LANDLOCK_ACCESS_FS_MAKE_SOCK,
    LANDLOCK_ACCESS_FS_MAKE_SYM,
    LANDLOCK_ACCESS_FS_READ_DIR,
    LANDLOCK_ACCESS_FS_READ_FILE,
    LANDLOCK_ACCESS_FS_REFER,
    LANDLOCK_ACCESS_FS_REMOVE_DIR,
    LANDLOCK_ACCESS_FS_REMOVE_FILE,
    LANDLOCK_ACCESS_FS_TRUNCATE,
    LANDLOCK_ACCESS_FS_WRITE_FILE,
    LANDLOCK_ACCESS_NET_BIND_TCP,
    LANDLOCK_ACCESS_NET_CONNECT_TCP,
    LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET,
    LANDLOCK_SCOPE_SIGNAL,
    O_PATH,
    PR_SET_NO_NEW_PRIVS,
    S_IFDIR,
    S_IFMT,
)
from pyruntime.plan.step import Step
from pyruntime.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyruntime.plan.actors import InitActor
    from pyruntime.plan.request import Request

ANNOTATION = "org.pyruntime.landlock"
POINTER = f"/annotations/{ANNOTATION}"

_OF_A_FILE = (
    LANDLOCK_ACCESS_FS_EXECUTE
    | LANDLOCK_ACCESS_FS_WRITE_FILE
    | LANDLOCK_ACCESS_FS_READ_FILE
    | LANDLOCK_ACCESS_FS_TRUNCATE
    | LANDLOCK_ACCESS_FS_IOCTL_DEV
)
ACCESS = {
    "read": LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
    "write": LANDLOCK_ACCESS_FS_WRITE_FILE
    | LANDLOCK_ACCESS_FS_TRUNCATE
    | LANDLOCK_ACCESS_FS_REMOVE_DIR
    | LANDLOCK_ACCESS_FS_REMOVE_FILE
    | LANDLOCK_ACCESS_FS_MAKE_DIR
    | LANDLOCK_ACCESS_FS_MAKE_REG
    | LANDLOCK_ACCESS_FS_MAKE_SOCK
    | LANDLOCK_ACCESS_FS_MAKE_FIFO
    | LANDLOCK_ACCESS_FS_MAKE_SYM
    | LANDLOCK_ACCESS_FS_REFER,
    "execute": LANDLOCK_ACCESS_FS_EXECUTE,
    "ioctl": LANDLOCK_ACCESS_FS_IOCTL_DEV,
}
# With the making of device nodes, which no word allows.
_FILES = (
    LANDLOCK_ACCESS_FS_MAKE_CHAR
    | LANDLOCK_ACCESS_FS_MAKE_BLOCK
    | ACCESS["read"]
    | ACCESS["write"]
    | ACCESS["execute"]
    | ACCESS["ioctl"]
)
PORTS = {"bind": LANDLOCK_ACCESS_NET_BIND_TCP, "connect": LANDLOCK_ACCESS_NET_CONNECT_TCP}
SCOPES = {"abstract-unix-socket": LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, "signal": LANDLOCK_SCOPE_SIGNAL}

# ABI -> the rights that came with it (landlock(7), "VERSIONS").
_SINCE_FILES = {2: LANDLOCK_ACCESS_FS_REFER, 3: LANDLOCK_ACCESS_FS_TRUNCATE, 5: LANDLOCK_ACCESS_FS_IOCTL_DEV}
_TRUNCATE, _TCP, _IOCTL, _SCOPE = 3, 4, 5, 6
_LINUX = {1: "5.13", 2: "5.19", 3: "6.2", 4: "6.7", 5: "6.10", 6: "6.12"}
_MEMBERS = ("bestEffort", "paths", "tcp", "scope")


def plan(request: Request) -> Iterator[Step]:
    """BECOME, the last step but the filter: ruleset and no_new_privs. Raises ConfigError."""
    document = _parse(request.config["annotations"][ANNOTATION])
    if not request.process.get("noNewPrivileges"):
        request.warn(f"{POINTER}: no_new_privs is set, although process.noNewPrivileges is not true")
    paths = [_path(index, entry) for index, entry in enumerate(_list(document, "paths"))]
    tcp = document.get("tcp", {})
    if not isinstance(tcp, dict) or not set(tcp) <= set(PORTS):
        raise _wrong("tcp", "is not an object with bind and connect")
    ports = {kind: [_port(kind, port) for port in _list(tcp, kind)] for kind in tcp}
    scope = list(dict.fromkeys(_one_of("scope", word, SCOPES) for word in _list(document, "scope")))
    if "paths" not in document and not tcp and not scope:
        raise _wrong("", "restricts nothing", "give paths, tcp or scope")
    best = document.get("bestEffort", False)
    if not isinstance(best, bool):
        raise _wrong("bestEffort", "is not true or false")
    needs = max(
        _TRUNCATE if "paths" in document else 1,
        _IOCTL if any("ioctl" in access for _, access in paths) else 1,
        _TCP if tcp else 1,
        _SCOPE if scope else 1,
    )
    given = paths if "paths" in document else None
    yield Step(POINTER, restrict, paths=given, ports=ports, scope=scope, needs=0 if best else needs)


def restrict(
    init: InitActor,
    paths: list[tuple[str, list[str]]] | None,
    ports: dict[str, list[int]],
    scope: list[str],
    needs: int,
) -> None:
    """restrict files to {paths}, TCP ports to {ports}, processes to {scope}, by Landlock

    needs: the ABI that the kernel must have; 0 for what it has (best effort)."""
    abi = ruleset.abi()
    if abi < max(needs, 1):
        if not needs:
            init.warn(f"{POINTER}: this kernel has no Landlock, nothing is restricted")
            return
        raise StepError(
            f"this kernel has {f'version {abi} of Landlock' if abi else 'no Landlock'}, "
            f"version {needs} is needed (Linux {_LINUX[needs]})",
            why="" if abi else "it is not built in, or not in the list of lsm= (/sys/kernel/security/lsm)",
            hint='use a newer kernel, or set "bestEffort": true in the document',
        )
    files = _known(_FILES, abi) if paths is not None else 0
    network = _union(PORTS[kind] for kind in ports) if abi >= _TCP else 0
    scoped = _union(SCOPES[word] for word in scope) if abi >= _SCOPE else 0
    if not files and not network and not scoped:
        init.warn(f"{POINTER}: version {abi} of Landlock can restrict nothing of this")
        return
    fd = ruleset.create_ruleset(files, network, scoped)
    try:
        for path, words in paths or ():
            _allow_path(fd, path, _known(_union(ACCESS[word] for word in words), abi))
        for kind, numbers in ports.items():
            for port in numbers if network else ():
                ruleset.allow_port(fd, port, PORTS[kind])
        process.prctl(PR_SET_NO_NEW_PRIVS, 1)
        ruleset.restrict_self(fd)
    finally:
        posix.close(fd)


def _allow_path(rules: int, path: str, access: int) -> None:
    fd = posix.open(path, O_PATH | posix.O_CLOEXEC)
    try:
        if posix.fstat(fd).st_mode & S_IFMT != S_IFDIR:
            access &= _OF_A_FILE
        if access:
            ruleset.allow_below(rules, fd, access, path)
    finally:
        posix.close(fd)


def _union(rights: Iterable[int]) -> int:
    found = 0
    for one in rights:
        found |= one
    return found


def _known(rights: int, abi: int) -> int:
    for version, right in _SINCE_FILES.items():
        if abi < version:
            rights &= ~right
    return rights


def _parse(text: str) -> dict[str, object]:
    try:
        document = fastjson.loads(text)
    except ValueError as error:
        raise _wrong("", f"is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise _wrong("", "is not a JSON object")
    for name in document:
        if name not in _MEMBERS:
            raise _wrong(name, "is not a member of the document", f"known: {', '.join(_MEMBERS)}")
    return document


def _list(document: dict[str, object], name: str) -> list[object]:
    found = document.get(name, [])
    if not isinstance(found, list):
        raise _wrong(name, "is not a list")
    return found


def _path(index: int, entry: object) -> tuple[str, list[str]]:
    name = f"paths[{index}]"
    if not isinstance(entry, dict) or set(entry) != {"path", "access"}:
        raise _wrong(name, "is not an object with path and access")
    path = entry["path"]
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise _wrong(name, "path is not absolute")
    access = _list(entry, "access")
    return path, list(dict.fromkeys(_one_of(name, word, ACCESS) for word in access))


def _one_of(name: str, word: object, known: dict[str, int]) -> str:
    if not isinstance(word, str) or word not in known:
        raise _wrong(name, f"unknown word {word!r}", f"known: {', '.join(known)}")
    return word


def _port(kind: str, port: object) -> int:
    if type(port) is not int or not 0 <= port < 1 << 16:
        raise _wrong(f"tcp.{kind}", f"{port!r} is not a port")
    return port


def _wrong(name: str, message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(f"{name}: {message}" if name else message, pointer=POINTER, hint=hint)
