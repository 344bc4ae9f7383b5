"""Which way each namespace is entered: the one clone, around it, before it, or by init."""

from __future__ import annotations

import os
from typing import Any

import pytest
from support.planning import config, named, request, with_namespaces

from pyruntime.errors import ConfigError
from pyruntime.features.namespaces import namespaces
from pyruntime.features.namespaces.namespaces import Namespaces, arrange
from pyruntime.kernel import constants
from pyruntime.kernel.constants import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)


def arranged(*entries: dict[str, str]) -> Namespaces:
    return arrange(request(config(linux={"namespaces": list(entries)})))


def entry(kind: str, path: str = "") -> dict[str, str]:
    return {"type": kind, "path": path} if path else {"type": kind}


def joined_by_init(*entries: dict[str, str]) -> list[str]:
    return [step.args["kind"] for step in named(config(linux={"namespaces": list(entries)}), "namespaces.join")]


def test_none() -> None:
    found = arranged()
    assert (found.new, found.around, found.user) == (0, [], None)


def test_new_ones_take_one_clone() -> None:
    found = arranged(*(entry(kind) for kind in ("pid", "network", "ipc", "uts", "mount", "user", "cgroup")))
    wanted = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWUSER
    assert (found.new, found.around, found.user) == (wanted, [], None)


def test_the_cgroup_namespace_is_made_by_init() -> None:
    """Its root is the cgroup that init is in when it makes it."""
    mine = with_namespaces("pid", "cgroup")
    (step,) = named(mine, "namespaces.make_cgroup_namespace")
    assert step.pointer == "/linux/namespaces/1"


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "mount", "cgroup"])
def test_by_path_init_joins(kind: str) -> None:
    found = arranged(entry("pid"), entry(kind, "/n"))
    assert (found.new, found.around) == (CLONE_NEWPID, [])
    assert joined_by_init(entry("pid"), entry(kind, "/n")) == [kind]


@pytest.mark.parametrize("kind", ["pid", "time"])
def test_what_only_children_enter_is_joined_around_the_clone(kind: str) -> None:
    found = arranged(entry("mount"), entry(kind, "/n"))
    assert (found.new, found.around) == (CLONE_NEWNS, [("/linux/namespaces/1", kind, "/n")])
    assert joined_by_init(entry("mount"), entry(kind, "/n")) == []


def test_a_new_time_namespace_is_made_around_the_clone() -> None:
    found = arranged(entry("time"))
    assert (found.new, found.around) == (0, [("/linux/namespaces/0", "time", "")])


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup"])
def test_a_new_user_namespace_has_no_rights_over_the_others(kind: str) -> None:
    found = arrange(request(config(linux={"namespaces": [entry("user"), entry(kind, "/n")]})))
    assert found.new == CLONE_NEWUSER
    assert found.around == [("/linux/namespaces/1", kind, "/n")]


def test_a_user_namespace_by_path_owns_the_new_ones() -> None:
    found = arranged(entry("user", "/u"), entry("network"), entry("ipc", "/i"))
    assert found.user == ("/linux/namespaces/0", "user", "/u")
    assert (found.new, found.around) == (CLONE_NEWNET, [("/linux/namespaces/2", "ipc", "/i")])
    assert joined_by_init(entry("user", "/u"), entry("network"), entry("ipc", "/i")) == []
    assert joined_by_init(entry("user", "/u"), entry("mount", "/m")) == ["mount"]


def test_every_entry_goes_one_way() -> None:
    """Whatever is combined: an entry is made by the clone, joined around it, by init, or is the user's; once."""
    for user in ([], [entry("user")], [entry("user", "/u")]):
        for kind in namespaces.KINDS:
            if kind == "user":
                continue
            for path in ("", "/n"):
                entries = [*user, entry(kind, path)]
                found = arranged(*entries)
                mine: dict[str, Any] = config(
                    linux={
                        "namespaces": entries,
                        "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
                        "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
                    }
                )
                ways = [
                    bool(found.new & namespaces.KINDS[kind][0]),
                    kind in [one for _, one, _ in found.around],
                    kind in [step.args["kind"] for step in named(mine, "namespaces.join")],
                    bool(named(mine, "namespaces.make_cgroup_namespace")),
                ]
                assert ways.count(True) == 1, (entries, ways)


@pytest.mark.parametrize("kind", namespaces.KINDS)
def test_opening_one(kind: str) -> None:
    flag, name = namespaces.KINDS[kind]
    assert flag in vars(constants).values()
    os.close(namespaces.open_namespace(kind, f"/proc/self/ns/{name}"))


def test_opening_one_of_another_kind() -> None:
    with pytest.raises(ConfigError, match="is not a network namespace but one of kind uts"):
        namespaces.open_namespace("network", "/proc/self/ns/uts")


@pytest.mark.parametrize("path", ["/dev/null", "/etc/passwd", "/proc/self/status", "/"])
def test_opening_what_is_none(path: str) -> None:
    with pytest.raises(ConfigError, match="is not a network namespace"):
        namespaces.open_namespace("network", path)


def test_opening_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    for path in ("/dev/null", "/proc/self/ns/uts"):
        with pytest.raises(ConfigError):
            namespaces.open_namespace("network", path)
    with pytest.raises(FileNotFoundError):
        namespaces.open_namespace("network", "/no/such")
    assert os.listdir("/proc/self/fd") == before
