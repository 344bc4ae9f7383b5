"""Keeps the suite's traces off the machine: namespace, /run, /dev/null, and what each program leaves."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

INSIDE = "PYRUNTIME_CONFORMANCE_NAMESPACE"
CGROUPS = Path("/sys/fs/cgroup")
NULL = "/run/null"
PR_SET_CHILD_SUBREAPER = 36


def enter(runtime: str, script: str) -> None:
    """Start SCRIPT again in a mount namespace of its own, unless it is in it; then prepare the namespace.

    Three programs make containers without a mount namespace, whose mounts would stay on the machine. The
    runtimes' default state folders are below /run, which is new and empty here. RUNTIME is its path: crun
    1.8 refuses to work where controllers are in v1 and v2 hierarchies, so that the v2 mount is taken away
    for it.
    """
    if os.environ.get(INSIDE) != str(os.getppid()):
        os.environ[INSIDE] = str(os.getpid())
        unshare = ["unshare", "--mount", "--propagation", "private", "--fork", "--kill-child=SIGTERM"]
        os.execvp("unshare", [*unshare, sys.executable, script, *sys.argv[1:]])
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    if os.path.basename(runtime) == "crun" and os.path.ismount(CGROUPS / "unified"):
        subprocess.run(["umount", CGROUPS / "unified"], check=True)
    # The programs give containers /dev/null as stdin, and some runtimes chown a container's stdio: this
    # node may be chowned, the machine's must not.
    os.mknod(NULL, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.chmod(NULL, 0o666)
    subprocess.run(["mount", "--bind", NULL, "/dev/null"], check=True)
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise SystemExit("conformance: prctl(PR_SET_CHILD_SUBREAPER) failed")


def clean_up(runtime: str, temporary: str) -> int:
    """Remove what is left: containers (returned: how many), mounts and files below TEMPORARY, cgroups."""
    listed = subprocess.run([runtime, "list", "-q"], capture_output=True, text=True, check=False).stdout
    for name in listed.split():
        subprocess.run([runtime, "delete", "--force", name], capture_output=True, check=False)
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed(mounts):
        if mount.startswith(temporary + "/"):
            subprocess.run(["umount", "-l", mount], check=False)
    for entry in os.scandir(temporary):
        shutil.rmtree(entry.path, ignore_errors=True)
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        hierarchy = CGROUPS / (controllers.removeprefix("name=") or "unified")
        for parent in (hierarchy, hierarchy / own.lstrip("/")):  # relative paths may begin at our own cgroup
            for folder in ("testdir/cgrouptest", "testdir", "cgrouptest"):
                try:
                    (parent / folder).rmdir()
                except OSError:
                    pass
    return len(listed.split())


def null_owner() -> str:
    """A complaint if somebody changed the owner or mode of /dev/null, otherwise ""; it is put right again."""
    found = os.stat(NULL)
    if (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 0, 0o666):
        return ""
    os.chown(NULL, 0, 0)
    os.chmod(NULL, 0o666)
    return f"/dev/null was given to {found.st_uid}:{found.st_gid}, mode {found.st_mode & 0o777:o}"
