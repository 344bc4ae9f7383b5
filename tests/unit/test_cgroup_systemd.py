"""What systemd is told: units, slices, properties of limits and of annotations."""

from __future__ import annotations

from typing import Any

import pytest

from pyruntime.cgroupfs.layout import Hierarchy, Layout
from pyruntime.errors import ConfigError
from pyruntime.features.cgroups import systemd
from pyruntime.features.cgroups.systemd_properties import (
    INFINITY,
    from_annotations,
    from_resources,
    mask,
    quota_per_second,
)
from pyruntime.plan.request import Request

OWN = "/user.slice/user-7.slice/user@7.service/app.slice/engine.service"
V2 = Layout([Hierarchy("unified", ("memory",), "/sys/fs/cgroup", OWN)])


def request(path: str, *, rootless: bool = False) -> Request:
    config = {"linux": {"cgroupsPath": path}}
    return Request(config, id="box", bundle="/b", layout=V2, rootless=rootless, systemd_cgroup=True)


@pytest.mark.parametrize(
    ("path", "slice", "unit"),
    [
        ("machine-web.slice:libpod:abc", "machine-web.slice", "libpod-abc.scope"),
        ("system.slice::abc", "system.slice", "abc.scope"),
        (":box:web", "system.slice", "box-web.scope"),
        ("", "system.slice", "pyruntime-box.scope"),
    ],
)
def test_unit(path: str, slice: str, unit: str) -> None:
    assert systemd.unit_of(request(path)) == (slice, unit)


@pytest.mark.parametrize(
    "path", ["/a/b", "a:b", "a.slice:b:", "a.slice:../b:c", "noslice:a:b", "a.slice:b:c:d", "a.slice::b.slice"]
)
def test_bad_path(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        systemd.unit_of(request(path))
    assert caught.value.pointer == "/linux/cgroupsPath"


def test_slices() -> None:
    assert systemd.expand("-.slice") == ""
    assert systemd.expand("system.slice") == "/system.slice"
    assert systemd.expand("a-b-c.slice") == "/a.slice/a-b.slice/a-b-c.slice"
    with pytest.raises(ConfigError):
        systemd.expand("a--b.slice")


def test_directories() -> None:
    expected = "/sys/fs/cgroup/a.slice/a-b.slice/p-n.scope"
    assert systemd.directories_of(request("a-b.slice:p:n")) == {"unified": expected}
    expected = "/sys/fs/cgroup/user.slice/user-7.slice/user@7.service/user.slice/pyruntime-box.scope"
    assert systemd.directories_of(request("", rootless=True)) == {"unified": expected}


RESOURCES: dict[str, Any] = {
    "memory": {"limit": 100, "swap": 150, "reservation": 50},
    "cpu": {"shares": 1024, "quota": 50000, "period": 200000, "cpus": "0-1,9", "mems": "0"},
    "pids": {"limit": -1},
    "blockIO": {"weight": 1000},
    "unified": {"memory.high": "70", "memory.min": "max", "io.max": "8:0 rbps=1"},
}


def test_properties_of_v2() -> None:
    assert from_resources(RESOURCES, v2=True) == [
        ("MemoryMax", "t", 100),
        ("MemoryLow", "t", 50),
        ("MemorySwapMax", "t", 50),
        ("CPUWeight", "t", 100),
        ("CPUQuotaPeriodUSec", "t", 200000),
        ("CPUQuotaPerSecUSec", "t", 250000),
        ("AllowedCPUs", "ay", [0b11, 0b10]),
        ("AllowedMemoryNodes", "ay", [1]),
        ("TasksMax", "t", INFINITY),
        ("IOWeight", "t", 10000),
        ("MemoryHigh", "t", 70),
        ("MemoryMin", "t", INFINITY),
    ]


def test_properties_of_v1() -> None:
    assert from_resources(RESOURCES, v2=False) == [
        ("MemoryLimit", "t", 100),
        ("CPUShares", "t", 1024),
        ("CPUQuotaPeriodUSec", "t", 200000),
        ("CPUQuotaPerSecUSec", "t", 250000),
        ("TasksMax", "t", INFINITY),
        ("BlockIOWeight", "t", 1000),
    ]


def test_zeros_ask_for_nothing() -> None:
    assert from_resources({"memory": {"limit": 0}, "cpu": {"shares": 0, "quota": 0}, "blockIO": {}}, v2=True) == []
    assert from_resources({"pids": {"limit": 0}}, v2=True) == [("TasksMax", "t", 1)]


def test_quota() -> None:
    assert quota_per_second(-1, 100000) == -1
    assert quota_per_second(10000, 0) == 100000
    assert quota_per_second(33333, 100000) == 340000


def test_mask() -> None:
    assert mask("0") == [1]
    assert mask("8-10") == [0, 0b111]
    with pytest.raises(ConfigError):
        mask("a-b")


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("TimeoutStopUSec", "uint64 5000", ("TimeoutStopUSec", "t", 5000)),
        ("TimeoutStopSec", "1.5", ("TimeoutStopUSec", "t", 1500000)),
        ("CollectMode", "'inactive'", ("CollectMode", "s", "inactive")),
        ("Before", "['a.service', \"b, c\"]", ("Before", "as", ["a.service", "b, c"])),
        ("Delegate", "false", ("Delegate", "b", False)),
        ("X", "-5", ("X", "i", -5)),
        ("X", "double 3", ("X", "d", 3.0)),
    ],
)
def test_annotations(name: str, text: str, found: tuple[str, str, object]) -> None:
    assert from_annotations({f"org.systemd.property.{name}": text, "other": "x"}) == [found]


@pytest.mark.parametrize(
    ("name", "text"), [("Bad-Name", "5"), ("X", "word"), ("X", "'open"), ("X", "[1, 'a']"), ("XSec", "'a'"), ("X", "")]
)
def test_bad_annotations(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_annotations({f"org.systemd.property.{name}": text})
    assert caught.value.pointer == f"/annotations/org.systemd.property.{name}"
