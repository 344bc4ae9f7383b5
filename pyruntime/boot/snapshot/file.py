"""The file of a snapshot: what it was made of, on what, and memory. native/launcher.c reads it.

It is not a program: a head of HEAD bytes, then memory, page by page. The head, all little-endian: magic, size of the
file, entry, number of segments, number of files, processor, kernel; for each segment its address, size, place in the
file, bytes in the file, protection; for each file it was made of a Stamp and its name.
"""

from __future__ import annotations

import os
import struct
from collections import namedtuple

from pyruntime.errors import PyruntimeError
from pyruntime.kernel import tracer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pyruntime.boot.snapshot.interpreter import Mapping

HEAD = 1 << 16
MAGIC = b"pyruntime snapshot 2".ljust(24, b"\0")
_HEAD = struct.Struct("<24sQQQQ32s72s")
_SEGMENT = struct.Struct("<QQQQQ")
_STAMP = struct.Struct("<qqqqQQQQ32sQ")
_ID_SIZE = 32
_PAGE = 4096
_PT_NOTE, _NT_GNU_BUILD_ID = 4, 3
_SECOND = 10**9


# By what a file is known again. modified, changed: times in ns. id: bytes at `place` that no other content has: an ELF
# file's build-id, the archive's digest, the head of a .pyc; b"" where there is nothing of that kind.
Stamp = namedtuple("Stamp", ("modified", "changed", "size", "inode", "place", "id"))


class Snapshot:
    """What stands in the head. files: name -> stamp. size: of the file."""

    def __init__(self, processor: bytes, kernel: str, files: dict[str, Stamp], entry: int = 0, size: int = 0) -> None:
        self.processor = processor
        self.kernel = kernel
        self.files = files
        self.entry = entry
        self.size = size


def stamp(name: str, archive: str) -> Stamp:
    """Return the stamp of a file as it is now. Raises OSError."""
    with open(name, "rb") as file:
        info = os.fstat(file.fileno())
        place, id = 0, b""
        if name == archive:
            place = HEAD  # tools/make-archive.py writes the digest before each piece of code, the first is here
            id = os.pread(file.fileno(), 16, place)
        elif name.endswith(".pyc"):
            id = os.pread(file.fileno(), 16, 0)
        elif os.pread(file.fileno(), 6, 0) == b"\x7fELF\x02\x01":
            place, id = build_id(file.fileno())
    return Stamp(info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino, place, id)


def build_id(fd: int) -> tuple[int, bytes]:
    """Return where the build-id of a 64-bit little-endian ELF file is, and the first 32 bytes of it; (0, b"")
    without one."""
    (headers,) = struct.unpack("<Q", os.pread(fd, 8, 32))
    size, count = struct.unpack("<HH", os.pread(fd, 4, 54))
    for i in range(count):
        kind, _, place, _, _, length = struct.unpack("<IIQQQQ", os.pread(fd, 40, headers + i * size))
        if kind != _PT_NOTE:
            continue
        notes, at = os.pread(fd, length, place), 0
        while at + 12 <= len(notes):
            name_size, id_size, note = struct.unpack_from("<III", notes, at)
            start = at + 12 + -(-name_size // 4) * 4
            if note == _NT_GNU_BUILD_ID and notes[at + 12 : at + 16] == b"GNU\0":
                id = notes[start : start + min(id_size, _ID_SIZE)]
                return place + start, id
            at = start + -(-id_size // 4) * 4
    return 0, b""


def machine() -> tuple[bytes, str]:
    """Return (what this processor can do, this kernel's release). Raises OSError."""
    return tracer.processor(), os.uname().release


def pack(snapshot: Snapshot, segments: list[Mapping]) -> bytes:
    """Return the head. Raises PyruntimeError when there is too much for it."""
    body, place = b"", HEAD
    for segment in segments:
        size = segment.end - segment.start
        body += _SEGMENT.pack(segment.start, size, place, len(segment.data), segment.access)
        place += len(segment.data)
    for name, one in sorted(snapshot.files.items()):
        text = os.fsencode(name) + b"\0"
        text = text.ljust(-(-len(text) // 8) * 8, b"\0")
        times = (*divmod(one.modified, _SECOND), *divmod(one.changed, _SECOND))
        body += _STAMP.pack(*times, one.size, one.inode, one.place, len(one.id), one.id, len(text)) + text
    kernel = os.fsencode(snapshot.kernel)
    counts = len(segments), len(snapshot.files)
    head = _HEAD.pack(MAGIC, place, snapshot.entry, *counts, snapshot.processor, kernel) + body
    if len(head) > HEAD:
        raise PyruntimeError(f"cannot make a snapshot: its head takes {len(head)} bytes, more than {HEAD}")
    return head.ljust(HEAD, b"\0")


def write(fd: int, snapshot: Snapshot, segments: list[Mapping]) -> None:
    """Write the whole file, and have it on the disk. Raises OSError, PyruntimeError."""
    parts: list[bytes | bytearray] = [pack(snapshot, segments), *(segment.data for segment in segments)]
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(fd, view) :]
    os.fsync(fd)


def read(path: Path) -> Snapshot | None:
    """Return what stands in a snapshot's head; None if the file is none, or not whole. Raises OSError."""
    with path.open("rb") as file:
        head, size = file.read(HEAD), os.fstat(file.fileno()).st_size
    try:
        magic, whole, entry, segments, count, processor, kernel = _HEAD.unpack_from(head)
        if magic != MAGIC or whole != size:
            return None
        files, at = {}, _HEAD.size + segments * _SEGMENT.size
        for _ in range(count):
            *times, length, inode, place, id_size, id, name_size = _STAMP.unpack_from(head, at)
            modified, changed = times[0] * _SECOND + times[1], times[2] * _SECOND + times[3]
            at += _STAMP.size
            name = os.fsdecode(head[at : at + name_size].rstrip(b"\0"))
            files[name] = Stamp(modified, changed, length, inode, place, id[:id_size])
            at += name_size
    except struct.error:
        return None
    return Snapshot(processor, os.fsdecode(kernel.rstrip(b"\0")), files, entry, whole)


def differences(snapshot: Snapshot, archive: str) -> Iterable[str]:
    """Return why the launcher would not use it, one reason after the other."""
    processor, kernel = machine()
    if snapshot.kernel != kernel:
        yield f"it was made with kernel {snapshot.kernel}"
    if snapshot.processor != processor:
        yield "it was made on a processor with other features"
    for name, was in snapshot.files.items():
        try:
            now = stamp(name, archive)
        except OSError as error:
            yield f"{name}: {error.strerror}"
            continue
        if now.id != was.id:
            yield f"{name} has another content"
        elif now != was:
            yield f"{name} has changed, or is another file"
