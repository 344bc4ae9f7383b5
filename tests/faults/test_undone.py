"""What the sweep and the fuzzer have found once, as tests of their own."""

from __future__ import annotations

import pytest
from support import config as configs
from support import kernel, proc


@pytest.fixture
def shared(container, runtime):
    """A container that shares the mounts of this process, with a rootfs that an engine has mounted."""
    box = container(["/bin/sleep", "100"])
    for kind in ("mount", "pid"):
        configs.drop_namespace(box.config, kind)
    box.config["mounts"] = [configs.DEV]
    kernel.mount(str(box.rootfs), str(box.rootfs), None, kernel.MS_BIND)
    kernel.mount(None, str(box.rootfs), None, kernel.MS_PRIVATE)
    yield box
    while any(mount.target == str(box.rootfs) for mount in mounts()):
        kernel.umount(str(box.rootfs), kernel.MNT_DETACH)


def mounts() -> list[proc.Mount]:
    return proc.parse_mountinfo(proc.read("self", "mountinfo"))


def at_or_below(box) -> list[str]:
    return [mount.target for mount in mounts() if mount.target.startswith(str(box.rootfs))]


@pytest.mark.ours
def test_a_mounted_rootfs_stays_mounted(shared):
    """delete takes away what create has mounted, and no more."""
    shared.create()
    assert len(at_or_below(shared)) == 3
    shared.delete("--force")
    shared.wait()
    assert at_or_below(shared) == [str(shared.rootfs)]


@pytest.mark.ours
def test_a_mounted_rootfs_stays_mounted_when_nothing_was_made(shared):
    """A create that fails before its own mount must not undo somebody else's."""
    shared.config["linux"]["namespaces"].append({"type": "ipc", "path": "/proc/self/ns/nosuch"})
    assert shared.create(check=None).code == 1
    assert at_or_below(shared) == [str(shared.rootfs)]


@pytest.mark.ours
def test_a_mount_on_the_root_is_undone(shared):
    """It lies over the bind of the rootfs, which is then the second to go."""
    shared.config["mounts"] = [{"destination": "/", "type": "tmpfs", "source": "tmpfs"}, configs.DEV]
    shared.create(check=None)
    shared.delete("--force")
    assert at_or_below(shared) == [str(shared.rootfs)]


@pytest.mark.ours
def test_a_start_hook_and_no_process(container):
    """The hook was taken for the program, and its arguments for the program's."""
    box = container()
    box.config["hooks"] = {"startContainer": [{"path": "/bin/true"}]}
    del box.config["process"]
    box.create()
    result = box.start(check=None)
    assert result.code == 1
    assert "no process to start" in result.stderr
