"""Read facts of the kernel and the host. Each function reads one, and none raises unless it says so."""

from __future__ import annotations

import posix

from pyruntime.kernel import process
from pyruntime.util import ranges
from pyruntime.util.fileio import read_file

# How much of a list like 0-3,7 is believed: a host has fewer CPUs.


def text(path: str) -> str:
    """Return a small file of the host without the white space around it, "" when it cannot be read."""
    try:
        return read_file(path).strip()
    except (OSError, ValueError):
        return ""


def exists(path: str) -> bool:
    """Return whether a path exists; one that cannot be accessed counts as existing."""
    try:
        posix.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


def names(directory: str) -> list[str]:
    """Return the names in a directory, sorted; none when it cannot be listed."""
    try:
        return sorted(posix.listdir(directory))
    except OSError:
        return []


def kernel_version() -> tuple[int, int]:
    """Return the kernel's version, such as (6, 12)."""
    major, _, rest = posix.uname().release.partition(".")
    minor = ""
    for letter in rest:
        if not letter.isdigit():
            break
        minor += letter
    return (int(major) if major.isdigit() else 0, int(minor or 0))


def filesystems() -> set[str]:
    """Return the registered filesystem types (/proc/filesystems); modules may add others."""
    return set(text("/proc/filesystems").split()) - {"nodev"}


def is_module(name: str) -> bool:
    """Return whether a filesystem could come from a module that is not loaded."""
    release = posix.uname().release
    return any(f"/{name}.ko" in text(f"/lib/modules/{release}/{list}") for list in ("modules.dep", "modules.builtin"))


def security_modules() -> list[str]:
    """Return the names of the enabled Linux security modules, as far as this user can read them."""
    listed = text("/sys/kernel/security/lsm")
    if listed:
        return listed.split(",")
    found = []
    if text("/sys/module/apparmor/parameters/enabled") == "Y":
        found.append("apparmor")
    if exists("/sys/fs/selinux/enforce"):
        found.append("selinux")
    return found


def online(kind: str) -> set[int]:
    """Return the CPUs (kind "cpu") or memory nodes ("node") of the host; empty if unreadable."""
    try:
        return set(ranges.parse(text(f"/sys/devices/system/{kind}/online")))
    except ValueError:
        return set()


def capabilities() -> tuple[int, int]:
    """Return (permitted, bounding) sets of this process as bit masks."""
    bounding = 0
    for line in text("/proc/self/status").splitlines():
        if line.startswith("CapBnd:"):
            bounding = int(line.split()[1], 16)
    return process.get_capabilities()[1], bounding


def initial_user_namespace() -> bool:
    """Return whether this process is in the host's own user namespace: all ids are mapped to themselves."""
    return text("/proc/self/uid_map").split()[:3] in (["0", "0", "4294967295"], [])


def subordinate(file: str) -> list[tuple[int, int]]:
    """Return the ranges (first, count) that /etc/subuid or /etc/subgid grants to this user (subuid(5))."""
    own = {str(posix.getuid()), _user_name()}
    found = []
    for line in text(file).splitlines():
        fields = line.split(":")
        if len(fields) == 3 and fields[0] in own and fields[1].isdigit() and fields[2].isdigit():
            found.append((int(fields[1]), int(fields[2])))
    return found


def _user_name() -> str:
    for line in text("/etc/passwd").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(posix.getuid()):
            return fields[0]
    return ""


def program(name: str) -> str:
    """Return the path of a program in PATH, "" if there is none."""
    for directory in ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/usr/local/sbin"):
        if posix.access(f"{directory}/{name}", posix.X_OK):
            return f"{directory}/{name}"
    return ""


def failure_of(*command: str) -> str:
    """Run a program: "" when it succeeds, else its first line that speaks of an error, or how it ended."""
    import subprocess

    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return "no answer within 20 s"
    except OSError as error:
        return str(error.strerror)
    if ended.returncode == 0:
        return ""
    lines = (ended.stderr + ended.stdout).decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in lines if "Error" in line), f"exit status {ended.returncode}")
