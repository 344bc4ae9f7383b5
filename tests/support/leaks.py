"""What a test may leave behind: processes, mounts, cgroups, state, and changed device nodes of the host."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import time
from pathlib import Path

from support import kernel, proc

# Every container id and cgroup of this session starts with it, so that nobody else's are blamed on us. In another pid
# namespace, with the same cgroups, a session may have the same pid.
PREFIX = f"pyrt{os.getpid()}{secrets.token_hex(2)}"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "console")
GRACE = 2.0 * proc.SLOW


def hierarchies() -> list[str]:
    """The mount points of all cgroup hierarchies below /sys/fs/cgroup."""
    mounts = proc.parse_mountinfo(proc.read("self", "mountinfo"))
    return [one.target for one in mounts if one.fstype in ("cgroup", "cgroup2") and one.target.startswith("/sys/fs")]


def cgroups() -> list[str]:
    """The directories of all hierarchies whose name has the prefix of this session, deepest first."""
    found = []
    for top in hierarchies():
        for folder, names, _ in os.walk(top):
            # Not those of another session, which may be nested deeper than os.walk can follow.
            names[:] = [name for name in names if PREFIX in name or not name.startswith("pyrt")]
            if PREFIX in folder:
                found.append(folder)
    return found[::-1]


def remove_cgroup_parent(parent: str) -> None:
    """Remove the directory that the tests' cgroups are made in, which a runtime makes but need not remove."""
    for top in hierarchies():
        try:
            os.rmdir(top + parent)
        except OSError:
            continue


def device_nodes() -> dict[str, tuple[int, int, int]]:
    """Owner, group and mode of the host's device nodes that containers get to see."""
    found = {}
    for name in DEVICES:
        try:
            status = os.stat(f"/dev/{name}")
        except FileNotFoundError:
            continue
        found[name] = (status.st_uid, status.st_gid, status.st_mode)
    return found


def restore_devices(before: dict[str, tuple[int, int, int]]) -> list[str]:
    """Put the device nodes back as they were; returns what was different."""
    changed = []
    for name, now in device_nodes().items():
        if name in before and before[name] != now:
            uid, gid, mode = before[name]
            changed.append(f"/dev/{name} is {now[0]}:{now[1]} {now[2]:o}, was {uid}:{gid} {mode:o}")
            os.chown(f"/dev/{name}", uid, gid)
            os.chmod(f"/dev/{name}", stat.S_IMODE(mode))
    return changed


def mounts() -> list[proc.Mount]:
    """What is mounted in the harness's mount namespace: escaped mounts arrive here, for all are shared."""
    return proc.parse_mountinfo(proc.read("self", "mountinfo"))


def detach(escaped: list[proc.Mount]) -> list[str]:
    """Take escaped mounts away, the latest first; returns what they were."""
    for one in reversed(escaped):
        try:
            kernel.umount(one.target, kernel.MNT_DETACH)
        except OSError:
            continue
    return [f"mount {one.fstype} {one.source} on {one.target}" for one in escaped]


def remove_tree(folder: Path) -> None:
    """Remove a directory, but not when something is still mounted below it: that may be the host's."""
    below = [one.target for one in mounts() if one.target.startswith(f"{folder}/")]
    assert not below, f"still mounted: {below}"
    shutil.rmtree(folder, ignore_errors=True)


def reap() -> None:
    """Reap all zombies that became our children."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def processes(before: set[int], grace: float = GRACE) -> list[str]:
    """The children of the harness that are not in `before`, given `grace` seconds to end by themselves; killed then."""
    deadline = time.monotonic() + grace
    while True:
        reap()
        found = [pid for pid in proc.children() if pid not in before]
        if not found or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    names = []
    for pid in found:
        try:
            names.append(f"process {pid}: {proc.read(pid, 'cmdline').replace(chr(0), ' ')}")
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        except (OSError, ChildProcessError):
            continue
    return names


def state_records(root: Path) -> list[str]:
    """What is left below a `--root` directory, but for the cache of seccomp filters, which belongs to none."""
    return [f"state {path}" for path in root.glob("*") if path.name != ".cache"] if root.exists() else []
