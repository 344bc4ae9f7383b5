"""The secrets of a process that a picture of it must not give to all: stack canary and pointer guard.

The C library takes both from the kernel's random bytes (AT_RANDOM) when a program starts. The canary then stands in the
thread control block and in the frame of each function that has yet to return; the pointer guard there, in the dynamic
loader, and, combined, in each pointer that was stored with PTR_MANGLE: functions registered with atexit(3), jmp_buf.
All of these are found by their values, made zero in the picture, and made of other random bytes when a process starts
from it (native/snapshot.c).
"""

from __future__ import annotations

import struct

from pyruntime.boot.snapshot.interpreter import PAGE, WRITE, Mapping
from pyruntime.errors import PyruntimeError

# As native/snapshot.c has them.
CANARY, GUARD, MANGLED, READ_ONLY = 0, 1, 2, 4
MOST = 255
# x86_64's struct tcbhead_t: where the thread pointer's canary and guard are; what PTR_MANGLE rotates by.
_CANARY_PLACE, _GUARD_PLACE, _ROTATION = 0x28, 0x30, 17
_WORD = (1 << 64) - 1


def remove(picture: list[Mapping], thread: int, random: int, table: int) -> int:
    """Make the secrets in a picture zero, and write into it, at address `table`, where they were: how many there were.

    thread: the address of the thread control block. random: that of the kernel's random bytes.
    Raises PyruntimeError when one of them would remain."""
    canary = _read(picture, thread + _CANARY_PLACE)
    guard = _read(picture, thread + _GUARD_PLACE)
    if not canary or canary & 0xFF or not guard:
        raise PyruntimeError("cannot make a snapshot: no stack canary and pointer guard where glibc keeps them")
    for address in (random, random + 8):
        _write(picture, address, 0)
    found: list[tuple[int, int]] = []
    pages = _pages(picture)
    for mapping in picture:
        found += _find(mapping, canary, guard, pages)
    if len(found) > MOST:
        raise PyruntimeError(f"cannot make a snapshot: secrets in {len(found)} places, more than native/snapshot.c has")
    values = {CANARY: canary, GUARD: guard, MANGLED: _rotated(guard)}
    for i, (address, kind) in enumerate(found):
        _write(picture, address, _read(picture, address) ^ values[kind & ~READ_ONLY])
        _write(picture, table + 8 + 16 * i, address)
        _write(picture, table + 16 + 16 * i, kind)
    _write(picture, table, len(found))
    for secret in (canary >> 8).to_bytes(7, "little"), guard.to_bytes(8, "little"):
        if any(secret in mapping.data for mapping in picture):
            raise PyruntimeError("cannot make a snapshot: a secret of the process is where no word is")
    return len(found)


def _find(mapping: Mapping, canary: int, guard: int, pages: set[int]) -> list[tuple[int, int]]:
    """Return (address, kind) of each secret in a part of the picture.

    A mangled pointer is one that, demangled, points into the picture, or is NULL: among two million words no other does
    so by chance, since 2^52 pages could be meant and a few thousand are there. Its high bits, which must be zero, are
    looked at first."""
    found = []
    access = 0 if mapping.access & WRITE else READ_ONLY
    high = (guard >> 48) << 1

    def is_mangled(word: int) -> bool:
        pointer = ((word >> _ROTATION | word << 64 - _ROTATION) & _WORD) ^ guard
        return pointer // PAGE in pages

    for i, word in enumerate(memoryview(mapping.data).cast("Q")):
        if word == canary:
            found.append((mapping.start + 8 * i, CANARY | access))
        elif word == guard:
            found.append((mapping.start + 8 * i, GUARD | access))
        elif word & 0x1FFFE == high and is_mangled(word):
            found.append((mapping.start + 8 * i, MANGLED | access))
    return found


def _pages(picture: list[Mapping]) -> set[int]:
    pages = {0}
    for mapping in picture:
        pages.update(range(mapping.start // PAGE, mapping.end // PAGE))
    return pages


def _rotated(word: int) -> int:
    return (word << _ROTATION | word >> 64 - _ROTATION) & _WORD


def _part(picture: list[Mapping], address: int) -> tuple[Mapping, int]:
    for mapping in picture:
        if mapping.start <= address < mapping.end:
            place = address - mapping.start
            missing = place // PAGE * PAGE + PAGE - len(mapping.data)
            mapping.data += bytes(max(missing, 0))
            return mapping, place
    raise PyruntimeError(f"cannot make a snapshot: {address:#x} is not in the picture")


def _read(picture: list[Mapping], address: int) -> int:
    mapping, place = _part(picture, address)
    (word,) = struct.unpack_from("<Q", mapping.data, place)
    return int(word)


def _write(picture: list[Mapping], address: int, word: int) -> None:
    mapping, place = _part(picture, address)
    struct.pack_into("<Q", mapping.data, place, word)
