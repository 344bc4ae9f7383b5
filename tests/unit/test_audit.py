"""The audit without containers: mounts, rules of devices, values of limits, and that no step is forgotten."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest
from support import proc

from pyruntime.audit import checks, devices, limits, mounts
from pyruntime.audit.comparison import Comparison
from pyruntime.audit.limits import Limits
from pyruntime.errors import StateError
from pyruntime.util.mountinfo import Mounts

CHECKOUT = Path(__file__).resolve().parents[2]
# Of `exec` alone, which no audit plans.
EXEC = {f"affinity.set_{one}" for one in ("final", "initial")}
EXEC |= {"enter.join", "enter.open_tasks", "resctrl.join", "target.enter_root", "target.join"}


def planned() -> set[str]:
    """`module.function` of every step that any planner makes, from the source."""
    found = set()
    for path in (CHECKOUT / "pyruntime").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Step":
                function = node.args[1]
                if isinstance(function, ast.Name):
                    found.add(f"{path.stem}.{function.id}")
                elif isinstance(function, ast.Attribute):
                    found.add(f"{ast.unparse(function.value)}.{function.attr}")
    return found


def test_every_step_is_looked_at_or_has_a_reason_not_to_be() -> None:
    ways = ("write", "write_first", "write_if_possible", "write_lines", "write_together")
    settings = {f"setting.{name}" for name in ways}
    known = set(checks.CHECKS) | set(checks.UNSEEN) | checks.MEANS | settings
    assert planned() - EXEC == known
    assert not (set(checks.CHECKS) & set(checks.UNSEEN)) | (set(checks.CHECKS) & checks.MEANS)
    assert set(Limits.checks.__get__(object.__new__(Limits))()) == settings


MOUNTINFO = """\
20 19 0:1 / / rw,relatime - overlay overlay rw,lowerdir=/a
21 20 0:2 / /proc rw,nosuid - proc proc rw
22 21 0:3 /null /proc/kcore rw - devtmpfs udev rw
23 20 0:4 / /dev rw,nosuid master:7 - tmpfs tmpfs rw,size=65536k,mode=755
24 23 0:5 / /dev/sh\\040m ro shared:3 master:4 - tmpfs shm rw
"""


def test_what_is_seen_at_a_path() -> None:
    found = Mounts(MOUNTINFO)
    assert found.seen_at("/etc/passwd").id == 20
    assert found.mounted_on("/etc") is None
    assert found.mounted_on("/proc/kcore").fstype == "devtmpfs"
    assert found.seen_at("/proc/kcore2").id == 21
    assert found.mounted_on("/dev/sh m").optional == ("shared:3", "master:4")
    assert found.mounted_on("/").id == 20
    assert {mount.id for mount in found.seen()} == {20, 21, 22, 23, 24}


def test_a_mount_over_the_parent_hides_a_mask() -> None:
    """The line of the mask is still in mountinfo; what one sees at its path is another mount."""
    found = Mounts(MOUNTINFO + "25 21 0:9 / /proc rw - proc proc rw\n")
    assert found.mounted_on("/proc").id == 25
    assert found.mounted_on("/proc/kcore") is None
    assert found.seen_at("/proc/kcore").id == 25
    assert {mount.id for mount in found.seen()} == {20, 25, 23, 24}


def test_a_mount_over_the_root_hides_all() -> None:
    found = Mounts(MOUNTINFO + "26 20 0:10 / / rw - tmpfs none rw\n")
    assert found.seen_at("/proc/kcore").id == 26
    assert found.mounted_on("/proc") is None


def test_a_hundred_thousand_mounts_take_no_hour() -> None:
    lines = [MOUNTINFO, *(f"{n} 20 0:9 / /m{n} rw - tmpfs none rw\n" for n in range(100, 100_100))]
    begin = time.monotonic()
    found = Mounts("".join(lines))
    assert sum(1 for _ in found.seen()) == 100_005
    assert time.monotonic() - begin < 20 * proc.SLOW


def test_a_high_pile_of_mounts_takes_no_hour() -> None:
    lines = [MOUNTINFO, "100 20 0:9 / /m rw - tmpfs none rw\n"]
    lines += [f"{n} {n - 1} 0:9 / /m rw - tmpfs none rw\n" for n in range(101, 50_000)]
    begin = time.monotonic()
    found = Mounts("".join(lines))
    assert found.mounted_on("/m").id == 49_999
    assert {mount.place for mount in found.seen()} == {"/", "/proc", "/proc/kcore", "/dev", "/dev/sh m", "/m"}
    assert time.monotonic() - begin < 20 * proc.SLOW


def test_a_list_that_cannot_be_read() -> None:
    with pytest.raises(StateError):
        Mounts("one two three - four\n")


@pytest.mark.parametrize("text", ["", "nonsense\n", "1 1 0:1 / / rw - a b c\n", "1 2 0:1 / /x rw - a b c\n"])
def test_a_list_of_mounts_that_makes_no_tree(text: str) -> None:
    found = Mounts(text)
    found.seen_at("/x/y")
    assert list(found.seen()) is not None


def test_options_of_a_filesystem() -> None:
    [mount] = [m for m in Mounts(MOUNTINFO).all if m.place == "/dev"]
    assert mounts._data(mount, "tmpfs", ["size=64m", "mode=0755", "unknown=1"]) == []
    assert mounts._data(mount, "tmpfs", ["size=1m", "mode=0700"]) == [
        ("size=1m", "size=65536k"),
        ("mode=0700", "mode=755"),
    ]
    [mount] = [m for m in Mounts(MOUNTINFO).all if m.place == "/dev/sh m"]
    assert mounts._data(mount, "tmpfs", ["mode=1777"]) == []  # tmpfs does not show what it has by default
    assert mounts._data(mount, "tmpfs", ["mode=700", "size=1m"]) == [
        ("mode=700", "mode=1777"),
        ("size=1m", "size=unlimited"),
    ]


@pytest.mark.parametrize(
    ("rules", "result"),
    [
        (["allow a"], {("a", "*:*"): "rwm"}),
        (["allow a", "deny a"], {}),
        (["deny a", "allow c 1:3 r", "allow c 1:3 w"], {("c", "1:3"): "rw"}),
        (["deny a", "allow c 1:3 rwm", "deny c 1:3 w"], {("c", "1:3"): "rm"}),
        (["deny a", "allow c 1:3 rwm", "deny c *:* w"], {("c", "1:3"): "rwm"}),
    ],
)
def test_what_rules_of_devices_come_to(rules: list[str], result: dict[tuple[str, str], str]) -> None:
    assert devices.resulting(rules) == {key: frozenset(access) for key, access in result.items()}


@pytest.mark.parametrize(
    ("file", "asked", "found", "same"),
    [
        ("pids.max", "20", "20\n", True),
        ("pids.max", "20", "21\n", False),
        ("pids.max", "max", "max\n", True),
        ("memory.limit_in_bytes", "10000000", "9998336\n", True),  # whole pages
        ("memory.limit_in_bytes", "10000000", "20000000\n", False),
        ("memory.limit_in_bytes", "-1", "9223372036854771712\n", True),
        ("memory.max", "-1", "max\n", True),
        ("memory.swappiness", "60", "61\n", False),
        ("memory.oom_control", "1", "oom_kill_disable 1\nunder_oom 0\n", True),
        ("memory.oom_control", "1", "oom_kill_disable 0\n", False),
        ("cpuset.cpus", "0,1", "0-1\n", True),
        ("cpuset.cpus", "0", "0-1\n", False),
        ("cpu.max", "50000 100000", "50000 100000\n", True),
        ("cpu.max", "50000", "50000 100000\n", True),
        ("cpu.max", "max", "50000 100000\n", False),
        ("io.weight", "100", "default 100\n8:0 200\n", True),
        ("net_cls.classid", "0x100001", "1048577\n", True),
    ],
)
def test_values_of_limits(file: str, asked: str, found: str, same: bool) -> None:
    assert limits.same(file, asked, found) is same


def test_a_finding_is_one_line_that_moves_no_cursor() -> None:
    finding = Comparison("/mounts", "a mount on /x\n\x1b[2J", "drifted", asked=["a", "b"], found="\udcff" * 1000)
    assert "\x1b" not in finding.what
    assert "\n" not in finding.what
    assert finding.asked == "a, b"
    assert len(finding.found) < 1300
    finding.found.encode()
