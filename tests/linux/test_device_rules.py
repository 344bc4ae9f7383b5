"""Device rules of cgroup v1, whose controller knows no order: what the kernel then does, rule by rule.

Opening a node asks the controller before it asks whether there is a driver: ENXIO means allowed, EPERM denied.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from support import kernel, leaks
from support.config import add_mount

from pyruntime.errors import ConfigError
from pyruntime.features.cgroups import devices

TOP = Path("/sys/fs/cgroup/devices")
MAJORS, MINORS = (60, 61, 62), (3, 5, 9)  # without a driver; 62 and 9 are named by no rule
FLAGS = {"r": os.O_RDONLY, "w": os.O_WRONLY}
DENIED, OPEN = 1, 6  # EPERM, ENXIO

needs_v1 = pytest.mark.skipif(not (TOP / "devices.list").exists(), reason="no v1 devices hierarchy on this host")


class Place:
    """A devices cgroup, and nodes to try."""

    def __init__(self, cgroup: Path, nodes: Path) -> None:
        self.cgroup = cgroup
        self.nodes = nodes
        for kind, mode in (("b", 0o060600), ("c", 0o020600)):
            for major in MAJORS:
                for minor in MINORS:
                    os.mknod(nodes / f"{kind}-{major}-{minor}", mode, os.makedev(major, minor))

    def set(self, rules: list[str]) -> None:
        """Write rules as they are."""
        for rule in rules:
            word, _, line = rule.partition(" ")
            (self.cgroup / f"devices.{word}").write_text(line)

    def allowed(self) -> dict[tuple[str, int, int], str]:
        """What a process in the cgroup may do with each node."""
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                (self.cgroup / "cgroup.procs").write_text("0")
                found = [[*key, self._try(*key)] for key in KEYS]
                os.write(write_end, json.dumps(found).encode())
            finally:
                os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            text = pipe.read()
        os.waitpid(pid, 0)
        return {(kind, major, minor): access for kind, major, minor, access in json.loads(text)}

    def _try(self, kind: str, major: int, minor: int) -> str:
        found = ""
        for letter, flags in FLAGS.items():
            try:
                os.open(self.nodes / f"{kind}-{major}-{minor}", flags)
            except OSError as error:
                assert error.errno in (DENIED, OPEN), error
                found += letter if error.errno == OPEN else ""
        path = self.nodes / "new"
        try:
            os.mknod(path, 0o060600 if kind == "b" else 0o020600, os.makedev(major, minor))
        except PermissionError:
            return found
        path.unlink()
        return found + "m"


KEYS = [(kind, major, minor) for kind in "bc" for major in MAJORS for minor in MINORS]


@pytest.fixture
def place(tmp_path: Path, machine: None) -> Any:
    nodes = tmp_path / "nodes"
    nodes.mkdir()
    kernel.mount("nodes", str(nodes), "tmpfs", 0)
    cgroup = TOP / f"{leaks.PREFIX}-rules"
    cgroup.mkdir()
    yield Place(cgroup, nodes)
    cgroup.rmdir()
    kernel.umount(str(nodes))


def last_that_fits(rules: list[str], kind: str, major: int, minor: int) -> str:
    """What the rules of config.json say of a device."""
    allowed: set[str] = set()
    for rule in rules:
        word, which, *rest = rule.split()
        access = set("rwm")
        if which != "a":
            numbers, letters = rest
            wanted_major, _, wanted_minor = numbers.partition(":")
            access = set(letters)
            if which != kind or wanted_major not in ("*", str(major)) or wanted_minor not in ("*", str(minor)):
                continue
        allowed = allowed | access if word == "allow" else allowed - access
    return "".join(letter for letter in "rwm" if letter in allowed)


def entry(source: random.Random) -> dict[str, Any]:
    """A rule as config.json may have it."""
    found: dict[str, Any] = {"allow": source.random() < 0.5}
    found["access"] = "".join(source.sample("rwm", source.randint(1, 3)))
    if source.random() < 0.9:
        found["type"] = source.choice("abc")
    if source.random() < 0.7:
        found["major"] = source.choice((-1, 60, 60, 61))
    if source.random() < 0.7:
        found["minor"] = source.choice((3, 3, 5))
    return found


@needs_v1
@pytest.mark.ours
def test_the_kernel_does_what_the_last_rule_says(place: Place) -> None:
    """Lists made by chance: each is in force as it is written, or refused."""
    source = random.Random(20)
    accepted = refused = 0
    for _ in range(400):
        entries = [entry(source) for _ in range(source.randint(1, 5))]
        try:
            lines = devices.v1_rules(entries)
        except ConfigError as error:
            assert "cgroup v1 cannot express" in str(error)
            refused += 1
            continue
        accepted += 1
        place.set(lines)
        rules = devices.rules(entries)
        assert place.allowed() == {key: last_that_fits(rules, *key) for key in KEYS}, (entries, lines)
    assert accepted > 200
    assert refused > 10


OPENS = """
mknod -m 666 /tmp/fuse c 10 229; mknod -m 666 /tmp/other c 60 3
for path in /tmp/fuse /tmp/other /dev/null; do
    case $( (: <$path) 2>&1 ) in
        *permitted*) echo ${path##*/} denied;;
        *) echo ${path##*/} allowed;;
    esac
done
"""


def opened(container: Any, rules: list[dict[str, Any]]) -> Any:
    one = container(sh=OPENS)
    one.config["linux"]["resources"] = {"devices": rules}
    add_mount(one.config, "/tmp", "tmpfs", "tmpfs", ["mode=1777"])
    for kind in ("bounding", "effective", "permitted"):
        one.process["capabilities"][kind] = ["CAP_MKNOD"]
    return one


FUSE = {"type": "c", "major": 10, "minor": 229}
RULES = [
    ([{"allow": True, "type": "c", "access": "rwm"}, {"allow": False, **FUSE, "access": "rwm"}], "other null"),
    ([{"allow": True, "access": "rwm"}, {"allow": False, **FUSE, "access": "rwm"}], "other null"),
    ([{"allow": False, "access": "rwm"}, {"allow": True, "major": 10, "access": "r"}], "fuse null"),
    ([{"allow": True, "access": "rwm"}, {"allow": False, "access": "r"}], "null"),
]


@pytest.mark.parametrize(("rules", "expected"), RULES)
@pytest.mark.differs(
    runc="runc refuses the first, and takes a rule without a type for all devices",
    crun="crun writes them as they are",
    sometimes=True,
)
def test_rules_below_wildcards(container: Any, rules: list[dict[str, Any]], expected: str) -> None:
    """On v1 and on v2."""
    one = opened(container, rules)
    lines = [line.split() for line in one.run().stdout.splitlines()]
    assert " ".join(name for name, word in lines if word == "allowed") == expected


@needs_v1
@pytest.mark.ours
def test_rules_that_v1_cannot_express_are_refused(container: Any) -> None:
    one = opened(
        container,
        [
            {"allow": True, "type": "c", "major": 10, "access": "rwm"},
            {"allow": False, **FUSE, "access": "rw"},
        ],
    )
    line = one.create(check=1).stderr
    assert "config.json: /linux/resources/devices: cgroup v1 cannot express these rules" in line
    assert "c 10:229 allows less than c 10:*" in line


# The host is without the devices controller for this command.
WITHOUT = ["unshare", "-m", "sh", "-c", 'for top in $0; do umount "$top" || exit 99; done; exec "$@"']


@pytest.mark.ours
@pytest.mark.parametrize("rules", [[], [{"allow": False, "access": "rwm"}]], ids=["none", "some"])
def test_no_cgroups_at_all(container: Any, rules: list[dict[str, Any]]) -> None:
    one = opened(container, rules)
    tops = " ".join(reversed(leaks.hierarchies()))
    if "cpu,cpuacct" in tops:
        pytest.skip("cgroup hierarchies with names of their own on this host")
    result = one.run(wrap=[*WITHOUT, tops], check=int(bool(rules)))
    if rules:
        assert "config.json: /linux/resources/devices: this host has no cgroup controller devices" in result.stderr
    else:
        assert "null allowed" in result.stdout


@needs_v1
@pytest.mark.ours
def test_only_the_cgroup2_tree(container: Any) -> None:
    """A program in the cgroup2 tree of a hybrid host does what the missing controller would."""
    if "/sys/fs/cgroup/unified" not in leaks.hierarchies():
        pytest.skip("no cgroup2 tree beside the v1 hierarchies")
    one = opened(container, RULES[2][0])
    result = one.run(wrap=[*WITHOUT, str(TOP)])
    assert result.stdout.splitlines() == ["fuse allowed", "other denied", "null allowed"], result


def _open_node(one: Any) -> str:
    """What a process of the container gets for the node: ENXIO, as there is no driver, or EPERM."""
    return one.runtime.run("exec", one.id, "cat", "/dev/node", check=None).stderr


@pytest.mark.ours
def test_rules_are_added_and_removed_while_it_runs(container: Any) -> None:
    one = container(["sleep", "100"])
    one.config["linux"]["devices"] = [{"path": "/dev/node", "type": "c", "major": 60, "minor": 3}]
    one.config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    one.create()
    one.start()
    assert "not permitted" in _open_node(one)
    one.runtime.run("update", "--device-add", "c 60:3 rw", one.id)
    assert "No such device" in _open_node(one)
    assert one.runtime.run("audit", "--drift", one.id).code == 0
    one.runtime.run("update", "--device-remove", "c 60:3 rw", one.id)
    assert "not permitted" in _open_node(one)
    one.runtime.run("update", "--device-add", "c 60:* rwm", one.id)
    assert "No such device" in _open_node(one)
    failed = one.runtime.run("update", "--device-remove", "c 1:3 rw", one.id, check=None)
    assert "default device" in failed.stderr
    failed = one.runtime.run("update", "--device-add", "c 60", one.id, check=None)
    assert "is not a device rule" in failed.stderr
    assert "No such device" in _open_node(one)
    one.runtime.run("update", "--device-remove", "c 60:* rwm", one.id)
    assert "not permitted" in _open_node(one)
    recorded = json.loads((one.runtime.root / one.id / "config.json").read_text())
    assert recorded["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
