"""An ordinary user with subordinate ids, who exists in this process's mount namespace only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from support import kernel

UID = 61184  # not in use; systemd has it among those that it gives to nobody
RANGE = (300000, 65536)  # the first subordinate id, and how many
FILES = ("/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid")
# In front of a command: it becomes the user's.
BECOME = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--"]
_LINES = {
    "passwd": f"pyrt:x:{UID}:{UID}::/:/bin/sh\n",
    "group": f"pyrt:x:{UID}:\n",
    "subuid": f"pyrt:{RANGE[0]}:{RANGE[1]}\n",
    "subgid": f"pyrt:{RANGE[0]}:{RANGE[1]}\n",
}


def cover(place: Path) -> list[str]:
    """Put files with the user in them over those of /etc, kept in `place`: which ones, for `uncover`."""
    covered = [file for file in FILES if os.path.exists(file)]
    for file in covered:
        copy = place / Path(file).name
        copy.write_text(Path(file).read_text() + _LINES[copy.name])
        kernel.mount(str(copy), file, None, kernel.MS_BIND)
    return covered


def uncover(covered: list[str]) -> None:
    """Take them away again."""
    for file in covered:
        kernel.umount(file)


def admit(folder: Path) -> None:
    """Let ordinary users pass through the directories above `folder`, /root for instance, in this mount namespace."""
    for place in reversed(folder.parents):
        if place.stat().st_mode & 0o001:
            continue
        old = os.open(place, os.O_PATH | os.O_DIRECTORY)
        names = os.listdir(place)
        kernel.mount("tmpfs", str(place), "tmpfs", 0, "mode=711")
        for name in names:
            source, target = Path(f"/proc/self/fd/{old}/{name}"), place / name
            if source.is_symlink():
                target.symlink_to(source.readlink())
                continue
            if source.is_dir():
                target.mkdir()
            else:
                target.touch()
            kernel.mount(str(source), str(target), None, kernel.MS_BIND | kernel.MS_REC)
        os.close(old)


def has_ranges(covered: list[str]) -> bool:
    """Whether newuidmap(1) and newgidmap(1) are there, and files that grant the ids."""
    return covered == list(FILES) and all(shutil.which(name) for name in ("newuidmap", "newgidmap"))
