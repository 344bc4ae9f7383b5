"""CVE-2021-30465 (runc to 1.0.0-rc94): a mount's destination was checked, then used by its path. Who swaps it for a
link in between has the volume mounted over a directory of the host (in the container's mount namespace), and the
sources of the next mounts are taken from there: a link in the volume shows any directory of the host."""

from __future__ import annotations

import os

import pytest
from support.attack import mounts_astray, racing, require_made, rounds, watch_mounts

PAIRS = 20
BY_STRING = """
import posix
from pyruntime.kernel.call import lib
def attach(init, fd, target, destination, propagation):
    # Looked at, then used: what was wrong.
    real = posix.readlink(f"/proc/self/fd/{target}")
    if real.startswith(init.rootfs + "/"):
        lib.shim_move_mount(fd, b"", -100, (init.rootfs + destination).encode(), 0x14)
replace("features.rootfs.mounts._attach", attach)
"""


def arrange(box, host):
    """20 times: mount a volume of the attacker on /shared/aN, then a directory of the engine's on /outN.

    The other side of aN is a link to where the engine keeps its volumes; in the attacker's volume lies a link to the
    host's secret under the name that the engine's directory has. Gives back the pairs to be swapped."""
    secret, shared, evil, kept = (host / name for name in ("secret", "shared", "evil", "volumes"))
    for folder in (secret, shared, evil, kept):
        folder.mkdir()
    (secret / "key").write_text("secret\n")
    (kept / "data").mkdir()
    (evil / "data").symlink_to(secret)
    bind = {"type": "bind", "options": ["rbind", "rw"]}
    box.config["mounts"].append({"destination": "/shared", "source": str(shared), **bind})
    pairs = []
    for number in range(PAIRS):
        (shared / f"a{number}").mkdir()
        (shared / f"b{number}").symlink_to(kept)
        pairs.append((shared / f"a{number}", shared / f"b{number}"))
        box.config["mounts"] += [
            {"destination": f"/shared/a{number}", "source": str(evil), **bind},
            {"destination": f"/out{number}", "source": str(kept / "data"), **bind},
        ]
    return pairs


def escapes(box, host, exchange, most: int, seconds: float) -> tuple[list[str], int]:
    """Create until something escapes: (what escaped, how many containers were made)."""
    pairs = arrange(box, host)
    seen = watch_mounts(box)
    made = 0
    with racing(exchange, *pairs):
        for _ in rounds(most, seconds):
            seen.unlink(missing_ok=True)
            result = box.create(check=None)
            found = mounts_astray(box, seen) if seen.exists() else []
            if result.code == 0:
                made += 1
                found += [name for name in os.listdir(box.root) if (box.root / name / "key").exists()]
                box.delete("--force")
            if found:
                return found, made
    return [], made


def test_no_mount_lands_outside(container, host, exchange):
    box = container()
    found, made = escapes(box, host, exchange, 300, 12)
    assert found == []
    require_made(box, made)


@pytest.mark.ours
def test_a_path_string_is_caught(container, host, exchange, weakened):
    box = container()
    box.runtime = weakened(BY_STRING)
    found, _ = escapes(box, host, exchange, 50, 15)
    assert found
