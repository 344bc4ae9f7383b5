"""The plan of the annotation org.pyruntime.landlock: which version of Landlock a document needs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.planning import config, request

from pyruntime.features import registry
from pyruntime.features.security import landlock
from pyruntime.plan.step import BECOME

DATA = {"path": "/data", "access": ["read"]}


def step(document: dict[str, Any], **process: Any) -> Any:
    mine = config()
    mine["process"] |= {"noNewPrivileges": True} | process
    mine["annotations"] = {landlock.ANNOTATION: json.dumps(document)}
    asked = request(mine)
    found = registry.build(asked).steps[BECOME]
    return next(one for one in found if one.name == "landlock.restrict"), asked.warnings


@pytest.mark.parametrize(
    ("document", "needs"),
    [
        ({"paths": [DATA]}, 3),
        ({"paths": []}, 3),
        ({"paths": [DATA, {"path": "/dev", "access": ["ioctl"]}]}, 5),
        ({"tcp": {"bind": []}}, 4),
        ({"paths": [DATA], "tcp": {"connect": [443]}}, 4),
        ({"scope": ["signal"]}, 6),
        ({"scope": ["signal"], "bestEffort": True}, 0),
    ],
)
def test_the_version_that_is_needed(document: dict[str, Any], needs: int) -> None:
    found, warnings = step(document)
    assert found.args["needs"] == needs
    assert not warnings


def test_new_privileges_are_given_up_with_a_warning() -> None:
    _, warnings = step({"scope": ["signal"]}, noNewPrivileges=False)
    assert any("no_new_privs is set" in one for one in warnings)


def test_no_access_allows_device_nodes() -> None:
    for rights in landlock.ACCESS.values():
        assert not rights & (landlock.LANDLOCK_ACCESS_FS_MAKE_CHAR | landlock.LANDLOCK_ACCESS_FS_MAKE_BLOCK)


def test_a_word_that_is_repeated_allows_nothing_more() -> None:
    found, _ = step({"paths": [{"path": "/data", "access": ["execute", "execute"]}], "scope": ["signal", "signal"]})
    assert found.args["paths"] == [("/data", ["execute"])]
    assert found.args["scope"] == ["signal"]
    assert landlock._union([1, 1, 2]) == 3


def test_an_older_version_gets_what_it_knows() -> None:
    every = sum(set(landlock.ACCESS.values()))
    assert landlock._known(every, 5) == every
    assert landlock._known(every, 4) == every & ~landlock.ACCESS["ioctl"]
    assert not landlock._known(every, 2) & landlock.LANDLOCK_ACCESS_FS_TRUNCATE
    assert not landlock._known(every, 1) & landlock.LANDLOCK_ACCESS_FS_REFER
