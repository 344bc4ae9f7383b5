"""Docker swarm: two dockerds in two network namespaces, joined by a cable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from support import leaks, proc

from engines.daemon import Network, join
from engines.docker import IMAGE, Docker

ADDRESSES = ("10.99.0.1", "10.99.0.2")
PATIENCE = 60.0


@dataclass(frozen=True)
class Swarm:
    """Both nodes; all services are made by the manager."""

    manager: Docker
    worker: Docker

    def service(self, *words: str, flags: tuple[str, ...] = ()) -> None:
        """Make the service `web`. This kernel has no IPVS, so names are answered with all addresses in turn."""
        fixed = ("--name=web", "--detach", "--no-resolve-image", "--endpoint-mode=dnsrr", "--stop-grace-period=0s")
        self.manager("service", "create", *fixed, *flags, IMAGE, *(words or ("sleep", "1000")))

    def running(self) -> tuple[list[str], list[str]]:
        """The containers that run on the manager and on the worker."""
        manager, worker = (node("ps", "--quiet").stdout.split() for node in (self.manager, self.worker))
        return manager, worker

    def await_spread(self, on_manager: int, on_worker: int) -> tuple[list[str], list[str]]:
        """Wait until so many containers run on each node: which."""

        def spread() -> tuple[list[str], list[str]] | None:
            found = self.running()
            return found if [len(names) for names in found] == [on_manager, on_worker] else None

        return proc.wait_until(spread, f"{on_manager} containers on the manager, {on_worker} beyond", PATIENCE)


@pytest.fixture(scope="session")
def joined(candidate, folder: Path, archive: Path):
    """A swarm of two nodes."""
    networks = (Network(), Network())
    join(*networks, (f"{ADDRESSES[0]}/24", f"{ADDRESSES[1]}/24"))
    nodes = [Docker(folder / f"swarm-{candidate.name}-{n}", candidate, network=networks[n]) for n in range(2)]
    try:
        for node in nodes:
            node.start()
            node.load(archive)
        manager, worker = nodes
        manager("swarm", "init", f"--advertise-addr={ADDRESSES[0]}")
        token = manager("swarm", "join-token", "--quiet", "worker").stdout.strip()
        worker("swarm", "join", f"--advertise-addr={ADDRESSES[1]}", f"--token={token}", f"{ADDRESSES[0]}:2377")
        yield Swarm(manager, worker)
    finally:
        for node in reversed(nodes):
            node("swarm", "leave", "--force", check=None)
            node.stop()


@pytest.fixture
def swarm(joined: Swarm):
    """The swarm of the candidate; the service is removed after the test."""
    yield joined
    joined.manager("service", "rm", "web", check=None)
    joined.await_spread(0, 0)


def test_spread(swarm):
    """service: four replicas, two on each node"""
    swarm.service(flags=("--replicas=4",))
    swarm.await_spread(2, 2)


def test_rescheduled(swarm):
    """a container that was killed is replaced"""
    swarm.service(flags=("--replicas=2", "--restart-delay=0s"))
    _, before = swarm.await_spread(1, 1)
    swarm.worker("kill", before[0])

    def replaced() -> bool:
        here, there = swarm.running()
        return len(here + there) == 2 and before[0] not in there

    proc.wait_until(replaced, "another one runs", PATIENCE)


def test_scale(swarm):
    """service scale: up and down"""
    swarm.service(flags=("--replicas=2",))
    swarm.await_spread(1, 1)
    swarm.manager("service", "scale", "--detach", "web=6")
    swarm.await_spread(3, 3)
    swarm.manager("service", "scale", "--detach", "web=1")
    proc.wait_until(lambda: sum(len(names) for names in swarm.running()) == 1, "one is left", PATIENCE)


def test_drain(swarm):
    """node update: a drained node gives its containers to the other one"""
    swarm.service(flags=("--replicas=2",))
    swarm.await_spread(1, 1)
    worker = swarm.worker("info", "--format", "{{.Swarm.NodeID}}").stdout.strip()
    try:
        swarm.manager("node", "update", "--availability=drain", worker)
        swarm.await_spread(2, 0)
    finally:
        swarm.manager("node", "update", "--availability=active", worker)


def test_overlay(swarm):
    """overlay network: containers on different nodes know and reach each other"""
    swarm.manager("network", "create", "--driver=overlay", "wide")
    try:
        swarm.service(flags=("--replicas=2", "--network=wide"))
        (here,), (there,) = swarm.await_spread(1, 1)
        address = swarm.worker.inspect(there)["NetworkSettings"]["Networks"]["wide"]["IPAddress"]
        ping = ("ping", "-c", "1", "-W", "2", address)
        answered = "the other node's container answers"
        proc.wait_until(lambda: swarm.manager.exec(here, *ping, check=None).code == 0, answered, PATIENCE)
        # The nodes tell each other of names; that may take a moment longer.
        known = "the name has the other container's address, too"
        proc.wait_until(
            lambda: address in swarm.manager.exec(here, "nslookup", "web", check=None).stdout, known, PATIENCE
        )
    finally:
        swarm.manager("service", "rm", "web", check=None)
        swarm.await_spread(0, 0)
        remove = ("network", "rm", "wide")
        proc.wait_until(lambda: swarm.manager(*remove, check=None).code == 0, "the network is removed", PATIENCE)


def test_limits_and_secrets(swarm):
    """service: --limit-memory, --secret, --env"""
    swarm.manager("secret", "create", "key", "-", input="hidden")
    try:
        place = "--constraint=node.role==manager"
        swarm.service(flags=("--replicas=1", "--limit-memory=32m", "--secret=key", "--env=ANSWER=42", place))
        (name,), _ = swarm.await_spread(1, 0)
        assert swarm.manager.cgroup_file(name, "memory", "memory.limit_in_bytes") == str(32 << 20)
        script = "cat /run/secrets/key; echo $ANSWER"
        assert swarm.manager.exec(name, "sh", "-c", script).stdout == "hidden42\n"
    finally:
        swarm.manager("service", "rm", "web", check=None)
        swarm.await_spread(0, 0)
        swarm.manager("secret", "rm", "key", check=None)


def test_nothing_is_left(swarm):
    """a removed service leaves no cgroups"""
    swarm.service(flags=("--replicas=2",))
    here, there = swarm.await_spread(1, 1)
    swarm.manager("service", "rm", "web")
    swarm.await_spread(0, 0)

    def found() -> bool:
        return any(name in path for path in leaks.cgroups() for name in here + there)

    proc.wait_until(lambda: not found(), "no cgroup is left")
