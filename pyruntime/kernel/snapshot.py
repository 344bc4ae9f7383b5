"""native/snapshot.c and placement.c: what only a snapshot of the interpreter has, and its making."""

from __future__ import annotations

from pyruntime.kernel._snapshot import ffi, lib


def point(files: str) -> tuple[list[str], dict[bytes, bytes]] | None:
    """Stop for the picture to be taken; `files`, one a line, are for its maker. Returns in each process started from
    it: (command line, environment).

    None at once on an architecture for which it is not written."""
    stack = lib.snapshot_point(files.encode("utf-8", "surrogateescape"))
    if stack == ffi.NULL:
        return None
    words = ffi.cast("char **", stack + 1)
    count = stack[0]
    arguments = [ffi.string(words[i]).decode("utf-8", "surrogateescape") for i in range(count)]
    environment: dict[bytes, bytes] = {}
    i = count + 1
    while words[i]:
        variable, equals, value = ffi.string(words[i]).partition(b"=")
        if equals:
            environment.setdefault(variable, value)
        i += 1
    return arguments, environment


def observed() -> int:
    """End the observation of allocations: how many there were; -1 when none are observed."""
    return lib.placement_observed()


def address(i: int) -> int:
    """Return where the first page of observed allocation number i is."""
    return lib.placement_address(i)


def size(i: int) -> int:
    """Return bytes of observed allocation number i."""
    return lib.placement_size(i)


def witness() -> int:
    """Fork a child that shares all pages and sleeps, so that a write to a page copies it. Return its pid, or -1."""
    return lib.placement_witness()


def missed() -> int:
    """By how many allocations this process differs from the one that was observed."""
    return lib.placement_missed()


def end_placement() -> None:
    """What is allocated from now on does not lie between the snapshot's objects."""
    lib.placement_end()
