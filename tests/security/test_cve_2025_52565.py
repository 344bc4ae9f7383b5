"""CVE-2025-52565 (runc 1.0.0-rc3 to 1.2.7): the terminal was bound to /dev/console by its name, /dev/pts/0. Who swaps
that for a link in between has any file of procfs there, writable and before anything is masked."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager

import pytest
from support.attack import racing, rounds

BY_NAME = """
import posix, time
from pyruntime.kernel import mount
from pyruntime.features.rootfs import path
def bind_console(directory, terminal):
    time.sleep(0.002)
    source = posix.open(f"/proc/self/fd/{directory}/pts/0", path.O_PATH)
    target = path.make_file(directory, "/console")
    mount.attach(mount.clone_tree("", dirfd=source), target, "/dev/console")
replace("features.rootfs.console._bind_console", bind_console)
"""


@contextmanager
def created_with_terminal(box):
    """Create with a console socket on which nobody takes the master; it stays open meanwhile."""
    box.process["terminal"] = True
    path = box.runtime.folder / "console.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        one.listen()
        try:
            yield box.create("--console-socket", str(path), check=None)
        finally:
            path.unlink()


def consoles(box) -> list[str]:
    """What is bound in the container but for directories: filesystem and path in it."""
    usual = ("proc", "sysfs", "mqueue")
    return [f"{one.fstype} {one.root}" for one in box.mounts() if one.root != "/" and one.fstype in (*usual, "devpts")]


def attack(box, host, exchange, most: int, seconds: float) -> tuple[list[str], int]:
    """/dev is a volume that another container swaps /dev/pts in: (what is bound for a console, containers made)."""
    dev = host / "dev"
    for name in ("pts", "evil"):
        (dev / name).mkdir(parents=True)
    (dev / "evil/0").symlink_to("/proc/uptime")
    (dev / "ptmx").symlink_to("pts/ptmx")
    (dev / "console").touch()
    os.mknod(dev / "null", 0o020666, os.makedev(1, 3))
    bind = {"destination": "/dev", "type": "bind", "source": str(dev), "options": ["rbind", "rw"]}
    mounts = {one["destination"]: one for one in box.config["mounts"]}
    box.config["mounts"] = [mounts["/proc"], bind, mounts["/dev/pts"]]
    made = 0
    with racing(exchange, (dev / "pts", dev / "evil")):
        for _ in rounds(most, seconds):
            with created_with_terminal(box) as result:
                if result.code != 0:
                    continue
                made += 1
                found = [one for one in consoles(box) if not one.startswith("devpts /")]
                box.delete("--force")
            if found:
                return found, made
    return [], made


PROCFS = "binds the file of procfs"


@pytest.mark.differs(runc=f"runc 1.1.5 {PROCFS}", crun=f"crun 1.8.1 {PROCFS}", sometimes=True)
def test_the_console_is_the_terminal(container, host, exchange):
    found, _ = attack(container(), host, exchange, 300, 8)
    assert found == []


def test_the_console_without_an_attack(container):
    """So that the test above can tell."""
    box = container()
    with created_with_terminal(box) as result:
        assert result.code == 0, str(result)
        assert consoles(box) == ["devpts /0"]


@pytest.mark.ours
def test_a_terminal_by_name_is_caught(container, host, exchange, weakened):
    box = container()
    box.runtime = weakened(BY_NAME)
    found, _ = attack(box, host, exchange, 300, 15)
    assert found == ["proc /uptime"]


FALSE = {
    "file": lambda path: path.touch(),
    "link to another file": lambda path: path.symlink_to("/etc/passwd"),
    "null device": lambda path: os.mknod(path, 0o020666, os.makedev(1, 3)),
    "multiplexer of the host": lambda path: os.mknod(path, 0o020666, os.makedev(5, 2)),
}


@pytest.mark.parametrize("name", FALSE)
def test_a_false_multiplexer(container, name):
    """Without a devpts: refused, or no terminal of the host's."""
    box = container(["/bin/sleep", "100"])
    mounts = [one for one in box.config["mounts"] if one["destination"] in ("/proc", "/sys")]
    box.config["mounts"] = mounts
    (box.rootfs / "dev/pts").mkdir()
    FALSE[name](box.rootfs / "dev/pts/ptmx")
    with created_with_terminal(box) as result:
        if result.code == 0:
            shown = os.readlink(f"/proc/{box.pid}/fd/0")
            assert shown.startswith("/dev/pts/")
            assert os.stat(f"/proc/{box.pid}/fd/0").st_dev != os.stat("/dev/pts").st_dev
        assert not (box.runtime.is_ours and result.code == 0)
