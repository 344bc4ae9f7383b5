"""The leak check finds what it is there to find: without this, a green run would prove nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support import kernel, leaks, proc


def test_a_process_is_found_and_ended(runtime):
    before = set(proc.children())
    process = subprocess.Popen(["sleep", "1000"])
    found = leaks.processes(before, grace=0.1)
    assert found == [f"process {process.pid}: sleep 1000 "]
    assert proc.process_state(process.pid) == ""
    process.returncode = 0  # it was reaped behind Popen's back


def test_an_orphan_of_an_orphan_is_found(runtime):
    """Reparented to the harness, which is a subreaper."""
    before = set(proc.children())
    subprocess.run(["sh", "-c", "(sleep 1000 &) &"], check=True)
    proc.wait_until(lambda: set(proc.children()) - before, "the orphan is ours")
    assert len(leaks.processes(before, grace=0.1)) == 1


def test_a_mount_is_found_and_taken_away(runtime):
    before = leaks.mounts()
    target = runtime.folder / "target"
    target.mkdir()
    subprocess.run(
        ["unshare", "--mount", "--propagation", "unchanged", "mount", "-t", "tmpfs", "x", target], check=True
    )
    found = leaks.detach([one for one in leaks.mounts() if one not in before])
    assert found == [f"mount tmpfs x on {target}"]
    assert leaks.mounts() == before


def test_a_mount_below_is_never_walked_into(runtime):
    folder = runtime.folder / "folder"
    (folder / "target").mkdir(parents=True)
    victim = runtime.folder / "victim"
    victim.mkdir()
    (victim / "file").touch()
    kernel.mount(str(victim), str(folder / "target"), None, kernel.MS_BIND)
    try:
        leaks.remove_tree(folder)
    except AssertionError as error:
        assert "still mounted" in str(error)
    else:
        raise AssertionError("it was walked into")
    finally:
        kernel.umount(str(folder / "target"), kernel.MNT_DETACH)
    assert (victim / "file").exists()


def test_a_cgroup_is_found(runtime):
    path = Path(leaks.hierarchies()[0], f"{leaks.PREFIX}-planted")
    path.mkdir()
    try:
        assert leaks.cgroups() == [str(path)]
    finally:
        path.rmdir()


def test_a_changed_device_is_found_and_put_back(runtime):
    before = leaks.device_nodes()
    os.chown("/dev/full", 1000, 1000)
    assert leaks.restore_devices(before) == ["/dev/full is 1000:1000 20666, was 0:0 20666"]
    assert leaks.device_nodes() == before


def test_state_is_found(runtime):
    runtime.root.mkdir()
    (runtime.root / "left").touch()
    assert leaks.state_records(runtime.root) == [f"state {runtime.root}/left"]
    (runtime.root / "left").unlink()


def test_nobody_elses_mounts_are_in_reach(machine):
    """The harness has a mount namespace of its own."""
    assert proc.namespace("self", "mnt") != proc.namespace(os.getppid(), "mnt")
