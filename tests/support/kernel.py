"""The few system calls that the harness makes itself; nothing here comes from the project under test."""

from __future__ import annotations

import ctypes
import os
import re

VERSION = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])  # (6, 12)

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
CLONE_NEWNS = 0x00020000
MNT_DETACH = 0x2
MS_RDONLY = 0x1
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SHARED = 0x100000


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def become_subreaper(wanted: bool = True) -> bool:
    """Set whether orphans below this process become its children (prctl(2)); whether they did before."""
    before = ctypes.c_int()
    _check(_libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0), "prctl(PR_GET_CHILD_SUBREAPER)")
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")
    return bool(before.value)


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    args = [None if word is None else word.encode() for word in (source, target, fstype, data)]
    _check(_libc.mount(args[0], args[1], args[2], ctypes.c_ulong(flags), args[3]), f"mount {target}")


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def enter_private_mounts() -> None:
    """Give this process a mount namespace of its own, all mounts in it shared, as on a host run by systemd.

    Private to the machine, so that a broken runtime cannot mount anything over it; shared inside, so that a
    mount that escapes from a container arrives here and the leak check sees it.
    """
    _check(_libc.unshare(CLONE_NEWNS), "unshare(CLONE_NEWNS)")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount(None, "/", None, MS_REC | MS_SHARED)


def has_apparmor() -> bool:
    """Whether AppArmor is enabled, also where securityfs is not mounted."""
    try:
        with open("/sys/module/apparmor/parameters/enabled") as file:
            return file.read() == "Y\n"
    except FileNotFoundError:
        return False
