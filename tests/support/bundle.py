"""Bundles: a busybox root filesystem of hard links, and a config.json beside it."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

BUSYBOX = "/bin/busybox"
APPLETS = """
arch awk basename cat chgrp chmod chown chroot cp cut date dd df dirname dmesg du echo env expr false find
grep head hostname id ifconfig ip kill ln ls md5sum mkdir mkfifo mknod mount mv nc nproc nsenter
od ping printenv printf ps pwd readlink realpath rm rmdir sed seq setsid sh sleep sort stat sync tail tee
test timeout touch tr true tty umount uname uniq unshare wc which whoami xargs
"""
DIRECTORIES = "bin dev etc home/ham mnt proc root run sys tmp usr/bin usr/sbin sbin var"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nham:x:1000:1000:ham:/home/ham:/bin/sh\n"
GROUP = "root:x:0:\nham:x:1000:\n"


def make_base(path: Path) -> Path:
    """Write the root filesystem that all bundles are linked from; needs a static busybox on the host."""
    for name in DIRECTORIES.split():
        (path / name).mkdir(parents=True)
    shutil.copy2(BUSYBOX, path / "bin/busybox")
    for applet in APPLETS.split():
        (path / "bin" / applet).symlink_to("busybox")
    (path / "etc/passwd").write_text(PASSWD)
    (path / "etc/group").write_text(GROUP)
    (path / "tmp").chmod(0o1777)
    path.chmod(0o755)
    return path


def link_tree(source: Path, target: Path) -> None:
    """Copy a tree, with hard links in place of copies of its files."""
    target.mkdir()
    for entry in os.scandir(source):
        other = target / entry.name
        if entry.is_symlink():
            other.symlink_to(os.readlink(entry.path))
        elif entry.is_dir():
            link_tree(Path(entry.path), other)
        else:
            os.link(entry.path, other)
    target.chmod(stat.S_IMODE(source.stat().st_mode))


class Bundle:
    """A directory with `rootfs/` and, after `save()`, `config.json`.

    Files of the rootfs are shared with all other bundles: replace them, as `write()` does, never write into
    them.
    """

    def __init__(self, path: Path, base: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self.frozen = False
        path.mkdir(mode=0o755, parents=True)
        link_tree(base, self.rootfs)

    @property
    def rootfs(self) -> Path:
        return self.path / "rootfs"

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    def save(self) -> None:
        """Write config.json, unless the test wrote one of its own with `save_raw()`."""
        if not self.frozen:
            self.config_file.write_text(json.dumps(self.config, indent=1))

    def save_raw(self, data: bytes) -> None:
        """Write config.json byte for byte and keep it that way."""
        self.config_file.write_bytes(data)
        self.frozen = True

    def write(self, name: str, text: str | bytes, mode: int = 0o644) -> Path:
        """Make a file of the rootfs, in place of one that may be there."""
        path = self.rootfs / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return path

    def chown(self, uid: int, gid: int) -> None:
        """Give the rootfs's directories to somebody, as an engine does for a user namespace; its files
        stay shared."""
        for folder, _, _ in os.walk(self.rootfs):
            os.chown(folder, uid, gid)
