"""CVE-2024-45310 (runc to 1.1.13): what was missing at a mount's destination was made by its path. Who swaps a
component for a link in between has empty files and directories made anywhere on the host."""

from __future__ import annotations

import pytest
from support.attack import racing, require_made, rounds, tree

PAIRS = 8
BY_STRING = """
import posix
def make(root_fd, path, mode, *, directory, linked=None):
    # Looked at component by component, then made by the whole path: what was wrong.
    walked = posix.readlink(f"/proc/self/fd/{root_fd}")
    for name in path.strip("/").split("/"):
        try:
            if posix.lstat(f"{walked}/{name}").st_mode & 0o170000 == 0o120000:
                return old(root_fd, path, mode, directory=directory, linked=linked)
        except FileNotFoundError:
            pass
        walked += "/" + name
        try:
            posix.mkdir(walked, mode)
        except FileExistsError:
            pass
    return old(root_fd, path, mode, directory=directory, linked=linked)
old = replace("features.rootfs.path._make", make)
"""


def arrange(box, host):
    """Mounts on /shared/aN/new/dir and /shared/aN/new/file, which are not there yet; bN is a link to the host's."""
    shared, target, file = host / "shared", host / "target", host / "file"
    shared.mkdir()
    target.mkdir()
    file.touch()
    bind = {"type": "bind", "options": ["rbind", "rw"]}
    box.config["mounts"].append({"destination": "/shared", "source": str(shared), **bind})
    pairs = []
    for number in range(PAIRS):
        (shared / f"a{number}").mkdir()
        (shared / f"b{number}").symlink_to(target)
        pairs.append((shared / f"a{number}", shared / f"b{number}"))
        for kind, source in (("dir", shared), ("file", file)):
            destination = f"/shared/a{number}/{{round}}{kind}/x/{kind}"
            box.config["mounts"].append({"destination": destination, "source": str(source), **bind})
    return target, pairs


def created_outside(box, host, exchange, most: int, seconds: float) -> tuple[list[str], int]:
    """Create until something is made in the host's directory: (what, how many containers were made)."""
    target, pairs = arrange(box, host)
    templates = [dict(one) for one in box.config["mounts"]]
    made = 0
    with racing(exchange, *pairs):
        for number in rounds(most, seconds):
            # Names that were never there before, each time.
            box.config["mounts"] = [
                {**one, "destination": one["destination"].replace("{round}", f"r{number}-")} for one in templates
            ]
            if box.create(check=None).code == 0:
                made += 1
                box.delete("--force")
            if found := tree(target):
                return found, made
    return [], made


@pytest.mark.differs(runc="runc 1.1.5 makes directories on the host", sometimes=True)
def test_nothing_is_made_outside(container, host, exchange):
    box = container()
    found, made = created_outside(box, host, exchange, 300, 12)
    assert found == []
    require_made(box, made)


@pytest.mark.ours
def test_a_path_string_is_caught(container, host, exchange, weakened):
    box = container()
    box.runtime = weakened(BY_STRING)
    found, _ = created_outside(box, host, exchange, 100, 15)
    assert found
