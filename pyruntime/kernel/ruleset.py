"""Landlock: landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2)."""

from __future__ import annotations

import sys

from pyruntime.kernel.call import NULL, check, ffi, lib
from pyruntime.kernel.constants import (
    LANDLOCK_CREATE_RULESET_VERSION,
    LANDLOCK_RULE_NET_PORT,
    LANDLOCK_RULE_PATH_BENEATH,
)


def abi() -> int:
    """Return the version of Landlock's interface; 0 where the kernel has none, or it is not enabled (lsm=)."""
    return max(0, int(lib.shim_landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)))


def create_ruleset(files: int, network: int, scope: int) -> int:
    """Return a ruleset that denies these accesses: a descriptor, close-on-exec. Raises KernelError.

    An older kernel takes it if what it does not know is 0."""
    members = [files, network, scope]
    while not members[-1] and len(members) > 1:
        members.pop()
    attributes = ffi.from_buffer(b"".join(_u64(member) for member in members))
    shown = f"fs={files:#x}, net={network:#x}, scoped={scope:#x}"
    return check(lib.shim_landlock_create_ruleset(attributes, 8 * len(members), 0), "landlock_create_ruleset", shown)


def allow_below(ruleset: int, fd: int, access: int, shown: str) -> None:
    """Allow accesses to what a descriptor (O_PATH) stands for, and below it if it is a directory."""
    attributes = ffi.from_buffer(_u64(access) + fd.to_bytes(4, sys.byteorder))
    check(
        lib.shim_landlock_add_rule(ruleset, LANDLOCK_RULE_PATH_BENEATH, attributes),
        "landlock_add_rule",
        shown,
        hex(access),
    )


def allow_port(ruleset: int, port: int, access: int) -> None:
    """Allow bind(2) or connect(2) of TCP sockets, LANDLOCK_ACCESS_NET_*, with a port."""
    attributes = ffi.from_buffer(_u64(access) + _u64(port))
    check(
        lib.shim_landlock_add_rule(ruleset, LANDLOCK_RULE_NET_PORT, attributes),
        "landlock_add_rule",
        f"port {port}",
        hex(access),
    )


def restrict_self(ruleset: int) -> None:
    """Restrict this process, and all that it will clone, by a ruleset; no_new_privs must be set."""
    check(lib.shim_landlock_restrict_self(ruleset), "landlock_restrict_self", f"fd {ruleset}")


def _u64(number: int) -> bytes:
    return number.to_bytes(8, sys.byteorder)
