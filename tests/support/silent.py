"""Filesystems that never answer: FUSE with nobody behind it. Who opens something there waits until it is killed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import kernel

_OPTIONS = "fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other"


@contextmanager
def on(target: Path) -> Iterator[None]:
    """Mount one on a directory of this mount namespace, meanwhile."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    kernel.mount("silent", str(target), "fuse", 0, _OPTIONS.format(fd=fd))
    try:
        yield
    finally:
        os.close(fd)  # the kernel ends the connection: who waited gets ENOTCONN
        kernel.umount(str(target), kernel.MNT_DETACH)


@contextmanager
def inside(pid: int, target: str) -> Iterator[None]:
    """Mount one in the mount namespace of a container's process, as the container itself can that has /dev/fuse.

    It goes with the container; at the end nobody waits for it any more."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    command = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "/bin/mount", "-t", "fuse", "-o", _OPTIONS.format(fd=fd)]
    try:
        subprocess.run([*command, "silent", target], pass_fds=[fd], check=True)
        yield
    finally:
        os.close(fd)
