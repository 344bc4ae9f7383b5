"""The machine, kept out of the engines' reach, and what is left of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support import kernel, leaks

from engines import daemon
from engines.command import ENVIRONMENT

# Directories that engines write to without being asked: empty ones are put over them.
COVERED = ("/run", "/etc/docker", "/etc/cni", "/var/lib/cni")


# What an engine does to the machine in its private namespaces, and cannot be tried without.
_NEEDS = {
    "mounts of its own": "unshare --mount mount -t tmpfs tmpfs /mnt",
    "an overlay filesystem": "unshare --mount sh -c 'mount -t tmpfs tmpfs /mnt && mkdir /mnt/a /mnt/b /mnt/c /mnt/d &&"
    " mount -t overlay overlay -o lowerdir=/mnt/a,upperdir=/mnt/b,workdir=/mnt/c /mnt/d'",
    "a network namespace": "unshare --net ip link set lo up",
    "cgroups that can be written to": "cd /sys/fs/cgroup && test -w cgroup.procs || test -w memory/cgroup.procs",
}
_IPTABLES = {"network address translation": "unshare --net iptables --table nat --list"}


def hindrance(*, iptables: bool = False) -> str:
    """Why daemons of engines, or those that need iptables, cannot run on this machine; "" when they can."""
    for need, command in (_IPTABLES if iptables else _NEEDS).items():
        result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=ENVIRONMENT)
        if result.returncode:
            return f"no engine can run here: it needs {need}: {result.stderr.strip() or 'there are none'}"
    return ""


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
