"""The machine, kept out of the engines' reach, and what is left of them."""

from __future__ import annotations

import os
from pathlib import Path

from support import kernel, leaks

from engines import daemon

# Directories that engines write to without being asked: empty ones are put over them.
COVERED = ("/run", "/etc/docker", "/etc/cni", "/var/lib/cni")


def cover() -> None:
    """Enter a mount namespace with an empty /run and the like in it, and let orphans be this process's children."""
    kernel.become_subreaper()
    kernel.enter_private_mounts()
    for path in COVERED:
        if os.path.isdir(path):
            kernel.mount("tmpfs", path, "tmpfs", 0, "mode=755")


def clear(folder: Path) -> list[str]:
    """Remove the directory of all engines and whatever still uses it; returns what should not have been there."""
    left = daemon.end_below(folder)
    leaks.reap()
    left += [f"cgroup {name}" for name in daemon.remove_cgroups()]
    leaks.detach([mount for mount in leaks.mounts() if mount.target.startswith(f"{folder}/")])
    leaks.remove_tree(folder)
    return left
