"""What an ordinary user cannot do says why, and what he or the administrator can do about it; what stands in for what
only root may, works. Beside test_rootless.py, whose user runs these."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import config as configs
from support import kernel

from linux.test_rootless import base, box, granted, place, user  # noqa: F401  # pytest's fixtures

pytestmark = [pytest.mark.ours, pytest.mark.rootless]
HELPERS = ("/usr/bin/newuidmap", "/usr/bin/newgidmap")


@pytest.fixture
def no_helpers() -> Iterator[None]:
    """A host without the package uidmap: its programs are covered."""
    if os.geteuid() != 0:
        pytest.skip("only root can cover newuidmap")
    found = [path for path in HELPERS if os.path.exists(path)]
    for path in found:
        kernel.mount("/dev/null", path, None, kernel.MS_BIND)
    yield
    for path in found:
        kernel.umount(path)


def refused(one, *words: str, verb: str = "run") -> str:
    message = one.do(verb, check=1).stderr
    assert len([line for line in message.splitlines() if "level=warning" not in line]) == 1, message
    for word in words:
        assert word in message, message
    return message


def test_ranges_without_the_helpers(box, no_helpers) -> None:  # noqa: F811
    one = box()
    one.map_ranges()
    refused(one, "/linux/uidMappings", "newuidmap is not installed", "install the package uidmap")


def test_one_id_without_the_helpers(box, no_helpers) -> None:  # noqa: F811
    """They are not needed."""
    assert box(sh="id -u").do("run").stdout == "0\n"


@pytest.mark.parametrize("word", ["true", "false", "auto"])
def test_rootless_said_outright(box, word: str) -> None:  # noqa: F811
    """`false` makes an error of what is otherwise done without: here, a cgroup; where that is delegated, the maps."""
    one = box(sh="echo alive")
    (one.path / "config.json").write_text(json.dumps(one.config))
    root = ("--root", one.user.env["XDG_RUNTIME_DIR"] + "/said")
    result = one.user.run("run", "--bundle", one.path, one.id, flags=(*root, f"--rootless={word}"), check=None)
    if word != "false":
        assert (result.code, result.stdout) == (0, "alive\n"), result
    elif result.code:
        assert "cgroup" in result.stderr or "uid_map" in result.stderr, result
        assert "denied" in result.stderr.lower(), result


def test_a_word_that_is_none(user) -> None:  # noqa: F811
    message = user.run("list", flags=("--rootless=perhaps",), check=1).stderr
    assert "'perhaps'" in message and "true, false or auto" in message


def test_proc_without_a_pid_namespace(box) -> None:  # noqa: F811
    """Only who owns the pid namespace may mount its proc: the host's is bound, and masked as the config says."""
    one = box(sh="readlink /proc/self >/dev/null && grep ' /proc ' /proc/mounts | wc -l; wc -c </proc/keys")
    configs.drop_namespace(one.config, "pid")
    assert one.do("run").stdout.split() == ["1", "0"]


def test_mqueue_without_an_ipc_namespace(box) -> None:  # noqa: F811
    one = box(sh="grep -c ' /dev/mqueue ' /proc/mounts")
    configs.drop_namespace(one.config, "ipc")
    result = one.do("run", check=None)
    if os.path.ismount("/dev/mqueue"):
        assert result.stdout == "1\n", result
    else:
        assert "/dev/mqueue" in result.stderr, result


def test_setgroups_with_ranges(box) -> None:  # noqa: F811
    """Mapped by newgidmap, the groups may be set."""
    one = box("cat", "/proc/self/setgroups")
    one.map_ranges()
    assert one.do("run").stdout == "allow\n"


def test_more_rlimits_than_the_user_has(box) -> None:  # noqa: F811
    one = box()
    one.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1 << 30, "hard": 1 << 30}]
    refused(one, "/process/rlimits/0", "CAP_SYS_RESOURCE", "ask for less")


def test_network_devices(box) -> None:  # noqa: F811
    one = box()
    configs.set_namespace(one.config, "network")
    one.linux["netDevices"] = {"lo0": {}}
    refused(one, "/linux/netDevices", "ordinary user", "run as root")


def test_a_filesystem_of_roots(box) -> None:  # noqa: F811
    one = box()
    configs.add_mount(one.config, "/mnt", "ext4", "/dev/vda", [])
    refused(one, "/mounts/", "EPERM")  # the kernel looks at the type before it looks at the device


def test_mapped_owners(box) -> None:  # noqa: F811
    one = box()
    one.config["mounts"].append(
        {"destination": "/mnt", "type": "bind", "source": str(one.path), "options": ["bind", "idmap"]}
    )
    refused(one, "/mounts/", "for root only", "CAP_SYS_ADMIN")


def test_a_sysctl_of_roots(box) -> None:  # noqa: F811
    one = box()
    one.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    refused(one, "/linux/sysctl/net.ipv4.ip_forward", "network namespace")


def test_a_namespace_of_somebody_else(box) -> None:  # noqa: F811
    """Root's: not even to be looked at."""
    one = box()
    configs.set_namespace(one.config, "network", f"/proc/{os.getppid()}/ns/net" if os.geteuid() else "/proc/1/ns/net")
    refused(one, "/linux/namespaces/", "ns/net")


def test_a_place_that_is_not_his(box) -> None:  # noqa: F811
    """Mount points are made as the user: where he may not, he is told where."""
    one = box()
    closed = Path(one.path) / "rootfs/closed"
    closed.mkdir(mode=0o555)
    if os.geteuid() == 0:
        os.chown(closed, 0, 0)
    else:
        pytest.skip("only root can make a directory that is not the user's")
    configs.add_mount(one.config, "/closed/point", "tmpfs", "tmpfs", [])
    refused(one, "/mounts/", "/closed/point", "EACCES")


def test_no_user_namespaces_at_all(box) -> None:  # noqa: F811
    """As a host forbids them by user.max_user_namespaces; tried in a user namespace, to leave the host's alone."""
    one = box()
    words = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    wrap = [*one.user.wrap, "unshare", "-Ur", "--", "/bin/sh", "-c", words, "sh"]
    message = one.do("run", check=1, wrap=wrap).stderr
    assert "ENOSPC" in message and "user.max_user_namespaces" in message, message


def test_exec_of_roots_into_a_container_of_a_user(box, user) -> None:  # noqa: F811
    """Root believes no record that another user can write."""
    if os.geteuid() != 0:
        pytest.skip("only root can")
    one = box()
    one.start()
    root = ("--root", str(user.records))
    result = user.run("exec", one.id, "cat", "/proc/self/uid_map", flags=root, wrap=[], check=255)
    assert f"is owned by uid {user.uid}, not by uid 0" in result.stderr
