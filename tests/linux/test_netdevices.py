"""The network namespace: loopback, and devices of the host that move in (runtime-spec config-linux.md,
"Network devices")."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from support import config, refusal

pytestmark = pytest.mark.skipif(shutil.which("ip") is None, reason="needs iproute2 to make devices")
OURS = pytest.mark.differs(runc="1.1 knows no netDevices", crun="1.8 knows no netDevices")


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def device() -> Iterator[str]:
    """One end of a veth pair, with addresses; the other end stays on the host."""
    name, peer = f"pyrt{os.getpid() % 100000}a", f"pyrt{os.getpid() % 100000}b"
    ip("link", "add", name, "type", "veth", "peer", "name", peer)
    try:
        ip("link", "set", name, "mtu", "1400", "address", "02:00:00:00:ab:cd")
        ip("addr", "add", "10.213.7.1/24", "brd", "+", "dev", name)
        ip("addr", "add", "fd12:3456::7/64", "dev", name, "nodad")
        ip("link", "set", name, "up")
        ip("link", "set", peer, "up")
        yield name
    finally:
        subprocess.run(["ip", "link", "del", peer], check=False, capture_output=True)


def test_loopback_is_up(container) -> None:
    made = container(sh="ip addr show lo")
    output = made.run().stdout
    assert "LOOPBACK,UP" in output and "127.0.0.1/8" in output


def inside(made) -> dict[str, dict]:
    """The network devices of a created container."""
    found = subprocess.run(
        ["nsenter", f"--net=/proc/{made.pid}/ns/net", "ip", "-json", "addr"], check=True, capture_output=True
    )
    return {one["ifname"]: one for one in json.loads(found.stdout)}


def addresses(link: dict) -> set[tuple[str, int, str]]:
    return {(a["local"], a["prefixlen"], a["scope"]) for a in link["addr_info"] if a["scope"] == "global"}


@OURS
@pytest.mark.parametrize("renamed", [True, False])
def test_a_device_moves_with_its_addresses(container, device: str, renamed: bool) -> None:
    made = container(["/bin/sleep", "100"])
    made.config["linux"]["netDevices"] = {device: {"name": "eth7"} if renamed else {}}
    made.create()
    links = inside(made)
    link = links["eth7" if renamed else device]
    assert addresses(link) == {("10.213.7.1", 24, "global"), ("fd12:3456::7", 64, "global")}
    assert link["mtu"] == 1400 and link["address"] == "02:00:00:00:ab:cd"
    assert "UP" in link["flags"]
    assert [a["broadcast"] for a in link["addr_info"] if "broadcast" in a] == ["10.213.7.255"]
    assert device not in ip("-br", "link")


@OURS
def test_in_a_user_namespace(container, device: str) -> None:
    made = container(["/bin/sleep", "100"])
    config.map_ids(made.config)
    made.bundle.chown(200000, 200000)
    made.config["linux"]["netDevices"] = {device: {"name": "eth7"}}
    made.create()
    assert ("10.213.7.1", 24, "global") in addresses(inside(made)["eth7"])


@OURS
def test_into_a_namespace_that_is_joined(container, device: str) -> None:
    with subprocess.Popen(["unshare", "-n", "sleep", "100"]) as other:
        try:
            path = f"/proc/{other.pid}/ns/net"
            while os.readlink(path) == os.readlink("/proc/self/ns/net"):
                pass
            made = container(["/bin/sleep", "100"])
            config.set_namespace(made.config, "network", path)
            made.config["linux"]["netDevices"] = {device: {"name": "eth7"}}
            made.create()
            assert "eth7" in inside(made)
            made.delete("--force")
        finally:
            other.kill()


@pytest.mark.ours
def test_a_device_that_is_not_there(container) -> None:
    made = container(["/bin/true"])
    made.config["linux"]["netDevices"] = {"nosuchdev": {"name": "eth7"}}
    refusal.create_refused(made, "/linux/netDevices/nosuchdev", "no such device")


@pytest.mark.ours
def test_a_name_that_is_taken(container, device: str) -> None:
    made = container(["/bin/true"])
    made.config["linux"]["netDevices"] = {device: {"name": "lo"}}
    refusal.create_refused(made, f"/linux/netDevices/{device}", "called lo")
    assert device in ip("-br", "link")


@pytest.mark.ours
def test_without_a_network_namespace(container) -> None:
    made = container(["/bin/true"])
    config.drop_namespace(made.config, "network")
    made.config["linux"]["netDevices"] = {"eth0": {"name": "eth7"}}
    refusal.create_refused(made, "/linux/netDevices", "network namespace")
