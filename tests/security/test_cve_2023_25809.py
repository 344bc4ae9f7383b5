"""CVE-2023-25809 (runc to 1.1.4): in a user namespace without a cgroup namespace /sys/fs/cgroup was the host's, and
writable: whatever its owner may write there, the container could.

Here the owner of the maps has a cgroup of its own beside the container's, as a user with a systemd session has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import config, leaks

ROOT = 100_000
SYS = {"destination": "/sys", "type": "none", "source": "/sys"}
CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
CASES = {
    "cgroup mount": [config.SYSFS, {**CGROUP, "options": ["nosuid", "noexec", "nodev"]}],
    "read-only cgroup mount": [config.SYSFS, {**CGROUP, "options": ["nosuid", "noexec", "nodev", "ro"]}],
    "host's sys": [{**SYS, "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}],
    "both": [
        {**SYS, "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]},
        {**CGROUP, "options": ["nosuid", "noexec", "nodev", "ro"]},
    ],
}
# mkdir(2) is the strongest thing that an owner can do, and leaves a trace.
SCRIPT = """
for place in $(find / -type d -name "$1" 2>/dev/null); do mkdir $place/made && echo "made $place"; done
echo done
"""
TOP_ONLY = """
def as_asked(request, source, parsed):
    return parsed.tree_set
replace("features.rootfs.mounts._tree_attributes", as_asked)
"""


@pytest.fixture
def neighbour(runtime):
    """A cgroup in every hierarchy that belongs to the container's root."""
    name = f"{leaks.PREFIX}-neighbour"
    made = [Path(top) / name for top in leaks.hierarchies()]
    for path in made:
        path.mkdir()
        for file in (path, *path.iterdir()):
            os.chown(file, ROOT, ROOT)
    yield name
    for path in made:
        for below in path.glob("made"):
            below.rmdir()
        path.rmdir()


def attack(box, name: str, case: str) -> list[str]:
    """Look for the neighbour from inside: where something could be made in it."""
    box.process["args"] = ["/bin/sh", "-c", SCRIPT, "sh", name]
    box.config["linux"]["namespaces"].append({"type": "user"})
    ids = [{"containerID": 0, "hostID": ROOT, "size": 65536}]
    box.config["linux"]["uidMappings"] = box.config["linux"]["gidMappings"] = ids
    box.bundle.chown(ROOT, ROOT)
    mounts = [one for one in box.config["mounts"] if one["destination"] != "/sys"]
    box.config["mounts"] = mounts + CASES[case]
    result = box.run(check=None)
    assert result.code != 0 or "done" in result.stdout, str(result)
    return [line for line in result.stdout.splitlines() if line.startswith("made")]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.differs(runc="runc 1.1.5 leaves them writable"))
        if case == "host's sys"
        else case
        for case in CASES
    ],
)
def test_a_neighbours_cgroup(container, neighbour, case):
    if case == "both" and container().runtime.kind == "crun":
        pytest.skip("crun 1.8.1 mounts over the host's own /sys/fs/cgroup: the bind is still shared with it")
    assert attack(container(), neighbour, case) == []


@pytest.mark.ours
def test_a_writable_tree_is_caught(container, neighbour, weakened):
    box = container()
    box.runtime = weakened(TOP_ONLY)
    assert attack(box, neighbour, "host's sys")
