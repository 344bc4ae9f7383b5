"""Check whether execve(2) will accept a program, and report why not at `create`, which has a reader.

execve(2) answers "no such file or directory" for a script whose interpreter is missing, and "exec format
error" for a foreign architecture; neither names what is missing. The file is the container's: it is read with
care, and its answer only ever makes an error.
"""

from __future__ import annotations

import posix

from pyruntime.errors import StepError
from pyruntime.kernel.constants import PT_INTERP, S_IFMT, S_IFREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MACHINES = {
    "x86_64": {62, 3},
    "aarch64": {183, 40},
    "armv7l": {40},
    "ppc64le": {21},
    "riscv64": {243},
    "s390x": {22},
    "i686": {3, 62},  # what uname(2) says under the LINUX32 personality, too
}
_MACHINE_NAMES = {
    3: "x86",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86-64",
    183: "arm64",
    243: "riscv",
    258: "loongarch",
}
NEITHER = "the file is neither an ELF program nor a script that begins with #!"
_FARTHEST = 1 << 62  # what lies beyond is not an offset: execve(2) reports it


def check(file: str, name: str) -> None:
    """Raise StepError when the program's interpreter is missing or it is for another machine."""
    try:
        if posix.stat(file).st_mode & S_IFMT != S_IFREG:
            return  # to open a device or a fifo is to use it
        fd = posix.open(file, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError:
        return  # executable, not readable: that is allowed
    try:
        check_opened(fd, name, _is_there)
    finally:
        posix.close(fd)


def check_opened(fd: int, name: str, is_there: Callable[[bytes], bool]) -> None:
    """The same for a program that is open, in a root; is_there(path) returns whether a file exists."""
    if posix.fstat(fd).st_mode & S_IFMT != S_IFREG:
        return
    head = posix.pread(fd, 4096, 0)
    if head.startswith(b"#!"):
        _check_script(head, name, is_there)
    elif head.startswith(b"\x7fELF"):
        _check_elf(fd, head, name, is_there)
    else:
        raise StepError(
            f'exec: "{name}": exec format error',
            errno="ENOEXEC",
            why=NEITHER if head else "the file is empty",
            hint="begin the script with #!/bin/sh, or run its interpreter" if head else "install the program again",
        )


def _is_there(path: bytes) -> bool:
    try:
        posix.stat(path)
    except (OSError, ValueError):
        return False
    return True


def _check_script(head: bytes, name: str, is_there: Callable[[bytes], bool]) -> None:
    line = head[2:].partition(b"\n")[0]
    interpreter = line.strip(b" \t").partition(b" ")[0].partition(b"\t")[0]
    if not interpreter:
        return
    shown = interpreter.rstrip(b"\r").decode("utf-8", "replace")
    if interpreter.endswith(b"\r"):
        raise StepError(
            f'exec: "{name}": no such file or directory',
            errno="ENOENT",
            why=f'its first line ends with CRLF, so the interpreter asked for is "{shown}\\r"',
            hint="save the script with Unix line ends (dos2unix)",
        )
    if not is_there(interpreter):
        raise _no_interpreter(interpreter, name, "its first line (#!) asks for the interpreter")


def _check_elf(fd: int, head: bytes, name: str, is_there: Callable[[bytes], bool]) -> None:
    order = "big" if head[5:6] == b"\x02" else "little"

    def number(at: int, size: int, data: bytes = head) -> int:
        return int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]

    machine = number(18, 2)
    own = posix.uname().machine
    if own in _MACHINES and machine not in _MACHINES[own]:
        theirs = _MACHINE_NAMES.get(machine, f"machine {machine}")
        if not _emulated():
            raise StepError(
                f'exec: "{name}": exec format error',
                errno="ENOEXEC",
                why=f"the program is for {theirs}, this machine is {own}",
                hint="use an image for this architecture",
            )
        return
    wide = head[4:5] == b"\x02"
    table, size, count = (32, 8), (54, 2), (56, 2)
    if not wide:
        table, size, count = (28, 4), (42, 2), (44, 2)
    offset, entry, entries = number(*table), number(*size), number(*count)
    if entry > 256 or entries > 512 or offset > _FARTHEST:
        return
    headers = posix.pread(fd, entry * entries, offset)
    for at in range(0, len(headers) - entry + 1, entry or 1):
        if number(at, 4, headers) != PT_INTERP:
            continue
        where = number(at + 8, 8, headers) if wide else number(at + 4, 4, headers)
        length = number(at + 32, 8, headers) if wide else number(at + 16, 4, headers)
        if where > _FARTHEST:
            return
        interpreter = posix.pread(fd, min(length, 4096), where).rstrip(b"\0")
        if not is_there(interpreter):
            raise _no_interpreter(interpreter, name, "it is linked against the interpreter")
        return


def _no_interpreter(interpreter: bytes, name: str, what: str) -> StepError:
    shown = interpreter.decode("utf-8", "replace")
    return StepError(
        f'exec: "{name}": no such file or directory',
        errno="ENOENT",
        why=f"the file is there, but {what} {shown}, which is not",
        hint=f"put {shown} into the image, or use a static program",
    )


def _emulated() -> bool:
    """Return whether binfmt_misc may run foreign programs here; only an open question counts as yes."""
    try:
        return any(name not in ("register", "status") for name in posix.listdir("/proc/sys/fs/binfmt_misc"))
    except OSError:
        return False
