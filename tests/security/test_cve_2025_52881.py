"""CVE-2025-52881 (runc to 1.2.7), CVE-2025-62596 (youki): what the runtime writes into procfs, sysctls and labels, is
sent to other files by mounts over it: a lost label at least, the host's core_pattern at worst."""

from __future__ import annotations

import subprocess

import pytest
from support.attack import racing, require_made, rounds

NAME, VALUE = "net.ipv4.ip_default_ttl", "77"
FAKE = "sys/net/ipv4/ip_default_ttl"
BY_PATH = """
import posix
replace("features.rootfs.destination._refuse_inside_proc", lambda *arguments: None)
replace("kernel.files.filesystem_magic", lambda fd: 0x9FA0)
def open_resolved(dirfd, path, flags, resolve, mode=0):
    if path.startswith("sys/") and flags & posix.O_WRONLY:
        return posix.open(ROOTFS + "/proc/" + path, flags)
    return old(dirfd, path, flags, resolve, mode)
old = replace("kernel.files.open_resolved", open_resolved)
"""


def fakes(host):
    """A directory to lie over /proc/sys/net: its files are marks of a write that went astray."""
    path = host / "fake/ipv4"
    path.mkdir(parents=True)
    (path / "ip_default_ttl").write_text("")
    return host / "fake"


def arrange(box, source, destination: str):
    box.config["linux"]["sysctl"] = {NAME: VALUE}
    box.config["mounts"].append(
        {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", "rw"]}
    )


def ttl(box) -> str:
    """What the kernel has for the container's network namespace, seen through the host's own /proc."""
    command = ["nsenter", f"--net=/proc/{box.pid}/ns/net", "cat", f"/proc/{FAKE}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("destination", ["/proc/sys/net", "/data"])
def test_no_sysctl_goes_astray(container, host, destination):
    """Mounted over /proc/sys/net, by its name or by a link of the image."""
    box = container(["/bin/true"])
    (box.rootfs / "data").symlink_to("proc/sys/net")
    fake = fakes(host)
    arrange(box, fake, destination)
    box.run(check=None)
    assert (fake / "ipv4/ip_default_ttl").read_text() == ""


def race(box, host, exchange, most: int, seconds: float) -> tuple[list[str], int]:
    """/shared/a is swapped for a link to /proc/sys/net all the time: (what went astray, containers made)."""
    shared = host / "shared"
    (shared / "a").mkdir(parents=True)
    (shared / "b").symlink_to("/proc/sys/net")
    fake = fakes(host)
    box.config["mounts"].append(
        {"destination": "/shared", "type": "bind", "source": str(shared), "options": ["rbind", "rw"]}
    )
    arrange(box, fake, "/shared/a")
    made = 0
    with racing(exchange, (shared / "a", shared / "b")):
        for _ in rounds(most, seconds):
            code = box.create(check=None).code
            found = (fake / "ipv4/ip_default_ttl").read_text()
            if found:
                return [f"written: {found}"], made
            if code == 0:
                made += 1
                if (shown := ttl(box)) != VALUE:
                    return [f"the sysctl is {shown}"], made
                box.delete("--force")
    return [], made


@pytest.mark.differs(runc="runc 1.1.5 writes into the file mounted there", sometimes=True)
def test_no_write_goes_astray_in_a_race(container, host, exchange):
    box = container()
    found, made = race(box, host, exchange, 200, 10)
    assert found == []
    require_made(box, made)


@pytest.mark.ours
def test_a_write_by_path_is_caught(container, host, weakened):
    box = container(["/bin/true"])
    fake = fakes(host)
    arrange(box, fake, "/proc/sys/net")
    box.runtime = weakened(f"ROOTFS = {str(box.rootfs)!r}\n{BY_PATH}")
    result = box.run(check=None)
    assert (fake / "ipv4/ip_default_ttl").read_text().strip() == VALUE, str(result)
