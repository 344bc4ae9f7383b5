"""CVE-2021-43784 (runc to 1.0.2): lengths of more than 16 bits wrapped around in the message to init, so that the end
of a long field was read as other fields (namespaces above all). And bytes of 0, which end a string in C."""

from __future__ import annotations

import os

import pytest
from support.refusal import refused

LONG = 70_000
NUL_ALLOWED = """
from pyruntime.spec import check
replace("spec.check.require", lambda config: [])
replace("kernel.mount.text", lambda value: value.encode())
"""


def field(name: str, text: str) -> tuple[str, dict]:
    entry = {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}
    entry[name] = [text] if name == "options" else text
    return "/mounts/", entry


@pytest.mark.parametrize("name", ["destination", "source", "type", "options"])
def test_a_long_mount(container, host, name):
    """70 kB: an error, or a mount; never another namespace than the config's."""
    box = container()
    box.config["mounts"].append(field(name, "/" + "x" * LONG)[1])
    result = box.create(check=None)
    if result.code == 0:
        assert box.namespace("net") != os.readlink("/proc/self/ns/net")
    else:
        refused(box.runtime, result)


def test_a_long_map(container):
    """As in the report: so many lines that their length wraps around, and what comes behind looks like fields."""
    box = container()
    box.config["linux"]["namespaces"].append({"type": "user"})
    lines = [{"containerID": n, "hostID": 100_000 + n, "size": 1} for n in range(4_500)]
    box.config["linux"]["uidMappings"] = lines
    box.config["linux"]["gidMappings"] = lines
    result = box.create(check=None)
    refused(box.runtime, result)


@pytest.mark.parametrize("name", ["hostname", "cwd", "args", "env", "cgroupsPath", "maskedPaths", "annotations"])
def test_a_long_field(container, name):
    box = container(["/bin/sleep", "100"])
    text = "/" + "x" * LONG
    if name == "hostname":
        box.config["hostname"] = text
    elif name == "cgroupsPath":
        box.config["linux"]["cgroupsPath"] = text
    elif name == "maskedPaths":
        box.config["linux"]["maskedPaths"] = [text]
    elif name == "annotations":
        box.config["annotations"] = {"x": text}
    else:
        box.process[name] = {"cwd": text, "args": ["/bin/sleep", "100", text], "env": [f"X={text}"]}[name]
    result = box.create(check=None)
    if result.code == 0:
        assert box.namespace("net") != os.readlink("/proc/self/ns/net")
    else:
        refused(box.runtime, result)


NULS = ["destination", "source", "type", "options", "hostname", "cwd", "args", "namespace", "cgroupsPath"]


MORE = {"hostname": {"runc": "runc 1.1.5 sets the name with the 0 in it"}, "namespace": {"sometimes": True}}


def with_nul(box, name: str) -> None:
    text = "/data\0/else"
    if name in ("destination", "source", "type", "options"):
        box.config["mounts"].append(field(name, {"type": "tmpfs\0x", "options": "mode=755\0x"}.get(name, text))[1])
    elif name == "hostname":
        box.config["hostname"] = "box\0x"
    elif name == "namespace":
        box.config["linux"]["namespaces"].append({"type": "user", "path": "/proc/self/ns/user\0x"})
    elif name == "cgroupsPath":
        box.config["linux"]["cgroupsPath"] += "\0x"
    else:
        box.process[name] = {"cwd": "/\0x", "args": ["/bin/true\0x"]}[name]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.differs(crun="crun 1.8.1 cuts the text there", **MORE.get(name, {})))
        for name in NULS
    ],
)
def test_a_byte_of_0(container, name):
    box = container()
    with_nul(box, name)
    refused(box.runtime, box.create(check=None))


@pytest.mark.ours
def test_a_byte_of_0_that_is_not_looked_for_is_caught(container, weakened):
    """tmpfs\\0x would be tmpfs."""
    box = container(["/bin/sleep", "100"])
    box.runtime = weakened(NUL_ALLOWED)
    with_nul(box, "type")
    assert box.create(check=None).code == 0, str(box.created)
    assert "/data" in [one.target for one in box.mounts()]
